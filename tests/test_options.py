"""zero_centered, round_steps and accumulate; backward from y."""

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
TYPES = [F32, F64, F16, BF16]
SHAPES = [(1, 1), (3, 7), (5, 100), (40, 64), (3, 1025), (2, 5000)]


def values(rng: Generator, shape: tuple[int, ...], dtype: np.dtype, offset: float = 0.0) -> Array:
    return (rng.standard_normal(shape) + offset).astype(dtype)


# ---- zero_centered ----


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_without_its_1(rng: Generator, shape: tuple[int, int], x_type: np.dtype) -> None:
    """Bit for bit that of 1 + weight, added in the type of the arithmetic."""
    real = F64 if x_type == F64 else F32
    x, dy = values(rng, shape, x_type, 1.0), values(rng, shape, x_type)
    for param_type in {x_type, real}:
        weight, bias = values(rng, shape[1:], param_type), values(rng, shape[1:], param_type)
        whole = weight.astype(real) + 1
        plain, mean, rstd = pyln.layer_norm(x, shape[1], whole, bias.astype(real), return_stats=True)
        assert_same(pyln.layer_norm(x, shape[1], weight, bias, zero_centered=True), plain)
        expected = pyln.layer_norm_backward(dy, x, shape[1], mean, rstd, whole)
        got = pyln.layer_norm_backward(dy, x, shape[1], mean, rstd, weight, zero_centered=True)
        for a, b in zip(got, expected, strict=True):
            assert_same(a, b)
        plain, rstd = pyln.rms_norm(x, shape[1], whole, 1e-6, return_stats=True)
        assert_same(pyln.rms_norm(x, shape[1], weight, 1e-6, zero_centered=True), plain)
        expected = pyln.rms_norm_backward(dy, x, shape[1], rstd, whole)
        for a, b in zip(
            pyln.rms_norm_backward(dy, x, shape[1], rstd, weight, zero_centered=True), expected, strict=True
        ):
            assert_same(a, b)


def test_without_a_weight_there_is_nothing_to_add_1_to(rng: Generator, dtype: np.dtype) -> None:
    x, bias = values(rng, (5, 9), dtype), values(rng, (9,), dtype)
    np.testing.assert_array_equal(
        pyln.layer_norm(x, 9, None, bias, zero_centered=True), pyln.layer_norm(x, 9, None, bias)
    )


def test_gemmas_norm(rng: Generator) -> None:
    """Gemma: ``(x.float() * rsqrt(mean(x^2) + eps) * (1 + weight.float())).type_as(x)``."""
    x, weight = (torch.from_numpy(rng.standard_normal(s)).to(torch.bfloat16) for s in ((20, 256), (256,)))
    wide = x.float()
    expected = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + weight.float())).type_as(x)
    got = pyln.rms_norm(x, 256, weight, 1e-6, zero_centered=True)
    different = got.astype(F32) != expected.float().numpy()
    assert different.mean() < 1e-3  # where torch's float32 is beside a rounding's boundary
    np.testing.assert_allclose(got.astype(F32), expected.float().numpy(), rtol=2.0**-7)


# ---- round_steps ----


