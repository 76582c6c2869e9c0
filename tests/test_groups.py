"""group_norm, instance_norm, their backward and layers: PyTorch's semantics, and layer_norm's bits."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
from differences import assert_same, check_gradients

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

F16, BF16, F32, F64 = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
SHAPES = [((4, 6), 3), ((3, 6, 7), 2), ((2, 8, 5, 4), 4), ((2, 8, 5, 4), 8), ((2, 8, 5, 4), 1)]
SHAPES += [((1, 4, 2, 3, 3), 2), ((5, 32, 40), 4), ((2, 64, 33, 3), 32), ((3, 2, 3000), 2)]


def values(rng: Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def torchs(x: Array, weight: Array | None, bias: Array | None, groups: int) -> tuple[torch.Tensor, ...]:
    n, c = x.shape[:2]
    given = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
    return torch.native_group_norm(*given, n, c, int(np.prod(x.shape[2:])), groups, 1e-5)


@pytest.mark.parametrize("affine", ["", "weight", "bias", "weight bias"])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_is_pytorchs(rng: Generator, dtype: np.dtype, shape: tuple[int, ...], groups: int, affine: str) -> None:
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    weight = values(rng, shape[1:2], dtype) if "weight" in affine else None
    bias = values(rng, shape[1:2], dtype) if "bias" in affine else None
    got = pyln.group_norm(x, groups, weight, bias, return_stats=True)
    eps = np.finfo(dtype).eps
    for value, expected in zip(got, torchs(x, weight, bias, groups), strict=True):
        assert value.dtype == dtype and value.shape == tuple(expected.shape)
        np.testing.assert_allclose(value, expected.numpy(), rtol=16 * eps, atol=16 * eps)
    np.testing.assert_array_equal(pyln.group_norm(x, groups, weight, bias), got[0])
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, np.ones(shape[1], dtype), np.zeros(shape[1], dtype))]
    if weight is not None:
        leaves[1] = torch.from_numpy(weight).requires_grad_()
    (torch.native_group_norm(*leaves, *shape[:2], int(np.prod(shape[2:])), groups, 1e-5)[0]).backward(
        torch.from_numpy(dy)
    )
    grads = pyln.group_norm_backward(dy, x, groups, *got[1:], weight)
    for grad, leaf in zip(grads, leaves, strict=True):
        expected = leaf.grad.numpy()
        assert grad.dtype == dtype and grad.shape == expected.shape
        np.testing.assert_allclose(grad, expected, rtol=0, atol=32 * eps * max(1, abs(expected).max()))


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_has_the_bits_of_layer_norm(rng: Generator, dtype: np.dtype, shape: tuple[int, ...], groups: int) -> None:
    """A group is a row of layer_norm, its channels' numbers repeated; gradients are summed in another order."""
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    weight, bias = values(rng, shape[1:2], dtype), values(rng, shape[1:2], dtype)
    y, mean, rstd = pyln.group_norm(x, groups, weight, bias, return_stats=True)
    grads = pyln.group_norm_backward(dy, x, groups, mean, rstd, weight)
    n = x[0].size // groups
    repeated = [np.repeat(a, n // (shape[1] // groups)).reshape(1, groups, n) for a in (weight, bias)]
    rows, dys = x.reshape(shape[0], groups, n), dy.reshape(shape[0], groups, n)
    plain = pyln.layer_norm(rows, n, *repeated, return_stats=True)
    for a, b in zip((y, mean, rstd), plain, strict=True):
        assert_same(a, b.reshape(a.shape))
    plain_grads = pyln.layer_norm_backward(dys, rows, n, *plain[1:], *repeated)
    expected_dx = plain_grads[0].reshape(shape)
    bound = 8 * np.finfo(dtype).eps * abs(expected_dx).max()
    np.testing.assert_allclose(grads[0], expected_dx, rtol=0, atol=bound)
    for a, b in zip(grads[1:], plain_grads[1:], strict=True):
        expected = b.reshape(shape[1], -1).sum(1, dtype=np.longdouble)
        bound = 8 * np.finfo(dtype).eps * abs(dy).sum() / shape[1]
        np.testing.assert_allclose(a, expected.astype(dtype), rtol=0, atol=bound)


@pytest.mark.parametrize("half", [F16, BF16], ids=str)
def test_16_bits_are_float32_rounded_once(rng: Generator, half: np.dtype) -> None:
    for shape, groups in SHAPES:
        x, dy = values(rng, shape, half), values(rng, shape, half)
        for param_type, y_type in itertools.product((half, F32), (half, F32)):
            weight, bias = values(rng, shape[1:2], param_type), values(rng, shape[1:2], param_type)
            wide = [a.astype(F32) for a in (x, weight, bias)]
            expected = pyln.group_norm(wide[0], groups, *wide[1:], return_stats=True)
            got = pyln.group_norm(x, groups, weight, bias, dtype=y_type, return_stats=True)
            assert_same(got[0], expected[0].astype(y_type))
            for a, b in zip(got[1:], expected[1:], strict=True):
                assert_same(a, b)
            expected = pyln.group_norm_backward(dy.astype(F32), wide[0], groups, *got[1:], wide[1])
            grads = pyln.group_norm_backward(dy, x, groups, *got[1:], weight)
            assert_same(grads[0], expected[0].astype(half))
            for a, b in zip(grads[1:], expected[1:], strict=True):
                assert_same(a, b)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4, 6, 5), (2, 3, 4, 3, 2)])
