"""A weight and a bias for each example: each row is as a call of its own with the row's parameters."""

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
SHAPE = (2, 3, 4, 6)
LEADING = [
    tuple(n if keep else 1 for n, keep in zip(SHAPE[:3], mask, strict=True))
    for mask in itertools.product((0, 1), repeat=3)
]


def values(rng: Generator, shape: tuple[int, ...], dtype: object) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def row_by_row(x: Array, dy: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array, Array, Array]:
    """y, dx and the terms of dgamma and dbeta of each row, with shared-weight calls."""
    n = x.shape[-1]
    results = [np.empty_like(x), np.empty_like(x)]
    results += [np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32) for _ in range(2)]
    for i in np.ndindex(x.shape[:-1]):
        w, b = (None if p is None else np.ascontiguousarray(np.broadcast_to(p, x.shape)[i]) for p in (weight, bias))
        y, mean, rstd = pyln.layer_norm(x[i], n, w, b, return_stats=True)
        for result, value in zip(
            results, (y, *pyln.layer_norm_backward(dy[i], x[i], n, mean, rstd, w, b)), strict=True
        ):
            result[i] = value
    return tuple(results)


def summed(terms: Array, shape: tuple[int, ...]) -> Array:
    axes = tuple(range(terms.ndim - len(shape))) + tuple(
        i for i, n in enumerate(shape, terms.ndim - len(shape)) if n == 1 and terms.shape[i] != 1
    )
    return terms.sum(axes, dtype=np.float64).reshape(shape)


@pytest.mark.parametrize("x_type", ["float32", "float64", "float16", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("leading", LEADING, ids=str)
def test_is_as_a_loop_of_calls(rng: Generator, leading: tuple[int, ...], x_type: object) -> None:
    x, dy = values(rng, SHAPE, x_type), values(rng, SHAPE, x_type)
    real = np.float64 if x_type == "float64" else np.float32
    for other, param_type in itertools.product((None, (), leading, (2, 1, 1), (1, 3, 1)), {x_type, real}):
        weight = values(rng, (*leading, 6), param_type)
        bias = None if other is None else values(rng, (*other, 6), param_type)
        y, dx, dgamma, dbeta = row_by_row(x, dy, weight, bias)
        got, mean, rstd = pyln.layer_norm(x, 6, weight, bias, return_stats=True)
        assert_same(got, y)
        grads = pyln.layer_norm_backward(dy, x, 6, mean, rstd, weight, bias)
        assert_same(grads[0], dx)
        shapes = weight.shape, weight.shape if bias is None else bias.shape
        for grad, terms, shape in zip(grads[1:], (dgamma, dbeta), shapes, strict=True):
            assert grad.dtype == real
            np.testing.assert_allclose(grad, summed(terms, shape), rtol=0, atol=32 * np.finfo(real).eps)


@pytest.mark.parametrize("leading", LEADING, ids=str)
def test_rms_norm(rng: Generator, leading: tuple[int, ...], dtype: np.dtype) -> None:
    x, dy, weight = values(rng, SHAPE, dtype), values(rng, SHAPE, dtype), values(rng, (*leading, 6), dtype)
    y, rstd = pyln.rms_norm(x, 6, weight, return_stats=True)
    dx, dgamma = pyln.rms_norm_backward(dy, x, 6, rstd, weight)
    assert dgamma.shape == weight.shape
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight)]
    expected = torch.nn.functional.rms_norm(leaves[0], (6,)) * leaves[1]
    expected.backward(torch.from_numpy(dy))
    tolerance = {"rtol": 0, "atol": 32 * np.finfo(dtype).eps}
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(dx, leaves[0].grad.numpy(), **tolerance)
    np.testing.assert_allclose(dgamma, leaves[1].grad.numpy(), **tolerance)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, (1, 2)])
@pytest.mark.parametrize("mask", list(itertools.product((0, 1), repeat=4)))
def test_axes_in_the_middle(
    rng: Generator, axis: int | tuple[int, ...], mask: tuple[int, ...], dtype: np.dtype
) -> None:
    axes = tuple(np.atleast_1d(axis))
    shape = tuple(n if keep or i in axes else 1 for i, (n, keep) in enumerate(zip(SHAPE, mask, strict=True)))
    x, dy = values(rng, SHAPE, dtype), values(rng, SHAPE, dtype)
    weight, bias = values(rng, shape, dtype), values(rng, shape, dtype)
    row = tuple(SHAPE[a] for a in axes)
    last = tuple(range(-len(axes), 0))
    moved = [np.ascontiguousarray(np.moveaxis(a, axes, last)) for a in (x, dy, weight, bias)]
    expected, mean, rstd = pyln.layer_norm(moved[0], row, *moved[2:], return_stats=True)
    expected_grads = pyln.layer_norm_backward(moved[1], moved[0], row, mean, rstd, *moved[2:])
    for order in ("C", "F"):
        xs, dys = np.asarray(x, order=order), np.asarray(dy, order=order)
        y, mean, rstd = pyln.layer_norm(xs, None, weight, bias, axis=axis, return_stats=True)
        assert_same(y, np.moveaxis(expected, last, axes))
        grads = pyln.layer_norm_backward(dys, xs, None, mean, rstd, weight, bias, axis=axis)
        assert_same(grads[0], np.moveaxis(expected_grads[0], last, axes))
        for grad, other in zip(grads[1:], expected_grads[1:], strict=True):
            assert grad.shape == shape
            bound = 64 * np.finfo(dtype).eps
            np.testing.assert_allclose(grad, np.moveaxis(other, last, axes), rtol=0, atol=bound)


