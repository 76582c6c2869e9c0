"""Rows in several pieces: types, layouts, refusals. numerics/test_accuracy.py has the errors."""

import itertools
import warnings

import ml_dtypes
import numpy as np
import pytest
from differences import assert_same

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator
LONG = np.longdouble

F16, BF16, F32, F64 = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_squares_that_vanish_or_overflow(rng: Generator, dtype: np.dtype, exponent: int, rms: bool, eps: float) -> None:
    """Also a piece of small numbers beside one of large ones."""
    exponent = exponent if dtype == F32 else 9 * exponent
    x = rng.standard_normal((5, 300)).astype(dtype)
    for sizes in ((exponent, exponent), (exponent, 0), (0, exponent)):
        scaled = x.copy()
        for s, size in zip((slice(0, 100), slice(100, 300)), sizes, strict=True):
            scaled[:, s] = np.ldexp(x[:, s], size)
        parts = [pyln.moments(scaled[:, s], rms=rms) for s in (slice(0, 100), slice(100, 300))]
        both = pyln.merge_moments(*parts)
        norm = pyln.rms_norm if rms else pyln.layer_norm
        got = np.hstack([pyln.apply_moments(scaled[:, s], both, eps=eps) for s in (slice(0, 100), slice(100, 300))])
        expected = norm(scaled, 300, eps=eps)
        bound = 8 * np.finfo(dtype).eps * np.maximum(abs(expected), 1)
        assert (abs(got - expected) <= bound).all()
        assert (np.frexp(both.scale)[0] == 0.5).all()


def test_moments_of_whole_rows(rng: Generator, dtype: np.dtype) -> None:
    x = (rng.standard_normal((4, 300)) + 1e4).astype(dtype)
    whole = pyln.moments(x)
    wide = x.astype(LONG)
    u = np.finfo(dtype).eps / 2
    assert whole.count == 300 and not whole.rms
    assert whole.mean.shape == whole.var.shape == whole.scale.shape == (4, 1)
    assert whole.mean.dtype == dtype
    assert (abs(whole.mean - wide.mean(1, keepdims=True)) <= 2 * u * abs(whole.mean)).all()
    np.testing.assert_allclose(whole.var, wide.var(1, keepdims=True).astype(dtype), rtol=4 * u)
    np.testing.assert_allclose(
        whole.mean.astype(LONG) + whole.mean_lost, wide.mean(1, keepdims=True), rtol=float(u) ** 1.5
    )
    squares = pyln.moments(x, rms=True)
    assert squares.rms and not squares.mean.any() and not squares.mean_lost.any()
    np.testing.assert_allclose(squares.var, (wide * wide).mean(1, keepdims=True).astype(dtype), rtol=4 * u)
    np.testing.assert_array_equal(pyln.apply_moments(x, whole), pyln.layer_norm(x, 300))


@pytest.mark.parametrize("half", [F16, BF16], ids=str)
def test_16_bits_are_float32_rounded_once(rng: Generator, half: np.dtype) -> None:
    x, dy = (rng.standard_normal((5, 70)).astype(half) for _ in range(2))
    for param_type, y_type in itertools.product((half, F32), (half, F32)):
        weight, bias = (rng.standard_normal(70).astype(param_type) for _ in range(2))
        moments, wide = pyln.moments(x), pyln.moments(x.astype(F32))
        assert_same(moments.values, wide.values)
        y = pyln.apply_moments(x, moments, weight, bias, dtype=y_type)
        expected = pyln.apply_moments(x.astype(F32), wide, weight.astype(F32), bias.astype(F32))
        assert_same(y, expected.astype(y_type))
        got = pyln.grad_moments(dy, x, moments, weight)
        grad_moments = pyln.grad_moments(dy.astype(F32), x.astype(F32), wide, weight.astype(F32))
        assert_same(got.values, grad_moments.values)
        grads = pyln.apply_grad_moments(dy, x, moments, got, weight)
        wide_grads = pyln.apply_grad_moments(dy.astype(F32), x.astype(F32), wide, got, weight.astype(F32))
        assert_same(grads[0], wide_grads[0].astype(half))
        assert_same(grads[1], wide_grads[1])