def test_instance_norm(rng: Generator, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    weight, bias = values(rng, shape[1:2], dtype), values(rng, shape[1:2], dtype)
    y, mean, rstd = pyln.instance_norm(x, weight, bias, return_stats=True)
    assert mean.shape == rstd.shape == shape[:2]
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    expected = torch.nn.functional.instance_norm(leaves[0], weight=leaves[1], bias=leaves[2])
    expected.backward(torch.from_numpy(dy))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=16 * eps, atol=16 * eps)
    grads = pyln.instance_norm_backward(dy, x, mean, rstd, weight)
    for grad, leaf in zip(grads, leaves, strict=True):
        bound = 32 * eps * max(1, leaf.grad.abs().max().item())
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=0, atol=bound)
    for a, b in zip((y, mean, rstd), pyln.group_norm(x, shape[1], weight, bias, return_stats=True), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(pyln.instance_norm(x), pyln.group_norm(x, shape[1]))


def test_finite_differences(rng: Generator) -> None:
    x, dy = rng.standard_normal((2, 2, 4, 3, 2))
    weight, bias = rng.standard_normal((2, 4))
    for groups in (1, 2, 4):
        _, mean, rstd = pyln.group_norm(x, groups, weight, bias, return_stats=True)
        grads = pyln.group_norm_backward(dy, x, groups, mean, rstd, weight)
        loss = lambda: float(np.sum(dy * pyln.group_norm(x, groups, weight, bias)))
        check_gradients(loss, (x, weight, bias), grads)


def test_groups_of_one_element_give_the_bias(rng: Generator, dtype: np.dtype) -> None:
    """Where PyTorch's digits are those of its rounding errors."""
    x, weight, bias = values(rng, (4, 6, 1), dtype), values(rng, (6,), dtype), values(rng, (6,), dtype)
    y, mean, rstd = pyln.group_norm(x, 6, weight, bias, return_stats=True)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], x.shape))
    np.testing.assert_array_equal(mean, x[..., 0])
    dx, dgamma, dbeta = pyln.group_norm_backward(x, x, 6, mean, rstd, weight)
    assert not dgamma.any() and abs(dx).max() < 1e-3
    np.testing.assert_allclose(dbeta, x.sum((0, 2)), rtol=1e-6, atol=1e-6)


