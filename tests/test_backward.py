"""pyln.layer_norm_backward: PyTorch's semantics, every layout of memory, and the rows at the edge."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from test_layer_norm import EPS, LAYOUTS, WRITABLE, layouts

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator
Gradients = tuple[Array | None, Array | None, Array | None]


def plain(dy: Array, x: Array, k: int = 1, weight: Array | None = None) -> Gradients:
    """Gradients over the last k axes of C-contiguous copies: what other layouts must give, bit for bit."""
    dy, x = np.array(dy, order="C"), np.array(x, order="C")
    row = x.shape[x.ndim - k :]
    _, mean, rstd = pyln.layer_norm(x, row, eps=EPS, return_stats=True)
    return pyln.layer_norm_backward(dy, x, row, mean, rstd, weight)


def equal(got: Sequence[Array | None], expected: Sequence[Array | None]) -> bool:
    return all(a is b is None or np.array_equal(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True))


def agree(got: Sequence[Array], expected: Sequence[Array]) -> None:
    """grad_input bit for bit; the sums over rows, whose order follows the memory, to a few units in the last place."""
    np.testing.assert_array_equal(got[0], expected[0])
    for total, other in zip(got[1:], expected[1:], strict=True):
        bound = 64 * np.finfo(total.dtype).eps * max(1, abs(other).max(initial=0))
        np.testing.assert_allclose(total, other, rtol=0, atol=bound)


# ---- Parity with PyTorch, and with the meaning of a gradient ----


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(
    ("shape", "k"), [((7,), 1), ((3, 5), 1), ((3, 5), 2), ((32, 20, 10), 1), ((4, 25, 128), 1), ((2, 3, 8, 9), 3)]
)
def test_values_are_pytorchs(rng: Generator, dtype: np.dtype, shape: tuple[int, ...], k: int, affine: bool) -> None:
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    row = shape[len(shape) - k :]
    weight, bias = rng.standard_normal((2, *row)).astype(dtype) if affine else np.ones((2, *row), dtype)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    torch.nn.functional.layer_norm(leaves[0], row, leaves[1], leaves[2], 1e-5).backward(torch.from_numpy(dy))
    _, mean, rstd = pyln.layer_norm(x, row, weight, bias, return_stats=True)
    parameters = (weight, bias) if affine else (None, None)
    got = pyln.layer_norm_backward(dy, x, row, mean, rstd, *parameters)
    for value, leaf in zip(got, leaves, strict=True):
        expected = leaf.grad.numpy()
        assert value is not None and value.dtype == dtype and value.shape == expected.shape
        tolerance = 16 * np.finfo(dtype).eps * abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.5])
@pytest.mark.parametrize("keywords", [{"normalized_shape": 4}, {"normalized_shape": (3, 4)}, {"axis": 1}, {"axis": 0}])
def test_finite_differences(rng: Generator, keywords: dict[str, object], eps: float) -> None:
    keywords = {"normalized_shape": None, **keywords}
    x, dy = rng.standard_normal((2, 5, 3, 4))
    row = {"(3, 4)": (3, 4), "4": (4,)}.get(str(keywords["normalized_shape"])) or (x.shape[keywords["axis"]],)
    weight, bias = rng.standard_normal((2, *row))
    _, mean, rstd = pyln.layer_norm(x, weight=weight, bias=bias, eps=eps, return_stats=True, **keywords)
    gradients = pyln.layer_norm_backward(dy, x, mean=mean, rstd=rstd, weight=weight, bias=bias, **keywords)
    h = 1e-5
    for argument, gradient in zip((x, weight, bias), gradients, strict=True):
        assert gradient is not None and gradient.shape == argument.shape
        for index in np.ndindex(argument.shape):
            kept, losses = argument[index], []
            for argument[index] in (kept - h, kept + h):
                losses.append(np.sum(dy * pyln.layer_norm(x, weight=weight, bias=bias, eps=eps, **keywords)))
            argument[index] = kept
            assert gradient[index] == pytest.approx((losses[1] - losses[0]) / (2 * h), rel=1e-6, abs=1e-7)


def test_torch_gives_the_same_for_the_same_statistics(rng: Generator) -> None:
    """The argument order of native_layer_norm_backward, whatever mean and rstd are."""
    dy, x = rng.standard_normal((2, 6, 5))
    mean, rstd = x.mean(1, keepdims=True), rng.uniform(0.5, 2, (6, 1))
    weight, bias = rng.standard_normal((2, 5))
    arguments = [torch.from_numpy(a) for a in (dy, x, mean, rstd, weight, bias)]
    expected = torch.ops.aten.native_layer_norm_backward(*arguments[:2], (5,), *arguments[2:], (True, True, True))
    got = pyln.layer_norm_backward(dy, x, (5,), mean, rstd, weight, bias, (True, True, True))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-14)


# ---- What is wanted, and where it goes ----


def test_output_mask(rng: Generator, dtype: np.dtype) -> None:
    for rows in (3, 100):
        dy, x = rng.standard_normal((2, rows, 33)).astype(dtype)
        weight = rng.standard_normal(33).astype(dtype)
        _, mean, rstd = pyln.layer_norm(x, 33, eps=EPS, return_stats=True)
        every = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight)
        for mask in itertools.product((False, True), repeat=3):
            got = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight, None, mask)
            assert equal(got, [g if wanted else None for g, wanted in zip(every, mask, strict=True)])


def test_out_takes_some_of_three(rng: Generator, dtype: np.dtype) -> None:
    dy, x = rng.standard_normal((2, 40, 33)).astype(dtype)
    _, mean, rstd = pyln.layer_norm(x, 33, eps=EPS, return_stats=True)
    expected = plain(dy, x)
    for given in itertools.product((False, True), repeat=3):
        out = [np.full_like(e, np.nan) if g else None for e, g in zip(expected, given, strict=True)]
        got = pyln.layer_norm_backward(dy, x, 33, mean, rstd, out=out)
        assert equal(got, expected) and all(o is None or o is g for o, g in zip(out, got, strict=True))


def test_parameter_gradients_into_strided_arrays(rng: Generator, dtype: np.dtype) -> None:
    dy, x = rng.standard_normal((2, 40, 5, 6)).astype(dtype)
    _, mean, rstd = pyln.layer_norm(x, (5, 6), eps=EPS, return_stats=True)
    expected = plain(dy, x, 2)
    for a, b in [
        (np.empty((5, 12), dtype)[:, ::2], np.empty((6, 5), dtype).T),
        (np.empty((5, 6), dtype)[::-1, ::-1], np.empty((2, 5, 6), dtype)[1]),
    ]:
        got = pyln.layer_norm_backward(dy, x, (5, 6), mean, rstd, out=(None, a, b))
        assert got[1] is a and got[2] is b and equal(got, expected)


# ---- Layouts ----


@pytest.mark.parametrize("axis", [0, 1, -2, (0, 1), (1, 2), (2, 3), (0, 1, 2), (3, 2, 1, 0)])
def test_axis(rng: Generator, dtype: np.dtype, axis: int | Sequence[int]) -> None:
    dy, x = rng.standard_normal((2, 3, 4, 5, 6)).astype(dtype)
    axes = sorted(a % 4 for a in np.atleast_1d(axis))
    last = tuple(range(-len(axes), 0))
    weight = rng.standard_normal([x.shape[a] for a in axes]).astype(dtype)
    dx, dgamma, dbeta = plain(np.moveaxis(dy, axes, last), np.moveaxis(x, axes, last), len(axes), weight)
    expected = np.moveaxis(dx, last, axes), dgamma, dbeta
    _, mean, rstd = pyln.layer_norm(x, None, eps=EPS, axis=axis, return_stats=True)
    agree(pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=axis), expected)
    got = pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=axis, out=(x, None, None))
    assert got[0] is x
    agree(got, expected)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(rng: Generator, dtype: np.dtype, name: str, k: int) -> None:
    x = layouts(rng, dtype)[name]
    other = rng.standard_normal(x.shape).astype(dtype)
    row = x.shape[4 - k :]
    weight = rng.standard_normal(row).astype(dtype)
    before = x.copy()
    for dy, inputs in ((other, x), (x, other), (x, x)):
        _, mean, rstd = pyln.layer_norm(inputs, row, eps=EPS, return_stats=True)
        got = pyln.layer_norm_backward(dy, inputs, row, mean, rstd, weight)
        agree(got, plain(dy, inputs, k, weight))
        assert np.array_equal(x, before)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("name", WRITABLE)
def test_in_place_of_any_layout(rng: Generator, dtype: np.dtype, name: str, k: int) -> None:
    given = layouts(rng, dtype)[name].copy()
    other = rng.standard_normal(given.shape).astype(dtype)
    row = given.shape[4 - k :]
    for place in ("out", "grad_out", "input"):
        target = layouts(rng, dtype)[name]
        target[...] = given
        dy, x = (target, other) if place == "grad_out" else (other, target if place == "input" else given)
        expected = plain(dy, x, k)
        _, mean, rstd = pyln.layer_norm(x, row, eps=EPS, return_stats=True)
        got = pyln.layer_norm_backward(dy, x, row, mean, rstd, out=(target, None, None))
        assert got[0] is target
        agree(got, expected)


def test_statistics_and_weight_of_any_stride(rng: Generator, dtype: np.dtype) -> None:
    dy, x = rng.standard_normal((2, 6, 5, 7)).astype(dtype)
    weight = rng.standard_normal(14).astype(dtype)[::2]
    _, mean, rstd = pyln.layer_norm(x, 7, eps=EPS, return_stats=True)
    twice = np.repeat(mean, 2, axis=1)[:, ::2]
    expected = plain(dy, x, 1, weight.copy())
    assert equal(pyln.layer_norm_backward(dy, x, 7, twice, np.asfortranarray(rstd), weight), expected)


def test_inputs_do_not_change(rng: Generator, dtype: np.dtype) -> None:
    dy, x = rng.standard_normal((2, 70, 33)).astype(dtype)
    weight, bias = rng.standard_normal((2, 33)).astype(dtype)
    _, mean, rstd = pyln.layer_norm(x, 33, weight, bias, return_stats=True)
    given = dy, x, mean, rstd, weight, bias
    before = [a.copy() for a in given]
    pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight, bias)
    assert equal(given, before)


# ---- Rows at the edge ----


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("cols", [2, 16, 100])
def test_nan_and_infinity_spoil_their_own_row_of_dx(rng: Generator, dtype: np.dtype, cols: int, bad: float) -> None:
    dy, x = rng.standard_normal((2, 9, cols)).astype(dtype)
    dx, dgamma, dbeta = plain(dy, x)
    for spoilt_dy, spoilt_x in ((dy.copy(), x), (dy, x.copy())):
        (spoilt_x if spoilt_dy is dy else spoilt_dy)[4, 1] = bad
        got = plain(spoilt_dy, spoilt_x)
        assert np.isnan(got[0][4]).all()
        assert np.array_equal(np.delete(got[0], 4, 0), np.delete(dx, 4, 0))
        assert not np.isfinite(got[1][1])
        if spoilt_dy is dy:
            assert np.isnan(got[1]).all() and np.array_equal(got[2], dbeta)
        else:
            assert equal([np.delete(a, 1) for a in got[1:]], [np.delete(a, 1) for a in (dgamma, dbeta)])


def test_rows_of_dx_do_not_depend_on_their_neighbours(rng: Generator, dtype: np.dtype) -> None:
    dy, x = rng.standard_normal((2, 70, 33)).astype(dtype)
    dx, _, _ = plain(dy, x)
    for i in (0, 1, 5, 63, 64, 69):
        assert np.array_equal(plain(dy[i : i + 1], x[i : i + 1])[0], dx[i : i + 1])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (2, 0, 3), (2, 3, 0), (0,)])
def test_no_elements(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    none = np.empty(shape, dtype)
    _, mean, rstd = pyln.layer_norm(none, shape[-1], return_stats=True)
    dx, dgamma, dbeta = pyln.layer_norm_backward(none, none, shape[-1], mean, rstd, np.ones(shape[-1], dtype))
    assert dx.shape == shape
    assert np.array_equal(dgamma, np.zeros(shape[-1])) and np.array_equal(dbeta, np.zeros(shape[-1]))
    out = np.full(shape[-1], np.nan, dtype)
    pyln.layer_norm_backward(none, none, shape[-1], mean, rstd, out=(None, None, out))
    assert np.array_equal(out, np.zeros(shape[-1]))


@pytest.mark.parametrize("rows", [1, 5, 64, 1000])
def test_one_column(rng: Generator, dtype: np.dtype, rows: int) -> None:
    dy, x = rng.standard_normal((2, rows, 1)).astype(dtype)
    weight = np.array([0.3], dtype)
    dx, dgamma, dbeta = plain(dy, x, 1, weight)
    assert dgamma.tolist() == [0]
    assert abs(dbeta[0] - dy.sum(dtype=np.longdouble)) <= 2 * np.finfo(dtype).eps * abs(dy).sum()
    # g - mean(g) is what rounding dy * weight loses, far below the last bit of g.
    assert (abs(dx) <= np.finfo(dtype).eps ** 2 * abs(dy) * EPS**-0.5).all()


def test_constant_rows(rng: Generator, dtype: np.dtype) -> None:
    """With eps they have a gradient like others; without, rstd and dx are 0."""
    x = np.full((3, 17), 0.1, dtype)
    dy = rng.standard_normal((3, 17)).astype(dtype)
    for eps in (0.0, EPS):
        _, mean, rstd = pyln.layer_norm(x, 17, eps=eps, return_stats=True)
        dx, dgamma, dbeta = pyln.layer_norm_backward(dy, x, 17, mean, rstd)
        expected = rstd * (dy - dy.mean(1, keepdims=True))
        np.testing.assert_allclose(dx, expected, rtol=0, atol=8 * np.finfo(dtype).eps * rstd.max())
        assert not dgamma.any()
        np.testing.assert_allclose(dbeta, dy.sum(0), rtol=0, atol=4 * np.finfo(dtype).eps)
