"""add_layer_norm, add_rms_norm and their backward: the bits of the plain functions on the sum."""

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
SHAPES = [(7,), (3, 5), (2, 3, 100), (2, 5, 1030), (40, 64)]


def real_of(dtype: np.dtype) -> np.dtype:
    return F64 if dtype == F64 else F32


def values(rng: Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def total_of(x: Array, residual: Array, input_bias: Array | None = None) -> Array:
    real = real_of(x.dtype)
    total = x.astype(real)
    if input_bias is not None:
        total = total + input_bias.astype(real)
    return (total + residual.astype(real)).astype(x.dtype)


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_norm_of_the_sum(rng: Generator, shape: tuple[int, ...], x_type: np.dtype) -> None:
    x, residual, row = values(rng, shape, x_type), values(rng, shape, x_type), shape[-1:]
    y_types = [F64] if x_type == F64 else [x_type, F32]
    for param_type, y_type, options in itertools.product(
        {x_type, real_of(x_type)}, y_types, ({}, {"zero_centered": True}, {"dtype": x_type})
    ):
        weight, bias, input_bias = (values(rng, row, param_type) for _ in range(3))
        options = {"dtype": y_type} | options
        for given in ({}, {"input_bias": input_bias}):
            expected = total_of(x, residual, *given.values())
            y, total, mean, rstd = pyln.add_layer_norm(
                x, residual, row, weight, bias, **given, **options, return_stats=True
            )
            assert_same(total, expected)
            plain = pyln.layer_norm(expected, row, weight, bias, **options, return_stats=True)
            for a, b in zip((y, mean, rstd), plain, strict=True):
                assert_same(a, b)
            y, total, rstd = pyln.add_rms_norm(x, residual, row, weight, **given, **options, return_stats=True)
            assert_same(total, expected)
            for a, b in zip((y, rstd), pyln.rms_norm(total, row, weight, **options, return_stats=True), strict=True):
                assert_same(a, b)
            y, total = pyln.add_rms_norm(x, residual, row, weight, 1e-6, **given, **options)
            assert_same(y, pyln.rms_norm(total, row, weight, 1e-6, **options))


@pytest.mark.parametrize("x_type", TYPES, ids=str)
def test_steps_are_rounded(rng: Generator, x_type: np.dtype) -> None:
    x, residual, weight = values(rng, (5, 48), x_type), values(rng, (5, 48), x_type), values(rng, (48,), x_type)
    y, total = pyln.add_rms_norm(x, residual, 48, weight, 1e-6, round_steps=True)
    assert_same(y, pyln.rms_norm(total, 48, weight, 1e-6, round_steps=True))


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 4, 6),
        (1, 3, 4, 6),
        (3, 4, 6),
        (1, 1, 4, 6),
        (4, 6),
        (6,),
        (2, 1, 1, 6),
        (2, 1, 4, 6),
        (1, 3, 1, 6),
        (3, 1, 6),
    ],
)
def test_residuals_are_repeated(rng: Generator, shape: tuple[int, ...], x_type: np.dtype) -> None:
    x, residual, weight = values(rng, (2, 3, 4, 6), x_type), values(rng, shape, x_type), values(rng, (6,), x_type)
    expected = total_of(x, np.broadcast_to(residual, x.shape))
    for given in (x, x[:, ::-1], x.transpose(2, 0, 1, 3).copy().transpose(1, 2, 0, 3)):
        for norm_shape in (6, (4, 6)):
            if shape[-2:] != (4, 6) and norm_shape != 6:
                continue
            y, total = pyln.add_layer_norm(given, residual, norm_shape)
            assert_same(total, total_of(given, np.broadcast_to(residual, x.shape)))
            assert_same(y, pyln.layer_norm(total, norm_shape))
    y, total = pyln.add_layer_norm(x, residual, 6, weight)
    assert_same(total, expected)