# ---- Layouts, places, and nothing ----


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("affine", [False, True])
def test_layouts(rng: Generator, dtype: np.dtype, groups: int, affine: bool) -> None:
    x, dy = values(rng, (2, 3, 6, 4, 5), dtype)
    weight, bias = values(rng, (2, 6), dtype) if affine else (None, None)
    y, mean, rstd = pyln.group_norm(x, groups, weight, bias, return_stats=True)
    expected = pyln.group_norm_backward(dy, x, groups, mean, rstd, weight)

    def lying(change: object) -> tuple[Array, Array]:
        return change(x), change(dy)

    for xs, dys in (
        lying(np.asfortranarray),
        lying(lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)),
        lying(lambda a: np.repeat(a, 2, -1)[..., ::2]),
        lying(lambda a: np.flip(np.flip(a).copy())),
        lying(lambda a: np.repeat(a, 2, 1)[:, ::2]),
        (np.asfortranarray(x), dy),
    ):
        out = np.empty_like(xs)
        got = pyln.group_norm(xs, groups, weight, bias, out=out, return_stats=True)
        assert got[0] is out
        for a, b in zip(got, (y, mean, rstd), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(pyln.group_norm(xs, groups, weight, bias), y)
        grads = pyln.group_norm_backward(dys, xs, groups, mean, rstd, weight)
        np.testing.assert_array_equal(grads[0], expected[0])
        for a, b in zip(grads[1:], expected[1:], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=64 * np.finfo(dtype).eps)
        if dys is not dy:
            got = pyln.group_norm_backward(dys, xs, groups, mean, rstd, weight, out=(dys, None, None))
            np.testing.assert_array_equal(dys, expected[0])
        assert pyln.group_norm(xs, groups, weight, bias, out=xs) is xs
        np.testing.assert_array_equal(xs, y)


def test_which_gradients_and_where(rng: Generator, dtype: np.dtype) -> None:
    x, dy = values(rng, (2, 3, 6, 20), dtype)
    weight = values(rng, (6,), dtype)
    _, mean, rstd = pyln.group_norm(x, 2, weight, return_stats=True)
    every = pyln.group_norm_backward(dy, x, 2, mean, rstd, weight)
    for mask in itertools.product((False, True), repeat=3):
        got = pyln.group_norm_backward(dy, x, 2, mean, rstd, weight, mask)
        for a, b, wanted in zip(got, every, mask, strict=True):
            if wanted:
                np.testing.assert_array_equal(a, b)
            else:
                assert a is None
    places = np.empty_like(x), np.ones(12, dtype)[::2], np.ones(6, dtype)
    got = pyln.group_norm_backward(dy, x, 2, mean, rstd, weight, out=places, accumulate=True)
    assert all(a is b for a, b in zip(got, places, strict=True))
    np.testing.assert_array_equal(got[0], every[0])
    for a, b in zip(got[1:], every[1:], strict=True):
        np.testing.assert_allclose(a, 1 + b, rtol=0, atol=16 * np.finfo(dtype).eps * max(1, abs(b).max()))


@pytest.mark.parametrize("shape", [(0, 6, 4), (2, 6, 0), (2, 0, 4), (0, 6), (0, 0, 0)])
def test_no_elements(shape: tuple[int, ...], dtype: np.dtype) -> None:
    x = np.zeros(shape, dtype)
    weight = np.ones(shape[1], dtype)
    for groups in (1, 2, 3):
        y, mean, rstd = pyln.group_norm(x, groups, weight, weight, return_stats=True)
        assert y.shape == shape and mean.shape == rstd.shape == (shape[0], groups)
        assert np.isnan(mean).all() and np.isnan(rstd).all()
        dx, dgamma, dbeta = pyln.group_norm_backward(x, x, groups, mean, rstd, weight)
        assert dx.shape == shape and dgamma.shape == dbeta.shape == shape[1:2]
        assert not dgamma.any() and not dbeta.any()
    y, mean, rstd = pyln.instance_norm(np.zeros((*shape, 2), dtype), weight, return_stats=True)
    assert y.shape == (*shape, 2) and mean.shape == shape[:2]


# ---- Refusals ----

X = np.arange(48, dtype="f4").reshape(2, 6, 4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_groups": 4}, ValueError, "Expected number of channels in input to be divisible by num_groups"),
        ({"num_groups": 0}, ValueError, "Expected num groups to be greater than 0, got 0"),
        ({"num_groups": -1}, ValueError, "Expected num groups to be greater than 0, got -1"),
        ({"num_groups": 2.0}, TypeError, "num_groups: expected an int, got 2.0"),
        ({"num_groups": True}, TypeError, "num_groups: expected an int, got True"),
        ({"input": X[0, 0]}, ValueError, "Expected at least 2 dimensions for input tensor but received 1"),
        ({"input": X.astype("i4")}, TypeError, "input: expected float32"),
        ({"weight": X[0, 0]}, ValueError, "Expected weight to be a vector of size equal to the number of channels"),
        (
            {"bias": X[0]},
            ValueError,
            r"channels in input, but got bias of shape \[6, 4\] and input of shape \[2, 6, 4\]",
        ),
        ({"weight": np.ones(6)}, TypeError, "weight: expected float32 to go with input, got float64"),
        ({"eps": -1.0}, ValueError, "eps: expected a finite float32"),
        ({"dtype": "int8"}, TypeError, "dtype: expected float32"),
        ({"out": np.empty((6, 2, 4), "f4")}, ValueError, r"out: expected shape \[2, 6, 4\]"),
        ({"out": X[:, ::-1]}, ValueError, "out: overlaps input"),
    ],
)
def test_refusals(changes: dict, error: type[Exception], message: str) -> None:
    before = X.copy()
    with pytest.raises(error, match=message):
        pyln.group_norm(**{"input": X, "num_groups": 2, **changes})
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mean": np.ones((2, 6), "f4")}, ValueError, r"mean: expected shape \[2, 2\], as group_norm returns it"),
        ({"rstd": np.ones((2, 2, 1), "f4")}, ValueError, r"rstd: expected shape \[2, 2\]"),
        ({"grad_out": X[:, :3]}, ValueError, r"grad_out: expected shape \[2, 6, 4\] as input has"),
        ({"output_mask": (True, True)}, TypeError, "output_mask: expected three, for input, weight and bias"),
        ({"out": (X, None, None)}, ValueError, r"out \(grad_input\): overlaps input in memory"),
        ({"out": (None, np.ones(2, "f4"), None)}, ValueError, r"out \(grad_weight\): expected shape \[6\], got \[2\]"),
        ({"accumulate": True}, ValueError, r"out \(grad_weight\): accumulate adds to what it holds"),
    ],
)
def test_refusals_of_backward(changes: dict, error: type[Exception], message: str) -> None:
    stats = {"mean": np.ones((2, 2), "f4"), "rstd": np.ones((2, 2), "f4")}
    given = {"grad_out": X, "input": X[::-1] if "out" in changes else X, "num_groups": 2, **stats}
    with pytest.raises(error, match=message):
        pyln.group_norm_backward(**{**given, **changes})


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 3, 1, 1)])
def test_instances_of_one_element_are_refused_as_in_pytorch(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, "f4")
    with pytest.raises(ValueError, match="Expected more than 1 spatial element when training, got input size"):
        torch.nn.functional.instance_norm(torch.from_numpy(x))
    with pytest.raises(ValueError, match="Expected more than 1 spatial element when training, got input size"):
        pyln.instance_norm(x)