@pytest.mark.parametrize(("x_type", "y_type"), list(itertools.product(TYPES, TYPES)), ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_rounded(rng: Generator, shape: tuple[int, int], x_type: np.dtype, y_type: np.dtype) -> None:
    if (x_type == F64) != (y_type == F64):
        return
    real = F64 if x_type == F64 else F32
    x = values(rng, shape, x_type, 1.0)
    for param_type, zero_centered in itertools.product({x_type, real}, (False, True)):
        weight, bias = values(rng, shape[1:], param_type), values(rng, shape[1:], param_type)
        whole = weight.astype(real) + zero_centered
        for norm in (pyln.layer_norm, pyln.rms_norm):
            # y without weight is xhat, rounded to x's type.
            xhat = norm(x, shape[1], eps=1e-6)
            product = (xhat.astype(real) * whole).astype(y_type)
            options = {"eps": 1e-6, "dtype": y_type, "round_steps": True, "zero_centered": zero_centered}
            assert_same(norm(x, shape[1], weight, **options), product)
            if norm is pyln.layer_norm:
                total = (product.astype(real) + bias.astype(real)).astype(y_type)
                assert_same(norm(x, shape[1], weight, bias, **options), total)


def test_llamas_norm(rng: Generator) -> None:
    """Llama: ``weight * (x.float() * rsqrt(mean(x^2) + eps)).to(x.dtype)``."""
    x, weight = (torch.from_numpy(rng.standard_normal(s)).to(torch.bfloat16) for s in ((20, 256), (256,)))
    wide = x.float()
    expected = weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
    got = pyln.rms_norm(x, 256, weight, 1e-6, round_steps=True)
    assert (got.astype(F32) != expected.float().numpy()).mean() < 1e-3
    assert (pyln.rms_norm(x, 256, weight, 1e-6).astype(F32) != expected.float().numpy()).mean() > 0.05


def test_axes_in_the_middle_take_options_too(rng: Generator) -> None:
    for x_type in TYPES:
        x, weight, bias = values(rng, (3, 6, 20), x_type), values(rng, (6,), x_type), values(rng, (6,), x_type)
        for options in ({"round_steps": True}, {"zero_centered": True}, {"round_steps": True, "zero_centered": True}):
            expected = pyln.layer_norm(np.moveaxis(x, 1, -1).copy(), 6, weight, bias, **options)
            assert_same(pyln.layer_norm(x, None, weight, bias, axis=1, **options), np.moveaxis(expected, -1, 1))


# ---- accumulate ----


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 5, 64, 1000])
def test_gradients_are_added(rng: Generator, x_type: np.dtype, rows: int) -> None:
    real = F64 if x_type == F64 else F32
    x, dy = values(rng, (rows, 33), x_type), values(rng, (rows, 33), x_type)
    weight = values(rng, (33,), x_type)
    _, mean, rstd = pyln.layer_norm(x, 33, return_stats=True)
    once = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight)
    held = values(rng, (33,), real), values(rng, (33,), real)
    wide = np.zeros((33, 2), real)
    for places in ([a.copy() for a in held], [wide[:, 0], wide[:, 1]]):
        for place, a in zip(places, held, strict=True):
            place[...] = a
        got = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight, out=(None, *places), accumulate=True)
        assert_same(got[0], once[0])
        for place, total, a, b in zip(places, got[1:], held, once[1:], strict=True):
            assert total is place
            bound = 2 * np.finfo(real).eps
            np.testing.assert_allclose(total, a.astype(F64) + b, rtol=bound, atol=bound * abs(b).max(initial=0))


def test_accumulating_needs_something_to_add_to(rng: Generator) -> None:
    x = values(rng, (4, 5), F32)
    _, mean, rstd = pyln.layer_norm(x, 5, return_stats=True)
    sums = np.ones(5, F32), np.ones(5, F32)
    for out, name in ((None, "weight"), ((None, sums[0], None), "bias"), ((None, None, sums[1]), "weight")):
        with pytest.raises(ValueError, match=rf"out \(grad_{name}\): accumulate adds to what it holds"):
            pyln.layer_norm_backward(x, x, 5, mean, rstd, out=out, accumulate=True)
    assert (np.array(sums) == 1).all()
    mask = (True, False, True)
    pyln.layer_norm_backward(x, x, 5, mean, rstd, None, None, mask, out=(None, None, sums[1]), accumulate=True)
    np.testing.assert_allclose(sums[1], 1 + x.sum(0), rtol=1e-6)
    pyln.layer_norm_backward(x, x, 5, mean, rstd, None, None, (True, False, False), accumulate=True)


def test_columns_of_no_rows_and_rows_of_no_columns_add_nothing() -> None:
    for shape in ((0, 3), (3, 0)):
        x = np.zeros(shape, F32)
        _, mean, rstd = pyln.layer_norm(x, shape[1], return_stats=True)
        sums = np.full(shape[1], 7, F32), np.full(shape[1], 8, F32)
        pyln.layer_norm_backward(x, x, shape[1], mean, rstd, out=(None, *sums), accumulate=True)
        assert (sums[0] == 7).all() and (sums[1] == 8).all()