def test_a_weight_for_each_example(rng: Generator, dtype: np.dtype) -> None:
    x, residual, dy = (values(rng, (3, 4, 8), dtype) for _ in range(3))
    weight, bias = values(rng, (3, 1, 8), dtype), values(rng, (4, 8), dtype)[None]
    y, total, mean, rstd = pyln.add_layer_norm(x, residual, 8, weight, bias, return_stats=True)
    assert_same(y, pyln.layer_norm(total, 8, weight, bias))
    got = pyln.add_layer_norm_backward(dy, None, total, 8, mean, rstd, weight, bias)
    for a, b in zip(got, pyln.layer_norm_backward(dy, total, 8, mean, rstd, weight, bias), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(rng: Generator, shape: tuple[int, ...], x_type: np.dtype) -> None:
    """grad_total is added to grad_input before it is rounded."""
    real, row = real_of(x_type), shape[-1:]
    total, dtotal = values(rng, shape, x_type), values(rng, shape, x_type)
    for dy_type, param_type, zero_centered in itertools.product({x_type, real}, {x_type, real}, (False, True)):
        dy, weight = values(rng, shape, dy_type), values(rng, row, param_type)
        options = {"zero_centered": zero_centered}
        _, mean, rstd = pyln.layer_norm(total, row, return_stats=True)
        plain = pyln.layer_norm_backward(dy, total, row, mean, rstd, weight, **options)
        got = pyln.add_layer_norm_backward(dy, None, total, row, mean, rstd, weight, **options)
        for a, b in zip(got, plain, strict=True):
            assert_same(a, b)
        wide = pyln.layer_norm_backward(
            dy.astype(real), total.astype(real), row, mean, rstd, weight.astype(real), **options
        )
        got = pyln.add_layer_norm_backward(dy, dtotal, total, row, mean, rstd, weight, **options)
        assert_same(got[0], (wide[0] + dtotal.astype(real)).astype(x_type))
        for a, b in zip(got[1:], plain[1:], strict=True):
            assert_same(a, b)
        _, rstd = pyln.rms_norm(total, row, return_stats=True)
        wide = pyln.rms_norm_backward(dy.astype(real), total.astype(real), row, rstd, weight.astype(real), **options)
        got = pyln.add_rms_norm_backward(dy, dtotal, total, row, rstd, weight, **options)
        assert_same(got[0], (wide[0] + dtotal.astype(real)).astype(x_type))
        assert_same(got[1], wide[1])


@pytest.mark.parametrize("keep_total", [False, True])
def test_gradients_are_pytorchs(rng: Generator, keep_total: bool) -> None:
    x, residual, dy, dtotal = rng.standard_normal((4, 3, 5, 16))
    input_bias, weight, bias = rng.standard_normal((3, 16))
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias, residual, input_bias)]
    total = leaves[0] + leaves[4] + leaves[3]
    y = torch.nn.functional.layer_norm(total, (16,), leaves[1], leaves[2])
    loss = (y * torch.from_numpy(dy)).sum() + (total * torch.from_numpy(dtotal)).sum() * keep_total
    loss.backward()
    got_y, got_total, mean, rstd = pyln.add_layer_norm(
        x, residual, 16, weight, bias, input_bias=input_bias, return_stats=True
    )
    np.testing.assert_allclose(got_y, y.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got_total, total.detach().numpy(), rtol=1e-15)
    grads = pyln.add_layer_norm_backward(dy, dtotal if keep_total else None, got_total, 16, mean, rstd, weight, bias)
    grad_input_bias = grads[0].sum((0, 1))
    for grad, leaf in zip((*grads, grads[0], grad_input_bias), leaves, strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_finite_differences(rng: Generator) -> None:
    x, residual, dy, dtotal = rng.standard_normal((4, 3, 7))
    weight, input_bias = rng.standard_normal((2, 7))

    def loss() -> float:
        y, total = pyln.add_rms_norm(x, residual, 7, weight, 1e-3, input_bias=input_bias)
        return float(np.sum(dy * y) + np.sum(dtotal * total))

    _, total, rstd = pyln.add_rms_norm(x, residual, 7, weight, 1e-3, input_bias=input_bias, return_stats=True)
    dx, dgamma = pyln.add_rms_norm_backward(dy, dtotal, total, 7, rstd, weight)
    check_gradients(loss, (x, residual, weight, input_bias), (dx, dx, dgamma, dx.sum(0)))


# ---- Memory ----


def test_places(rng: Generator, dtype: np.dtype) -> None:
    """Over input and residual, in every way that is allowed."""
    x, residual = values(rng, (2, 5, 40), dtype)
    expected = pyln.add_layer_norm(x, residual, 40)
    for y_place, total_place in itertools.product(("new", "input", "residual"), repeat=2):
        if y_place == total_place != "new":
            continue
        arrays = {"new": np.empty_like(x), "input": x.copy(), "residual": residual.copy()}
        out = arrays[y_place], np.empty_like(x) if total_place == "new" else arrays[total_place]
        got = pyln.add_layer_norm(arrays["input"], arrays["residual"], 40, out=out)
        for a, place, b in zip(got, out, expected, strict=True):
            assert a is place
            np.testing.assert_array_equal(a, b)
    y = np.empty_like(x)
    got = pyln.add_layer_norm(x, residual, 40, out=(y, None))
    assert got[0] is y
    np.testing.assert_array_equal(got[1], expected[1])


def test_places_of_gradients(rng: Generator, dtype: np.dtype) -> None:
    dy, dtotal, total = values(rng, (3, 5, 40), dtype)
    _, mean, rstd = pyln.layer_norm(total, 40, return_stats=True)
    expected = pyln.add_layer_norm_backward(dy, dtotal, total, 40, mean, rstd)
    for i in range(3):
        given = [a.copy() for a in (dy, dtotal, total)]
        got = pyln.add_layer_norm_backward(*given, 40, mean, rstd, out=(given[i], None, None))
        assert got[0] is given[i]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    sums = [np.ones(40, dtype), np.ones(40, dtype)]
    pyln.add_layer_norm_backward(dy, dtotal, total, 40, mean, rstd, out=(None, *sums), accumulate=True)
    np.testing.assert_allclose(sums[1], 1 + expected[2], rtol=1e-6)


@pytest.mark.parametrize("which", range(4))
def test_other_layouts_are_copied(rng: Generator, dtype: np.dtype, which: int) -> None:
    arrays = list(values(rng, (4, 3, 5, 12), dtype))
    expected = pyln.add_layer_norm(arrays[0], arrays[1], 12)
    for change in (np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: np.flip(np.flip(a).copy())):
        x, residual, *out = [change(a) if i == which else a.copy() for i, a in enumerate(arrays)]
        got = pyln.add_layer_norm(x, residual, 12, out=tuple(out))
        for a, place, b in zip(got, out, expected, strict=True):
            assert a is place
            np.testing.assert_array_equal(a, b)
    dy, dtotal, total, dx = arrays
    _, mean, rstd = pyln.layer_norm(total, 12, return_stats=True)
    expected_grads = pyln.add_layer_norm_backward(dy, dtotal, total, 12, mean, rstd)
    for change in (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, 0)[::2],
        lambda a: np.repeat(a, 2, -2)[..., ::2, :],
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ):
        *given, dx = [change(a) if i == which else a.copy() for i, a in enumerate(arrays)]
        got = pyln.add_layer_norm_backward(*given, 12, mean, rstd, out=(dx, None, None))
        for a, b in zip(got, expected_grads, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 0, 5)])