def test_adaptive_layer_norm(rng: Generator) -> None:
    """As diffusion transformers do: scale and shift of each example, the scale without its 1."""
    x, dy = rng.standard_normal((2, 5, 7, 16))
    scale, shift = rng.standard_normal((2, 5, 1, 16))
    y, mean, rstd = pyln.layer_norm(x, 16, scale, shift, 1e-6, zero_centered=True, return_stats=True)
    grads = pyln.layer_norm_backward(dy, x, 16, mean, rstd, scale, shift, zero_centered=True)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, scale, shift)]
    expected = torch.nn.functional.layer_norm(leaves[0], (16,), eps=1e-6) * (1 + leaves[1]) + leaves[2]
    expected.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-14)
    for grad, leaf in zip(grads, leaves, strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=0, atol=1e-13)


def test_finite_differences(rng: Generator) -> None:
    x, dy = rng.standard_normal((2, 2, 3, 5))
    for shape, other in itertools.product(((2, 1, 5), (1, 3, 5), (2, 3, 5), (5,)), repeat=2):
        weight, bias = rng.standard_normal(shape), rng.standard_normal(other)
        _, mean, rstd = pyln.layer_norm(x, 5, weight, bias, return_stats=True)
        grads = pyln.layer_norm_backward(dy, x, 5, mean, rstd, weight, bias)
        check_gradients(lambda: float(np.sum(dy * pyln.layer_norm(x, 5, weight, bias))), (x, weight, bias), grads)


def test_which_gradients_are_wanted_and_where(rng: Generator, dtype: np.dtype) -> None:
    x, dy = values(rng, (2, 5, 4, 6), dtype)
    weight, bias = values(rng, (5, 1, 6), dtype), values(rng, (1, 4, 6), dtype)
    _, mean, rstd = pyln.layer_norm(x, 6, return_stats=True)
    every = pyln.layer_norm_backward(dy, x, 6, mean, rstd, weight, bias)
    for mask in itertools.product((False, True), repeat=3):
        got = pyln.layer_norm_backward(dy, x, 6, mean, rstd, weight, bias, mask)
        for a, b, wanted in zip(got, every, mask, strict=True):
            if wanted:
                np.testing.assert_allclose(a, b, rtol=0, atol=32 * np.finfo(dtype).eps)
            else:
                assert a is None
    places = [np.ones((5, 1, 12), dtype)[..., ::2], np.ones((6, 4, 1), dtype).T]
    got = pyln.layer_norm_backward(dy, x, 6, mean, rstd, weight, bias, out=(None, *places), accumulate=True)
    for place, total, grad in zip(places, got[1:], every[1:], strict=True):
        assert total is place
        np.testing.assert_allclose(place, 1 + grad, rtol=0, atol=32 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 2, 0)])
@pytest.mark.parametrize("mask", list(itertools.product((0, 1), repeat=2)))
def test_no_elements(shape: tuple[int, int, int], mask: tuple[int, int], dtype: np.dtype) -> None:
    x = np.zeros(shape, dtype)
    weight = np.ones((*(n if keep else 1 for n, keep in zip(shape[:2], mask, strict=True)), shape[2]), dtype)
    y, mean, rstd = pyln.layer_norm(x, shape[2], weight, weight, return_stats=True)
    assert y.shape == shape
    dx, dgamma, dbeta = pyln.layer_norm_backward(x, x, shape[2], mean, rstd, weight, weight)
    assert dx.shape == shape and dgamma.shape == dbeta.shape == weight.shape
    assert not dgamma.any() and not dbeta.any()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ((2, 1, 6), r"weight of shape \[2, 1, 6\] and normalized_shape = \[6\]; one for each example has input's size"),
        ((5, 4, 1), "one for each example"),
        ((5, 6), r"got weight of shape \[5, 6\] and normalized_shape = \[6\]$"),
        ((1, 5, 4, 6), r"got weight of shape \[1, 5, 4, 6\] and normalized_shape = \[6\]$"),
    ],
)
def test_refusals(weight: tuple[int, ...], message: str) -> None:
    x = np.ones((5, 4, 6), np.float32)
    out = np.full(x.shape, 7, np.float32)
    with pytest.raises(ValueError, match=message):
        pyln.layer_norm(x, 6, np.ones(weight, np.float32), out=out)
    assert (out == 7).all()
    given = np.ones((5, 1, 6), np.float32)
    with pytest.raises(ValueError, match=r"out \(grad_weight\): expected shape \[5, 1, 6\], got \[6\]"):
        pyln.layer_norm_backward(x, x, 6, x[..., :1], x[..., :1], given, out=(None, np.ones(6, np.float32), None))
