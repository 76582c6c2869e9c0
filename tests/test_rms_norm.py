"""pyln.rms_norm and its backward: PyTorch's semantics, layouts, and the rows at the edge. numerics/test_accuracy.py has the errors."""

import numpy as np
import pytest
import reference
import torch
from reference import LONG

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator


@pytest.mark.parametrize(
    ("shape", "normalized_shape"), [((7,), 7), ((3, 5), (5,)), ((2, 3, 4), [3, 4]), ((4, 25, 128), 128)]
)
@pytest.mark.parametrize("eps", [None, 1e-3])
def test_values_are_pytorchs(
    rng: Generator, dtype: np.dtype, shape: tuple[int, ...], normalized_shape: object, eps: float | None
) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    row = tuple(np.atleast_1d(normalized_shape))
    weight = rng.standard_normal(row).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    x_torch = torch.from_numpy(x).requires_grad_()
    weight_torch = torch.from_numpy(weight).requires_grad_()
    expected = torch.nn.functional.rms_norm(x_torch, [int(n) for n in row], weight_torch, eps)
    expected.backward(torch.from_numpy(dy))
    tolerance = {"rtol": 20 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}
    y, rstd = pyln.rms_norm(x, normalized_shape, weight, eps, return_stats=True)
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    dx, dweight = pyln.rms_norm_backward(dy, x, normalized_shape, rstd, weight)
    np.testing.assert_allclose(dx, x_torch.grad.numpy(), **tolerance)
    np.testing.assert_allclose(dweight, weight_torch.grad.numpy(), tolerance["rtol"], 5 * tolerance["atol"])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_epsilon_of_16_bits_is_that_of_the_arithmetic(rng: Generator, half: str) -> None:
    x = torch.from_numpy(3e-4 * rng.standard_normal((4, 24))).to(getattr(torch, half))  # squares near 2^-23
    expected = torch.nn.functional.rms_norm(x, (24,)).float().numpy()
    np.testing.assert_allclose(pyln.rms_norm(x, 24).astype(np.float32), expected, rtol=0.01)


@pytest.mark.parametrize("exponent", [-1, -0.6, 0.6, 1])
def test_squares_that_vanish_or_overflow(rng: Generator, dtype: np.dtype, exponent: float) -> None:
    scale = np.exp2(np.trunc(exponent * (100 if dtype == np.float32 else 900)))
    x = rng.standard_normal((5, 300)).astype(dtype)
    for eps in (0.0, 1e-5 if exponent > 0 else 0.0):
        y, rstd = pyln.rms_norm((x * dtype.type(scale)).astype(dtype), 300, eps=eps, return_stats=True)
        expected, _, expected_rstd, _ = reference.forward(x, eps=eps / LONG(scale) ** 2, rms=True)
        np.testing.assert_allclose(y, expected.astype(dtype), rtol=8 * np.finfo(dtype).eps)
        np.testing.assert_allclose(rstd * dtype.type(scale), expected_rstd.astype(dtype), rtol=4 * np.finfo(dtype).eps)
        dx, dweight = pyln.rms_norm_backward(x, (x * dtype.type(scale)).astype(dtype), 300, rstd)
        assert np.isfinite(dx).all()
        assert np.isfinite(dweight).all()


def test_gradients_by_finite_differences(rng: Generator) -> None:
    x, dy, weight = rng.standard_normal((3, 11)), rng.standard_normal((3, 11)), rng.standard_normal(11)

    def loss() -> float:
        return float(np.sum(dy * pyln.rms_norm(x, 11, weight, 1e-3)))

    _, rstd = pyln.rms_norm(x, 11, weight, 1e-3, return_stats=True)
    grads = pyln.rms_norm_backward(dy, x, 11, rstd, weight)
    for array, grad in ((x, grads[0]), (weight, grads[1])):
        for i in np.ndindex(array.shape):
            before = array[i]
            array[i] = before + 1e-6
            above = loss()
            array[i] = before - 1e-6
            below = loss()
            array[i] = before
            assert grad[i] == pytest.approx((above - below) / 2e-6, abs=1e-7)