# ---- Layers ----


def hold_against(mine: object, theirs: torch.nn.Module, shape: tuple[int, ...], rng: Generator) -> None:
    assert list(mine.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
    mine.load_state_dict(theirs.state_dict())
    for _ in range(2):  # gradients of parameters add up
        x, dy = rng.standard_normal((2, *shape))
        leaf = torch.from_numpy(x).requires_grad_()
        y = theirs(leaf)
        y.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(mine(x), y.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(mine.backward(dy), leaf.grad.numpy(), atol=1e-12)
    for name in ("weight", "bias"):
        parameter, grad = getattr(theirs, name), getattr(mine, name + "_grad")
        assert (parameter is None) == (getattr(mine, name) is None) == (grad is None)
        if parameter is not None:
            np.testing.assert_allclose(grad, parameter.grad.numpy(), atol=1e-11)
    out = np.empty(shape)
    assert mine(x, out=out) is out
    np.testing.assert_array_equal(out, mine(x))


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"eps": 0.1}, {"bias": False}])
@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 5), (2, 6, 4, 3)])
def test_group_layer(rng: Generator, shape: tuple[int, ...], options: dict) -> None:
    mine = pyln.GroupNorm(3, 6, dtype="float64", **options)
    theirs = torch.nn.GroupNorm(3, 6, dtype=torch.float64, **options)
    assert repr(mine) == repr(theirs)
    hold_against(mine, theirs, shape, rng)


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"eps": 0.1, "affine": True, "bias": False}])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_instance_layers(rng: Generator, spatial: int, batched: bool, options: dict) -> None:
    name = f"InstanceNorm{spatial}d"
    mine = getattr(pyln, name)(6, dtype="float64", **options)
    theirs = getattr(torch.nn, name)(6, dtype=torch.float64, **options)
    theirs_repr = repr(theirs).replace(", momentum=0.1", "").replace(", track_running_stats=False", "")
    assert repr(mine) == theirs_repr
    hold_against(mine, theirs, (*((3,) if batched else ()), 6, *(4, 3, 2)[:spatial]), rng)