@pytest.mark.parametrize("axis", [0, 1, -1, (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("rms", [False, True])
def test_any_axis_and_layout(rng: Generator, dtype: np.dtype, axis: int | tuple[int, ...], rms: bool) -> None:
    x, dy = rng.standard_normal((2, 3, 4, 5)).astype(dtype)
    row = tuple(x.shape[a] for a in np.atleast_1d(axis))
    weight, bias = rng.standard_normal((2, *row)).astype(dtype)
    first = None
    for change in (
        np.array,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, -1)[..., ::2],
        lambda a: np.flip(np.flip(a).copy()),
    ):
        xs, dys = change(x), change(dy)
        moments = pyln.moments(xs, axis, rms=rms)
        out = np.empty_like(xs)
        y = pyln.apply_moments(xs, moments, weight, bias, axis=axis, out=out)
        assert y is out
        grad_moments = pyln.grad_moments(dys, xs, moments, weight, axis=axis)
        grads = pyln.apply_grad_moments(dys, xs, moments, grad_moments, weight, axis=axis)
        results = (moments.values, y, grad_moments.values, grads[0])
        first = results if first is None else first
        for a, b in zip(results, first, strict=True):
            np.testing.assert_array_equal(a, b)
        if not rms:
            expected, mean, rstd = pyln.layer_norm(x, None, weight, bias, axis=axis, return_stats=True)
            tolerance = {"rtol": 0, "atol": 16 * np.finfo(dtype).eps}
            np.testing.assert_allclose(y, expected, **tolerance)
            for a, b in zip(grads, pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=axis), strict=True):
                np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("rms", [False, True])
def test_options(rng: Generator, dtype: np.dtype, rms: bool) -> None:
    """One plus the weight is the weight itself where the sum is exact; steps are rounded as in a whole row."""
    half = np.dtype(np.float16 if dtype == F32 else dtype)
    x, dy = rng.standard_normal((2, 4, 50)).astype(half)
    weight = rng.integers(-8, 8, 50).astype(half)
    moments = pyln.moments(x, rms=rms)
    for call in (
        lambda w, **options: pyln.apply_moments(x, moments, w, **options),
        lambda w, **options: pyln.grad_moments(dy, x, moments, w, **options).values,
        lambda w, **options: pyln.apply_grad_moments(
            dy, x, moments, pyln.grad_moments(dy, x, moments, weight), w, **options
        )[0],
    ):
        assert_same(call(weight - 1, zero_centered=True), call(weight))
    norm = pyln.rms_norm if rms else pyln.layer_norm
    assert_same(
        pyln.apply_moments(x, moments, weight, eps=1e-5, round_steps=True),
        norm(x, 50, weight, eps=1e-5, round_steps=True),
    )


def test_statistics_from_elsewhere(rng: Generator, dtype: np.dtype) -> None:
    x = rng.standard_normal((4, 50)).astype(dtype)
    mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    moments = pyln.Moments.of(50, mean, var)
    np.testing.assert_array_equal(moments.mean, mean)
    np.testing.assert_array_equal(moments.var, var)
    assert (moments.scale == 1).all() and not moments.mean_lost.any() and not moments.var_lost.any()
    tolerance = {"rtol": 0, "atol": 32 * np.finfo(dtype).eps}
    np.testing.assert_allclose(pyln.apply_moments(x, moments), pyln.layer_norm(x, 50), **tolerance)
    squares = pyln.Moments.of(50, None, (x * x).mean(1, keepdims=True), rms=True)
    np.testing.assert_allclose(pyln.apply_moments(x, squares), pyln.rms_norm(x, 50, eps=1e-5), **tolerance)
    np.testing.assert_allclose(pyln.merge_moments(squares, squares).var, squares.var, **tolerance)


def test_a_piece_may_be_empty(rng: Generator, dtype: np.dtype) -> None:
    x, dy = rng.standard_normal((2, 3, 10)).astype(dtype)
    whole, none = pyln.moments(x), pyln.moments(x[:, :0])
    assert none.count == 0
    for both in (pyln.merge_moments(whole, none), pyln.merge_moments(none, whole)):
        assert both.count == 10
        np.testing.assert_array_equal(both.values, whole.values)
    grads, no_grads = pyln.grad_moments(dy, x, whole), pyln.grad_moments(dy[:, :0], x[:, :0], whole)
    for both in (pyln.merge_grad_moments(grads, no_grads), pyln.merge_grad_moments(no_grads, grads)):
        np.testing.assert_array_equal(both.values, grads.values)
    assert pyln.apply_moments(x[:, :0], whole).shape == (3, 0)
    assert pyln.moments(x[:0]).values.shape == (0, 1, 5)
    assert pyln.merge_moments(pyln.moments(x[:0]), pyln.moments(x[:0])).values.shape == (0, 1, 5)


def test_which_gradients(rng: Generator, dtype: np.dtype) -> None:
    x, dy = rng.standard_normal((2, 3, 10)).astype(dtype)
    moments = pyln.moments(x)
    grad_moments = pyln.grad_moments(dy, x, moments)
    every = pyln.apply_grad_moments(dy, x, moments, grad_moments)
    for mask in itertools.product((False, True), repeat=3):
        got = pyln.apply_grad_moments(dy, x, moments, grad_moments, output_mask=mask)
        for a, b, wanted in zip(got, every, mask, strict=True):
            assert np.array_equal(a, b) if wanted else a is None


# ---- Refusals ----

X = np.arange(20, dtype="f4").reshape(4, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: pyln.moments(X, 2), ValueError, "axis: 2 is out of range"),
        (lambda m: pyln.moments(X.astype(int)), TypeError, "input: expected float32"),
        (lambda m: pyln.apply_moments(X, (1, 2)), TypeError, "moments: expected pyln.Moments, got tuple"),
        (lambda m: pyln.apply_moments(X[:3], m), ValueError, r"moments: expected values of float32 \[3, 1, 5\]"),
        (lambda m: pyln.apply_moments(X.astype("f8"), m), ValueError, r"expected values of float64 \[4, 1, 5\]"),
        (lambda m: pyln.apply_moments(X, m, axis=0), ValueError, r"expected values of float32 \[1, 5, 5\]"),
        (lambda m: pyln.apply_moments(X, m, X), ValueError, "Expected weight to be of same shape"),
        (lambda m: pyln.apply_moments(X, m, eps=-1), ValueError, "eps: "),
        (lambda m: pyln.apply_moments(X, m, dtype="float64"), TypeError, "dtype: expected float32"),
        (lambda m: pyln.apply_moments(X, m, out=X[::-1]), ValueError, "out: overlaps input"),
        (
            lambda m: pyln.merge_moments(m, pyln.moments(X[:3])),
            ValueError,
            r"b: expected values of float32 \[4, 1, 5\]",
        ),
        (lambda m: pyln.merge_moments(m, pyln.moments(X, rms=True)), ValueError, "b: expected moments with rms=False"),
        (lambda m: pyln.grad_moments(X[:3], X, m), ValueError, r"grad_out: expected shape \[4, 5\] as input has"),
        (
            lambda m: pyln.apply_grad_moments(X, X, m, pyln.grad_moments(X[:, :3], X[:, :3], m)),
            ValueError,
            "grad_moments: expected those of rows of 5 elements, as moments are, got 3",
        ),
        (
            lambda m: pyln.apply_grad_moments(X, X, m, pyln.GradMoments(5, np.zeros((3, 1, 4), "f4"))),
            ValueError,
            r"grad_moments: expected values of float32 \[4, 1, 4\]",
        ),
        (
            lambda m: pyln.apply_grad_moments(X, X, m, pyln.grad_moments(X, X, m), output_mask=(True,)),
            TypeError,
            "output_mask: expected three, for input, weight and bias",
        ),
        (
            lambda m: pyln.Moments(5, np.zeros((4, 1, 3), "f4")),
            ValueError,
            r"Moments values: expected a last axis of 5, got shape \[4, 1, 3\]",
        ),
        (
            lambda m: pyln.Moments(-1, np.zeros((4, 1, 5), "f4")),
            ValueError,
            "Moments count: expected a number of elements, got -1",
        ),
        (lambda m: pyln.Moments(5.0, np.zeros((4, 1, 5), "f4")), TypeError, "Moments count: expected an int, got 5.0"),
        (
            lambda m: pyln.Moments(5, np.frombuffer(bytes(81), "f4", 20, 1).reshape(4, 1, 5)),
            ValueError,
            "Moments values: the array is not aligned for float32",
        ),
        (
            lambda m: pyln.Moments(5, np.zeros((4, 1, 5), "f2")),
            TypeError,
            "Moments values: expected float32 or float64",
        ),
        (lambda m: pyln.GradMoments(5, [1.0]), TypeError, "GradMoments values: expected a NumPy array, got list"),
        (lambda m: pyln.Moments.of(5, X, X[:2]), ValueError, "mean: expected shape"),
        (lambda m: pyln.Moments.of(5, X, X, rms=True), ValueError, "mean: expected None with rms=True"),
        (lambda m: pyln.Moments.of(5, None, X), ValueError, "mean: expected an array with rms=False"),
    ],
)
def test_refusals(call: object, error: type[Exception], message: str) -> None:
    before = X.copy()
    with pytest.raises(error, match=message):
        call(pyln.moments(X))
    np.testing.assert_array_equal(X, before)