# ---- Backward from y ----


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("affine", ["", "weight", "bias", "weight bias"])
@pytest.mark.parametrize("zero_centered", [False, True])
def test_backward_from_y(rng: Generator, x_type: np.dtype, affine: str, zero_centered: bool) -> None:
    eps = {F16: 2.0**-11, BF16: 2.0**-8, F32: 2.0**-24, F64: 2.0**-53}[x_type]
    for shape in ((3, 7), (50, 100), (2, 1030)):
        x, dy = values(rng, shape, x_type, 1.0), values(rng, shape, x_type)
        weight = (rng.uniform(0.5, 2, shape[1:]) - zero_centered).astype(x_type) if "weight" in affine else None
        bias = values(rng, shape[1:], x_type) if "bias" in affine else None
        options = {"zero_centered": zero_centered}
        y, mean, rstd = pyln.layer_norm(x, shape[1], weight, bias, return_stats=True, **options)
        expected = pyln.layer_norm_backward(dy, x, shape[1], mean, rstd, weight, bias, **options)
        got = pyln.layer_norm_backward_from_y(dy, y, shape[1], rstd, weight, bias, **options)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            scale = max(1, abs(b.astype(F64)).max())
            bound = 40 * eps * scale * np.sqrt(shape[0])
            np.testing.assert_allclose(a.astype(F64), b.astype(F64), rtol=0, atol=bound)
        y, rstd = pyln.rms_norm(x, shape[1], weight, return_stats=True, **options)
        expected = pyln.rms_norm_backward(dy, x, shape[1], rstd, weight, **options)
        got = pyln.rms_norm_backward_from_y(dy, y, shape[1], rstd, weight, **options)
        for a, b in zip(got, expected, strict=True):
            bound = 40 * eps * max(1, abs(b.astype(F64)).max()) * np.sqrt(shape[0])
            np.testing.assert_allclose(a.astype(F64), b.astype(F64), rtol=0, atol=bound)


def test_backward_from_y_by_finite_differences(rng: Generator) -> None:
    x, dy = rng.standard_normal((2, 3, 4, 5))
    weight, bias = rng.uniform(0.5, 2, (2, 4))
    y, _, rstd = pyln.layer_norm(x, None, weight, bias, axis=1, return_stats=True)
    grads = pyln.layer_norm_backward_from_y(dy, y, None, rstd, weight, bias, axis=1)
    loss = lambda: float(np.sum(dy * pyln.layer_norm(x, None, weight, bias, axis=1)))
    check_gradients(loss, (x, weight, bias), grads)
    y, rstd = pyln.rms_norm(x, (4, 5), None, 1e-3, return_stats=True)
    grads = pyln.rms_norm_backward_from_y(dy, y, (4, 5), rstd, None, (True, False))
    check_gradients(lambda: float(np.sum(dy * pyln.rms_norm(x, (4, 5), None, 1e-3))), (x,), grads[:1])


def test_a_weight_of_0_hides_what_xhat_was(rng: Generator, dtype: np.dtype) -> None:
    """It is taken as 0; all other columns are as they would be."""
    x, dy = values(rng, (2, 6, 20), dtype)
    weight = np.ones(20, dtype)
    weight[3] = 0
    y, mean, rstd = pyln.layer_norm(x, 20, weight, return_stats=True)
    dx, dgamma, dbeta = pyln.layer_norm_backward_from_y(dy, y, 20, rstd, weight)
    expected = pyln.layer_norm_backward(dy, x, 20, mean, rstd, weight)
    tolerance = {"rtol": 0, "atol": 64 * np.finfo(dtype).eps}
    for a, b in zip((dx, dgamma, dbeta), expected, strict=True):
        np.testing.assert_allclose(np.delete(a, 3, -1), np.delete(b, 3, -1), **tolerance)
    assert dgamma[3] == 0
    g = dy * weight
    np.testing.assert_allclose(dx[:, 3], -(rstd * g.mean(1, keepdims=True))[:, 0], **tolerance)


