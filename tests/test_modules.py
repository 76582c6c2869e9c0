"""pyln.LayerNorm against torch.nn.LayerNorm, and the Stanford course's signatures."""

import numpy as np
import pytest
import torch

import pyln


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arguments", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1}])
@pytest.mark.parametrize("shape", [6, (5, 6)])
def test_parity_with_torch(shape, arguments, dtype):
    rng = np.random.default_rng(0)
    mine = pyln.LayerNorm(shape, dtype=dtype, **arguments)
    theirs = torch.nn.LayerNorm(shape, dtype=getattr(torch, dtype), **arguments)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
    mine.load_state_dict(theirs.state_dict())
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for _ in range(2):  # gradients of parameters add up
        x, dy = (rng.standard_normal((3, 5, 6)).astype(dtype) for _ in range(2))
        leaf = torch.from_numpy(x).requires_grad_()
        y = theirs(leaf)
        y.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(mine(x), y.detach().numpy(), atol=tolerance)
        np.testing.assert_allclose(mine.backward(dy), leaf.grad.numpy(), atol=tolerance)
    for name in ("weight", "bias"):
        parameter, grad = getattr(theirs, name), getattr(mine, name + "_grad")
        assert (parameter is None) == (getattr(mine, name) is None) == (grad is None)
        if parameter is not None:
            np.testing.assert_allclose(grad, parameter.grad.numpy(), atol=tolerance)
    mine.zero_grad()
    assert mine.weight_grad is None and mine.bias_grad is None


def test_as_many_dimensions_as_numpy_has():
    """The statistics that a layer keeps have no dimension of their own."""
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 6), dtype="f4")
    most = (1,) * 62 + x.shape
    flat, deep = pyln.LayerNorm(6), pyln.LayerNorm(6)
    np.testing.assert_array_equal(deep(x.reshape(most)), flat(x).reshape(most), strict=True)
    np.testing.assert_array_equal(deep.backward(dy.reshape(most)), flat.backward(dy).reshape(most), strict=True)


def test_bad_use():
    with pytest.raises(TypeError, match="dtype: expected float32, float64, float16 or bfloat16, got int64"):
        pyln.LayerNorm(3, dtype="int64")
    with pytest.raises(ValueError, match="normalized_shape: expected at least one axis"):
        pyln.LayerNorm(())
    layer = pyln.LayerNorm(3)
    with pytest.raises(RuntimeError, match="call the layer on an input first"):
        layer.backward(np.zeros(3, "f4"))
    with pytest.raises(TypeError, match="input: expected float32"):
        layer(np.zeros(3))
    x = np.zeros((2, 3), "f4")
    with pytest.raises(ValueError, match="out: overlaps input"):
        layer(x, out=x)
    before = layer.state_dict()
    for state, message in [
        ({"weight": np.zeros(3)}, r"missing \['bias'\]"),
        ({"weight": np.zeros(3), "bias": np.zeros(3), "scale": 1}, r"unexpected \['scale'\]"),
        ({"weight": np.full(3, 9), "bias": np.zeros(4)}, r"state_dict\['bias'\]: expected shape \[3\], got \[4\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer.load_state_dict(state)
    with pytest.raises(TypeError, match="state_dict: expected a mapping of names to arrays, got list"):
        layer.load_state_dict([np.zeros(3)])
    with pytest.raises(TypeError, match=r"state_dict\['bias'\]: expected numbers, got <U1"):
        layer.load_state_dict({"weight": np.full(3, 9), "bias": np.array(["a", "b", "c"])})
    assert all(np.array_equal(layer.state_dict()[k], before[k]) for k in before)


def test_out():
    layer, x, y = pyln.LayerNorm(3), np.arange(6, dtype="f4").reshape(2, 3), np.zeros((2, 3), "f4")
    assert layer(x, out=y) is y and np.array_equal(y, layer(x))


def test_cs231n_refuses_what_is_not_its_own():
    x, row = np.ones((2, 3)), np.ones(3)
    with pytest.raises(TypeError, match="ln_param: expected a mapping, got float"):
        pyln.cs231n.layernorm_forward(x, row, row, 1e-5)
    with pytest.raises(TypeError, match="cache: expected what layernorm_forward returned, got"):
        pyln.cs231n.layernorm_backward(x, (x, row))


def test_cs231n():
    """The course's own check: means of 5 and deviations of 3 after gamma = 3, beta = 5; gradients by differences."""
    rng = np.random.default_rng(231)
    x, dout = rng.standard_normal((4, 60)), rng.standard_normal((4, 60))
    out, _ = pyln.cs231n.layernorm_forward(x, np.full(60, 3.0), np.full(60, 5.0), {})
    np.testing.assert_allclose(out.mean(axis=1), 5)
    np.testing.assert_allclose(out.std(axis=1), 3, rtol=1e-4)

    gamma, beta = rng.standard_normal(60), rng.standard_normal(60)
    out, cache = pyln.cs231n.layernorm_forward(x, gamma, beta, {"eps": 0.1})
    t = [torch.from_numpy(a).requires_grad_() for a in (x, gamma, beta)]
    y = torch.nn.functional.layer_norm(t[0], (60,), t[1], t[2], 0.1)
    y.backward(torch.from_numpy(dout))
    np.testing.assert_allclose(out, y.detach().numpy(), atol=1e-13)
    for got, leaf in zip(pyln.cs231n.layernorm_backward(dout, cache), t, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), atol=1e-12)