def test_rows_at_the_edge(dtype: np.dtype) -> None:
    x = np.zeros((3, 4), dtype)
    y, rstd = pyln.rms_norm(x, 4, eps=0.0, return_stats=True)
    assert (y == 0).all()
    assert (rstd == 0).all()
    assert pyln.rms_norm(x[:0], 4).shape == (0, 4)
    assert np.isnan(pyln.rms_norm(x[:, :0], 0, return_stats=True)[1]).all()
    spoilt = np.ones((3, 4), dtype)
    spoilt[1, 2] = np.nan
    assert np.isnan(pyln.rms_norm(spoilt, 4)).all(axis=1).tolist() == [False, True, False]


def test_layouts_give_the_same_bits(rng: Generator, dtype: np.dtype) -> None:
    x = rng.standard_normal((6, 8, 40)).astype(dtype)
    weight = rng.standard_normal(40).astype(dtype)
    for view in (x[::-1], x[:, ::2], x.transpose(1, 0, 2), np.broadcast_to(x[:1], x.shape)):
        expected = pyln.rms_norm(view.copy(), 40, weight)
        np.testing.assert_array_equal(pyln.rms_norm(view, 40, weight), expected)
        np.testing.assert_array_equal(pyln.rms_norm(view, None, weight, axis=-1), expected)
        np.testing.assert_array_equal(np.concatenate([pyln.rms_norm(row[None], 40, weight) for row in view]), expected)
    expected = pyln.rms_norm(x, 40, weight)
    assert pyln.rms_norm(x, 40, weight, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_layer(rng: Generator, dtype: np.dtype) -> None:
    x, dy = rng.standard_normal((2, 5, 8)).astype(dtype), rng.standard_normal((2, 5, 8)).astype(dtype)
    layer = pyln.RMSNorm(8, dtype=dtype)
    layer.load_state_dict({"weight": rng.standard_normal(8).astype(dtype)})
    theirs = torch.nn.RMSNorm(8, dtype=torch.from_numpy(x).dtype)
    theirs.load_state_dict({"weight": torch.from_numpy(layer.weight.copy())})
    x_torch = torch.from_numpy(x).requires_grad_()
    theirs(x_torch).backward(torch.from_numpy(dy))
    tolerance = {"rtol": 20 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}
    np.testing.assert_allclose(layer(x), theirs(x_torch).detach().numpy(), **tolerance)
    np.testing.assert_allclose(layer.backward(dy), x_torch.grad.numpy(), **tolerance)
    np.testing.assert_allclose(layer.weight_grad, theirs.weight.grad.numpy(), **tolerance)
    layer.backward(dy)
    np.testing.assert_allclose(layer.weight_grad, 2 * theirs.weight.grad.numpy(), **tolerance)
    assert repr(layer) == "RMSNorm((8,), eps=None, elementwise_affine=True)"
    assert list(layer.state_dict()) == ["weight"]
    bare = pyln.RMSNorm((5, 8), 1e-3, elementwise_affine=False, dtype=dtype)
    np.testing.assert_array_equal(bare(x), pyln.rms_norm(x, (5, 8), eps=1e-3))
    assert bare.backward(dy).shape == x.shape
    assert bare.weight_grad is None
    with pytest.raises(RuntimeError, match="backward: call the layer"):
        pyln.RMSNorm(3).backward(dy)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: pyln.rms_norm(x, 4), ValueError, r"Given normalized_shape=\[4\]"),
        (lambda x: pyln.rms_norm(x, 5, np.ones(4, "f4")), ValueError, "Expected weight to be of same shape"),
        (lambda x: pyln.rms_norm(x, 5, eps=-1.0), ValueError, "eps: expected a finite float32"),
        (lambda x: pyln.rms_norm(x, 5, eps="1"), TypeError, "eps: expected a number, got '1'"),
        (lambda x: pyln.rms_norm(x, 5, out=x.astype("f8")), TypeError, "out: expected float32"),
        (
            lambda x: pyln.rms_norm_backward(x, x, 5, np.ones((3, 1), "f4")),
            ValueError,
            r"rstd: expected shape \[4, 1\], as rms_norm returns it",
        ),
        (
            lambda x: pyln.rms_norm_backward(x, x, 5, np.ones((4, 1), "f4"), None, (True, True, True)),
            TypeError,
            "output_mask: expected two, for input and weight",
        ),
    ],
)
def test_errors(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((4, 5), "f4"))
