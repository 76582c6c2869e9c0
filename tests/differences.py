"""Gradients by finite differences, and a comparison of bits; for float64 and for all types."""

from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray


def check_gradients(
    loss: Callable[[], float], arguments: Sequence[Array], gradients: Sequence[Array | None], h: float = 1e-5
) -> None:
    """Hold each gradient against what a small step in each element of its argument does to the loss."""
    for argument, gradient in zip(arguments, gradients, strict=True):
        assert gradient is not None and gradient.shape == argument.shape
        for index in np.ndindex(argument.shape):
            kept = argument[index]
            losses = []
            for argument[index] in (kept - h, kept + h):
                losses.append(loss())
            argument[index] = kept
            np.testing.assert_allclose(gradient[index], (losses[1] - losses[0]) / (2 * h), rtol=1e-6, atol=1e-7)


def assert_same(got: Array, expected: Array) -> None:
    """The same type, shape and bits; but one NaN is as another."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    unsigned = np.dtype(f"u{got.itemsize}")
    a, b = (np.ascontiguousarray(v).view(unsigned) for v in (got, expected))
    if got.dtype.kind not in "iu":
        nan = np.isnan(got)
        assert np.array_equal(nan, np.isnan(expected))
        a, b = np.where(nan, 0, a), np.where(nan, 0, b)
    np.testing.assert_array_equal(a, b)