def test_merges_refuse_what_they_do_not_know():
    x = np.arange(24, dtype="f4").reshape(4, 6)
    moments = pyln.moments(x)
    grads = pyln.grad_moments(x, x, moments)
    for function, good, wrong in [
        (pyln.merge_moments, moments, grads),
        (pyln.merge_grad_moments, grads, moments),
    ]:
        for other in (wrong, None, good.values, {"count": 6, "values": good.values}, "moments"):
            for name, pair in {"a": (other, good), "b": (good, other)}.items():
                with pytest.raises(TypeError, match=f"^{name}: expected pyln.{type(good).__name__}, got "):
                    function(*pair)
        many = type(good)(2**63 - 1, good.values)
        with pytest.raises(ValueError, match=r"^b: expected rows of less than 2\*\*63 elements together"):
            function(many, good)
    for call in (
        lambda other: pyln.apply_moments(x, other),
        lambda other: pyln.grad_moments(x, x, other),
        lambda other: pyln.apply_grad_moments(x, x, other, grads),
    ):
        with pytest.raises(TypeError, match=r"^moments: expected pyln.Moments, got "):
            call(grads)
    with pytest.raises(TypeError, match=r"^grad_moments: expected pyln.GradMoments, got "):
        pyln.apply_grad_moments(x, x, moments, moments)
    for count, expected in ((2**63, "no more than 64 bits"), (-1, "a number of elements")):
        with pytest.raises(ValueError, match=f"^Moments count: expected {expected}, got {count}$"):
            pyln.Moments(count, moments.values)


def test_moments_whose_arrays_have_changed():
    """An array can be given another shape where it is; five numbers to a row are read of it, whatever it says."""
    x = np.arange(24, dtype="f4").reshape(4, 6)
    a, b = pyln.moments(x), pyln.moments(x)
    for moments in (a, b):
        with warnings.catch_warnings(action="ignore"):
            moments.values.shape = (20, 1)
    with pytest.raises(ValueError, match=r"^Moments values: expected a last axis of 5"):
        pyln.merge_moments(a, b)