def test_bad_use_of_layers() -> None:
    with pytest.raises(ValueError, match=r"num_channels \(6\) must be divisible by num_groups \(4\)"):
        pyln.GroupNorm(4, 6)
    for groups in (0, -2):
        with pytest.raises(ValueError, match="must be divisible by num_groups"):
            pyln.GroupNorm(groups, 6)
    with pytest.raises(TypeError, match="num_features: expected an int"):
        pyln.InstanceNorm1d(3.0)
    with pytest.raises(ValueError, match="Expected weight to be a vector of size equal to the number of channels"):
        pyln.GroupNorm(2, 8)(X)
    with pytest.raises(TypeError, match="input: expected float32 or float16 or bfloat16 to go with a layer of float32"):
        pyln.GroupNorm(2, 6)(X.astype("f8"))
    with pytest.raises(RuntimeError, match="backward: call the layer on an input first"):
        pyln.GroupNorm(2, 6).backward(X)
    with pytest.raises(ValueError, match=r"expected 3D or 4D input \(got 2D input\)"):
        pyln.InstanceNorm2d(6)(X[0])
    with pytest.raises(ValueError, match=r"expected 2D or 3D input \(got 4D input\)"):
        pyln.InstanceNorm1d(6)(X[None])
    with pytest.raises(ValueError, match=r"expected input's size at dim=1 to match num_features \(5\), but got: 6\."):
        pyln.InstanceNorm1d(5, affine=True)(X)
    with pytest.warns(UserWarning, match="input's size at dim=0 does not match num_features"):
        pyln.InstanceNorm1d(5)(X[0])
    with pytest.raises(ValueError, match="out: overlaps input"):
        pyln.InstanceNorm1d(6)(X[0], out=X[0])
    layer = pyln.InstanceNorm1d(6)
    layer(X[0])
    with pytest.raises(ValueError, match=r"grad_out: expected shape \[6, 4\] as input has, got \[2, 6, 4\]"):
        layer.backward(X)


def test_16_bit_inputs_of_layers(rng: Generator) -> None:
    x = values(rng, (2, 6, 8), BF16)
    for layer in (pyln.GroupNorm(2, 6), pyln.InstanceNorm1d(6, affine=True), pyln.GroupNorm(2, 6, dtype="bfloat16")):
        assert layer(x).dtype == BF16
        assert layer.backward(x).dtype == BF16
        assert layer.weight_grad.dtype == F32
        layer.backward(x)