def test_no_elements(shape: tuple[int, ...], dtype: np.dtype) -> None:
    x = np.zeros(shape, dtype)
    y, total, mean, rstd = pyln.add_layer_norm(x, x[:1], shape[-1], return_stats=True)
    assert y.shape == total.shape == shape and np.isnan(mean).all()
    dx, dgamma, _ = pyln.add_layer_norm_backward(x, x, x, shape[-1], mean, rstd)
    assert dx.shape == shape and dgamma.shape == shape[-1:] and not dgamma.any()


# ---- Refusals ----

X = np.arange(20, dtype="f4").reshape(4, 5)
W = np.ones(5, "f4")


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"residual": X[:3]},
            ValueError,
            r"residual: expected input's shape \[4, 5\], or with leading .* got \[3, 5\]",
        ),
        ({"residual": X[:, :1]}, ValueError, r"residual: expected input's shape \[4, 5\], .* got \[4, 1\]"),
        ({"residual": X[None]}, ValueError, r"residual: .* got \[1, 4, 5\]"),
        ({"residual": np.float32(1)}, ValueError, r"residual: .* got \[\]"),
        ({"residual": X.astype("f8")}, TypeError, "residual: expected float32 to go with input, got float64"),
        ({"residual": None}, TypeError, "residual: "),
        ({"normalized_shape": 4}, ValueError, r"Given normalized_shape=\[4\]"),
        ({"weight": X[0, :3]}, ValueError, "Expected weight to be of same shape"),
        ({"input_bias": X}, ValueError, "Expected input_bias to be of same shape as normalized_shape"),
        ({"input_bias": W.astype("f8")}, TypeError, "input_bias: expected float32"),
        ({"eps": -1.0}, ValueError, "eps: expected a finite float32"),
        ({"dtype": "float64"}, TypeError, "dtype: expected float32 or float16 or bfloat16"),
        ({"out": X.copy()}, TypeError, "out: expected two, for y and total"),
        ({"out": (X[:, :4].copy(), None)}, ValueError, r"out \(y\): expected shape \[4, 5\]"),
        ({"out": (None, X.astype("f2"))}, TypeError, r"out \(total\): expected float32, got float16"),
        ({"out": (read_only(X), None)}, ValueError, r"out \(y\): the array is read-only"),
        ({"out": (None, read_only(X))}, ValueError, r"out \(total\): the array is read-only"),
    ],
)
def test_refusals(changes: dict, error: type[Exception], message: str) -> None:
    out = np.full((4, 5), 7, "f4"), np.full((4, 5), 7, "f4")
    with pytest.raises(error, match=message):
        pyln.add_layer_norm(**{"input": X, "residual": X, "normalized_shape": 5, "out": out, **changes})
    assert (np.array(out) == 7).all()