def test_backward_from_y_in_place_and_added(rng: Generator, dtype: np.dtype) -> None:
    x, dy = values(rng, (2, 6, 20), dtype)
    weight, bias = values(rng, (2, 20), dtype)
    y, _, rstd = pyln.layer_norm(x, 20, weight, bias, return_stats=True)
    expected = pyln.layer_norm_backward_from_y(dy, y, 20, rstd, weight, bias)
    sums = [np.ones(20, dtype), np.ones(20, dtype)]
    for place in (dy.copy(), y.copy()):
        given = (place, y) if np.array_equal(place, dy) else (dy, place)
        got = pyln.layer_norm_backward_from_y(*given, 20, rstd, weight, bias, out=(place, *sums), accumulate=True)
        assert got[0] is place
        np.testing.assert_array_equal(place, expected[0])
    np.testing.assert_allclose(sums[0], 1 + 2 * expected[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grad_out": np.ones((4, 5), "f2")}, TypeError, "grad_out: expected float32 to go with y, got float16"),
        ({"grad_out": np.ones((4, 4), "f4")}, ValueError, r"grad_out: expected shape \[4, 5\] as y has"),
        ({"y": np.ones((4, 5), "i4")}, TypeError, "y: expected float32, float64, float16 or bfloat16, got int32"),
        ({"rstd": np.ones((4, 5), "f4")}, ValueError, r"rstd: expected shape \[4, 1\], as layer_norm returns it"),
        ({"bias": np.ones(4, "f4")}, ValueError, "Expected bias to be of same shape"),
        ({"out": (None, None)}, TypeError, "out: expected three, for input, weight and bias"),
        ({"accumulate": True}, ValueError, r"out \(grad_weight\): accumulate adds"),
    ],
)
def test_refusals_of_backward_from_y(changes: dict, error: type[Exception], message: str) -> None:
    given = {"grad_out": np.ones((4, 5), "f4"), "y": np.ones((4, 5), "f4"), "rstd": np.ones((4, 1), "f4")}
    with pytest.raises(error, match=message):
        pyln.layer_norm_backward_from_y(**{**given, "normalized_shape": 5, **changes})


# ---- Layers ----


@pytest.mark.parametrize("layer_type", [pyln.LayerNorm, pyln.RMSNorm])
def test_layers(rng: Generator, layer_type: type, dtype: np.dtype) -> None:
    plain, centred = layer_type(8, dtype=dtype), layer_type(8, dtype=dtype, zero_centered=True)
    assert not centred.weight.any()
    assert repr(centred) == repr(plain)[:-1] + ", zero_centered=True)"
    x, dy = values(rng, (2, 5, 8), dtype)
    weight = values(rng, (8,), dtype)
    plain.weight[...], centred.weight[...] = 1 + weight, weight
    np.testing.assert_allclose(centred(x), plain(x), rtol=1e-6)
    for _ in range(2):
        np.testing.assert_allclose(centred.backward(dy), plain.backward(dy), rtol=1e-5, atol=1e-6)
        held = centred.weight_grad
        np.testing.assert_allclose(held, plain.weight_grad, rtol=1e-5)
    assert centred.weight_grad is held
    centred.weight_grad = None
    centred.backward(dy)
    np.testing.assert_allclose(2 * centred.weight_grad, held, rtol=1e-5)
    centred.zero_grad()
    assert centred.weight_grad is centred.bias_grad is None


def test_a_layer_goes_on_where_one_gradient_was_dropped(rng: Generator) -> None:
    layer, x = pyln.LayerNorm(4), values(rng, (3, 4), F32)
    layer(x)
    layer.backward(x)
    once = layer.bias_grad.copy()
    layer.weight_grad = None
    layer.backward(x)
    np.testing.assert_array_equal(layer.bias_grad, 2 * once)
    assert layer.weight_grad is not None