def test_overlaps_are_refused() -> None:
    memory = np.arange(60, dtype="f4")
    x, residual = memory[:20].reshape(4, 5), memory[20:40].reshape(4, 5)
    place = memory[40:].reshape(4, 5)
    before = memory.copy()
    for out, message in [
        ((place, place), r"out \(y\): overlaps out \(total\)"),
        ((x, x), r"out \(y\): overlaps"),
        ((memory[5:25].reshape(4, 5), None), r"out \(y\): overlaps input"),
        ((None, memory[15:35].reshape(4, 5)), r"out \(total\): overlaps input"),
        ((None, memory[25:45].reshape(4, 5)), r"out \(total\): overlaps residual"),
        ((residual[::-1], None), r"out \(y\): overlaps residual"),
    ]:
        with pytest.raises(ValueError, match=message):
            pyln.add_layer_norm(x, residual, 5, out=out)
    with pytest.raises(ValueError, match=r"out \(total\): overlaps residual"):
        pyln.add_layer_norm(x, place[:1], 5, out=(None, place))
    with pytest.raises(ValueError, match=r"out \(y\): overlaps input_bias"):
        pyln.add_layer_norm(x, residual, 5, input_bias=place[0], out=(place, None))
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grad_total": X[:3]}, ValueError, r"grad_total: expected shape \[4, 5\] as total has"),
        ({"grad_total": X.astype("f2")}, TypeError, "grad_total: expected float32 to go with total, got float16"),
        ({"grad_out": X.astype("f8")}, TypeError, "grad_out: expected float32 or float16 or bfloat16 to go with total"),
        ({"total": X.astype("i4")}, TypeError, "total: expected float32"),
        ({"mean": X}, ValueError, r"mean: expected shape \[4, 1\], as layer_norm returns it"),
        ({"output_mask": (True,)}, TypeError, "output_mask: expected three, for input, weight and bias"),
        (
            {"out": (None, W, None), "output_mask": (1, 0, 1)},
            ValueError,
            r"out \(grad_weight\): given, but output_mask",
        ),
    ],
)
def test_refusals_of_backward(changes: dict, error: type[Exception], message: str) -> None:
    stats = {"mean": np.zeros((4, 1), "f4"), "rstd": np.ones((4, 1), "f4")}
    given = {"grad_out": X, "grad_total": X, "total": X, "normalized_shape": 5, **stats}
    with pytest.raises(error, match=message):
        pyln.add_layer_norm_backward(**{**given, **changes})
