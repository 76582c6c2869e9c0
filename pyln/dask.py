"""Layer and RMS normalization of dask arrays, forward and backward, chunked along any axes.

Where chunks hold whole rows, each is a call of pyln's own function. Where rows are split, the chunks give their
moments, which are merged in the order of the chunks, and applied to each. All is lazy, and its bits depend on the
chunks alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal, overload

import numpy as np

try:
    import dask.array
    from dask.array import Array as DaskArray
except ImportError as error:
    raise ImportError('pyln.dask needs dask: pip install "pyln[dask]"') from error

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape
from pyln._call import LAYER, RMS, Settings
from pyln._norm import Norm, each, look_at, saved_statistics
from pyln.building_blocks import (
    GradMoments,
    Moments,
    apply_grad_moments,
    apply_moments,
    grad_moments,
    merge_grad_moments,
    merge_moments,
    moments,
)
from pyln.functional import layer_norm as pyln_layer_norm
from pyln.functional import layer_norm_backward as pyln_layer_norm_backward
from pyln.functional import rms_norm as pyln_rms_norm
from pyln.functional import rms_norm_backward as pyln_rms_norm_backward

Axis = int | Sequence[int]
Chunks = tuple[tuple[int, ...], ...]

__all__ = ["layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward"]

da: Any = dask.array  # which has types in part

# How many chunks' gradients of the parameters one task adds up.
SUMMED_AT_A_TIME = 16


@overload
def layer_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: Axis | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> DaskArray: ...
@overload
def layer_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: Axis | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[DaskArray, DaskArray, DaskArray]: ...
def layer_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    axis: Axis | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> DaskArray | tuple[DaskArray, DaskArray, DaskArray]:
    """Normalize each example over its last axes, as ``pyln.layer_norm``.

    Parameters
    ----------
    input
        dask array of NumPy arrays, in chunks of known sizes.
    weight, bias
        NumPy or dask arrays; chunked as input, whatever their chunks were. Those for each example need chunks that hold
        whole rows.
    normalized_shape, eps, axis, dtype, return_stats, zero_centered, round_steps
        As in ``pyln.layer_norm``.

    Returns
    -------
    y, or (y, mean, rstd)
        As ``pyln.layer_norm``, as dask arrays with input's chunks. Where chunks hold whole rows, the same bits; else
        within the same bounds.

    Raises
    ------
    TypeError, ValueError
        As ``pyln.layer_norm``, at once and not when the result is computed; also for an input that is no dask array, or
        whose chunks have unknown sizes.

    """
    job = _Job(LAYER, input, normalized_shape, weight, bias, axis)
    y, *statistics = job.forward(eps, dtype, return_stats, zero_centered, round_steps)
    return (y, statistics[0], statistics[1]) if return_stats else y


@overload
def rms_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: Axis | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> DaskArray: ...
@overload
def rms_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: Axis | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[DaskArray, DaskArray]: ...
def rms_norm(
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    eps: float | None = None,
    *,
    axis: Axis | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> DaskArray | tuple[DaskArray, DaskArray]:
    """Divide each example by its root mean square, as ``pyln.rms_norm``.

    Parameters
    ----------
    input, normalized_shape, weight, axis, dtype, return_stats, zero_centered, round_steps
        As in ``layer_norm``.
    eps
        As in ``pyln.rms_norm``.

    Returns
    -------
    y, or (y, rstd)
        As ``pyln.rms_norm``, as dask arrays with input's chunks.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    job = _Job(RMS, input, normalized_shape, weight, None, axis)
    y, *statistics = job.forward(eps, dtype, return_stats, zero_centered, round_steps)
    return (y, statistics[0]) if return_stats else y


def layer_norm_backward(
    grad_out: DaskArray,
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None,
    mean: DaskArray,
    rstd: DaskArray,
    weight: object = None,
    bias: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    axis: Axis | None = None,
    zero_centered: bool = False,
) -> tuple[DaskArray | None, DaskArray | None, DaskArray | None]:
    """Gradients of layer_norm, as ``pyln.layer_norm_backward``.

    Parameters
    ----------
    grad_out
        dask array of input's shape; chunked as input, whatever its chunks were.
    input, normalized_shape, weight, bias, axis, zero_centered
        As given to ``layer_norm``.
    mean, rstd
        As ``layer_norm(..., return_stats=True)`` returned them. Where chunks split the rows, the mean is found once
        more from input, as it takes more digits there than one number has.
    output_mask
        Which of the three gradients are wanted.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        As ``pyln.layer_norm_backward``, as dask arrays: grad_input with input's chunks, and the other two with those
        that input has along the normalized axes; None where masked. Where chunks hold whole rows, grad_input has the
        same bits; all are within the same bounds.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    job = _Job(LAYER, input, normalized_shape, weight, bias, axis)
    grads = job.backward(grad_out, mean, rstd, output_mask, zero_centered)
    return grads[0], grads[1], grads[2]


def rms_norm_backward(
    grad_out: DaskArray,
    input: DaskArray,
    normalized_shape: int | Sequence[int] | None,
    rstd: DaskArray,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True),
    *,
    axis: Axis | None = None,
    zero_centered: bool = False,
) -> tuple[DaskArray | None, DaskArray | None]:
    """Gradients of rms_norm, as ``pyln.rms_norm_backward``.

    Parameters
    ----------
    grad_out, input, normalized_shape, weight, output_mask, axis, zero_centered
        As in ``layer_norm_backward``, without the bias.
    rstd
        As ``rms_norm(..., return_stats=True)`` returned it.

    Returns
    -------
    (grad_input, grad_weight)
        As ``layer_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    job = _Job(RMS, input, normalized_shape, weight, None, axis)
    grads = job.backward(grad_out, None, rstd, output_mask, zero_centered)
    return grads[0], grads[1]


class _Job:
    """A dask array, the axes over which it is normalized, and its weight and bias, which have been looked at.

    Blocks of the weight and of the bias have as many axes as those of the input.
    """

    def __init__(
        self,
        operation: int,
        input: DaskArray,
        normalized_shape: int | Sequence[int] | None,
        weight: object,
        bias: object,
        axis: Axis | None,
    ) -> None:
        self.x = input
        outline = _outline("input", input)
        gamma, beta = (_outline(name, p) if _is_dask(p) else p for name, p in (("weight", weight), ("bias", bias)))
        self.norm: Norm = look_at(operation, outline, normalized_shape, gamma, beta, axis)
        self.indices = tuple(range(input.ndim))
        self.axes = tuple(range(*self.norm.axes))
        self.split = any(len(input.chunks[a]) > 1 for a in self.axes)
        self.stat_chunks: Chunks = tuple((1,) if a in self.axes else c for a, c in enumerate(input.chunks))
        self.weight = self._spread("weight", self.norm.weight, weight)
        self.bias = self._spread("bias", self.norm.bias, bias)

    def _spread(self, name: str, known: Array | None, given: Any) -> DaskArray | None:
        """Return weight or bias with as many axes as the input, and its chunks where they are not 1."""
        if known is None:
            return None
        parameter: Any = given if _is_dask(given) else known
        begin, end = self.norm.axes
        if known.shape == self.norm.norm_shape:
            parameter = parameter[(*(None,) * begin, ..., *(None,) * (self.x.ndim - end))]
        elif self.split:
            raise ValueError(
                f"{name}: one for each example needs chunks that hold whole rows; first "
                f"input.rechunk({dict.fromkeys(self.axes, -1)})"
            )
        chunks = self._parameter_chunks(parameter.shape)
        blocks: DaskArray = da.rechunk(da.asarray(parameter, chunks=chunks), chunks)
        return blocks

    def _parameter_chunks(self, shape: Shape) -> Chunks:
        """Return the chunks of a parameter of as many axes as the input."""
        pairs = enumerate(zip(self.x.chunks, shape, strict=True))
        return tuple(chunks if a in self.axes or size != 1 else (1,) for a, (chunks, size) in pairs)

    def forward(
        self, eps: float | None, dtype: Any, return_stats: bool, zero_centered: bool, round_steps: bool
    ) -> list[DaskArray]:
        """Return y, and the statistics if they are wanted."""
        norm, nothing = self.norm, np.empty((0,) * self.x.ndim, self.x.dtype)
        y_type = arguments.result("out", None, nothing, dtype).dtype
        eps = arguments.epsilon(eps, self.x.dtype, norm.operation == RMS)
        options: dict[str, Any] = dict(axes=self.axes, y_type=y_type, eps=eps)
        options |= dict(zero_centered=bool(zero_centered), round_steps=bool(round_steps))
        names = ["mean", "rstd"] if norm.operation == LAYER else ["rstd"]
        if self.split:
            moments = self._moments()
            pieces = (self.x, moments, self.weight, self.bias)
            rows: dict[str, Any] = dict(rms=norm.operation == RMS, count=math.prod(norm.norm_shape))
            y = self._blockwise(_apply, y_type, pieces, **rows, **options)
            of_all = dict(operation=norm.operation, eps=eps)
            return [y, *(self._statistic(moments, name, **of_all) for name in names if return_stats)]
        arrays = (self.x, self.weight, self.bias)
        options |= dict(operation=norm.operation, return_stats=bool(return_stats))
        results = self._blockwise(_normalize, y_type, arrays, **options)
        if not return_stats:
            return [results]
        kinds = [(self.x.chunks, y_type), *((self.stat_chunks, norm.real) for _ in names)]
        return [_nth(results, i, *kind) for i, kind in enumerate(kinds)]

    def backward(
        self, grad_out: DaskArray, mean: object, rstd: object, output_mask: Sequence[bool], zero_centered: bool
    ) -> list[DaskArray | None]:
        """Return the gradients of the input and of the parameters that the operation has."""
        norm, x = self.norm, self.x
        arriving = arguments.tensor("grad_out", _outline("grad_out", grad_out), arguments.companions(x.dtype))
        arguments.same_shape("grad_out", arriving, x.shape, "input")
        given: dict[str, Any] = {"mean": mean, "rstd": rstd} if norm.operation == LAYER else {"rstd": rstd}
        outlines = {name: _outline(name, statistic) for name, statistic in given.items()}
        saved_statistics(norm, outlines.get("mean"), outlines["rstd"])
        statistics = [da.rechunk(statistic, self.stat_chunks) for statistic in given.values()]
        names = ("input", "weight", "bias")[: 1 + len(given)]
        mask = tuple(bool(wanted) for wanted in each("output_mask", output_mask, names))
        dy: DaskArray = da.rechunk(grad_out, x.chunks)
        options: dict[str, Any] = dict(axes=self.axes, zero_centered=bool(zero_centered))
        if self.split:
            rms = norm.operation == RMS
            options |= dict(rms=rms, count=math.prod(norm.norm_shape))
            moments = self._blockwise(_with_rstd, norm.real, (self._moments(), statistics[-1]), 5)
            blocks: tuple[DaskArray | None, ...] = (dy, x, moments, self.weight)
            pieces = self._blockwise(_grad_moments, norm.real, blocks, 4, of_pieces=True, **options)
            blocks += (self._merge(_merge_grad_moments, pieces),)
            results = self._blockwise(_apply_backward, x.dtype, blocks, output_mask=mask, **options)
        else:
            options |= dict(operation=norm.operation)
            blocks = (dy, x, *statistics, self.weight, self.bias)
            results = self._blockwise(_gradients, x.dtype, blocks, output_mask=mask, **options)
        grads: list[DaskArray | None] = [_nth(results, 0, x.chunks, x.dtype) if mask[0] else None]
        for i, shape in enumerate(norm.parameter_shapes()[: len(given)], 1):
            grads.append(self._sum(results, i, shape) if mask[i] else None)
        return grads

    def _moments(self) -> DaskArray:
        """Return the moments of the whole rows, with a last axis of 5."""
        rms = self.norm.operation == RMS
        pieces = self._blockwise(_moments, self.norm.real, (self.x,), 5, of_pieces=True, axes=self.axes, rms=rms)
        return self._merge(_merge_moments, pieces, rms=rms)

    def _statistic(self, moments: DaskArray, name: str, **options: Any) -> DaskArray:
        """Return mean or rstd."""
        kernel, meta = partial(_statistic, name=name, **options), np.empty((0,) * self.x.ndim, self.norm.real)
        array: DaskArray = da.map_blocks(kernel, moments, drop_axis=self.x.ndim, dtype=self.norm.real, meta=meta)
        return array

    def _blockwise(
        self,
        kernel: Callable[..., Any],
        dtype: np.dtype[Any],
        arrays: Sequence[DaskArray | None],
        numbers: int = 0,
        of_pieces: bool = False,
        **options: Any,
    ) -> DaskArray:
        """Call the kernel on the blocks at each place. Its results have the input's axes and, if asked, one of numbers.

        Where it says something of_pieces of rows, their axes are 1.
        """
        ndim = self.x.ndim
        operands: list[Any] = []
        for array in arrays:
            operands += [array, None if array is None else tuple(range(array.ndim))]
        is_new = all(array is None or array.ndim == ndim for array in arrays)
        blocks: DaskArray = da.blockwise(
            partial(kernel, **options),
            (*self.indices, *((ndim,) if numbers else ())),
            *operands,
            new_axes={ndim: numbers} if numbers and is_new else None,
            adjust_chunks={a: (1,) * self.x.numblocks[a] for a in self.axes} if of_pieces else None,
            align_arrays=False,
            concatenate=True,
            dtype=dtype,
            meta=np.empty((0,) * (ndim + (numbers > 0)), dtype),
        )
        return blocks

    def _merge(self, kernel: Callable[..., Array], pieces: DaskArray, **options: Any) -> DaskArray:
        """Give what is known of the pieces of some rows, side by side, to one call."""
        ndim = self.x.ndim
        merged = {a: ndim + 1 + a for a in self.axes}
        counts = [math.prod(sizes) for sizes in itertools.product(*(self.x.chunks[a] for a in self.axes))]
        blocks: DaskArray = da.blockwise(
            partial(kernel, axes=self.axes, counts=counts, **options),
            (*(merged.get(a, a) for a in self.indices), ndim),
            pieces,
            (*self.indices, ndim),
            new_axes=dict.fromkeys(merged.values(), 1),
            concatenate=True,
            dtype=self.norm.real,
            meta=np.empty((0,) * (ndim + 1), self.norm.real),
        )
        return blocks

    def _sum(self, results: DaskArray, i: int, shape: Shape) -> DaskArray:
        """Add up the i-th of the blocks' results, the gradient of a parameter of that shape."""
        begin, end = self.norm.axes
        ndim, is_shared = self.x.ndim, shape == self.norm.norm_shape
        spread = (1,) * begin + shape + (1,) * (ndim - end) if is_shared else shape
        summed = tuple(a for a in self.indices if a not in self.axes and spread[a] == 1)
        chunks = enumerate(self._parameter_chunks(spread))
        parts = _nth(
            results, i, tuple((1,) * self.x.numblocks[a] if a in summed else c for a, c in chunks), self.norm.real
        )
        if any(parts.numblocks[a] > 1 for a in summed):
            parts = da.reduction(
                parts,
                chunk=_nothing_lost,
                combine=_add_up,
                aggregate=_rounded_sum,
                axis=summed,
                keepdims=True,
                concatenate=False,
                dtype=self.norm.real,
                split_every=SUMMED_AT_A_TIME,
                meta=np.empty((0,) * ndim, self.norm.real),
            )
        return parts[tuple(slice(None) if a in self.axes else 0 for a in self.indices)] if is_shared else parts


# ---- What is asked for ----


def _is_dask(value: object) -> bool:
    return isinstance(value, DaskArray)


def _outline(name: str, value: object) -> Array:
    """Return an array of the same shape and type that takes no memory, so that it can be looked at at once."""
    if not isinstance(value, DaskArray):
        raise TypeError(
            f"{name}: expected a dask array, got {type(value).__name__}; use dask.array.from_array({name}), "
            f"or pyln's own function for arrays in memory"
        )
    arguments.tensor(name, value._meta)  # the type of its chunks
    for axis, size in enumerate(value.shape):
        if math.isnan(size):
            raise ValueError(
                f"{name}: the sizes of its chunks along axis {axis} are not known; first {name}.compute_chunk_sizes()"
            )
    return np.broadcast_to(np.empty((), value.dtype), value.shape)


def _nth(results: DaskArray, i: int, chunks: Chunks, dtype: np.dtype[Any]) -> DaskArray:
    """Return the array of the i-th results of blocks that have several."""
    meta = np.empty((0,) * len(chunks), dtype)
    array: DaskArray = da.map_blocks(partial(_item, i=i), results, chunks=chunks, dtype=dtype, meta=meta)
    return array


def _item(results: Sequence[Array], i: int) -> Array:
    return results[i]


# ---- What is done with blocks that hold whole rows ----


def _parameter(parameter: Array | None, x: Array, axes: Shape) -> Array | None:
    """Return a parameter that all rows of a block share in the shape in which the functions know that."""
    shape = tuple(x.shape[a] for a in axes)
    return parameter if parameter is None or parameter.size != math.prod(shape) else parameter.reshape(shape)


def _normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    operation: int,
    axes: Shape,
    y_type: np.dtype[Any],
    **options: Any,
) -> Any:
    weight, bias = _parameter(weight, x, axes), _parameter(bias, x, axes)
    parameters = (weight,) if operation == RMS else (weight, bias)
    norm: Any = pyln_rms_norm if operation == RMS else pyln_layer_norm
    return norm(x, None, *parameters, axis=axes, dtype=y_type, **options)


def _gradients(
    dy: Array, x: Array, *more: Array | None, operation: int, axes: Shape, output_mask: Sequence[bool], **options: bool
) -> list[Array | None]:
    *statistics, weight, bias = more
    weight, bias = _parameter(weight, x, axes), _parameter(bias, x, axes)
    parameters = (weight,) if operation == RMS else (weight, bias)
    backward: Any = pyln_rms_norm_backward if operation == RMS else pyln_layer_norm_backward
    return _spread_out(backward(dy, x, None, *statistics, *parameters, output_mask, axis=axes, **options), x, axes)


def _spread_out(grads: Sequence[Array | None], x: Array, axes: Shape) -> list[Array | None]:
    """Give the gradients of parameters as many axes as x."""
    ones = (None,) * axes[0], (None,) * (x.ndim - 1 - axes[-1])
    return [g if g is None or g.ndim == x.ndim else g[(*ones[0], ..., *ones[1])] for g in grads]


# ---- What is done with pieces of rows ----


def _aligned(values: Array) -> Array:
    """Return numbers, which may have come at an odd place of a message, as the library takes them."""
    return np.require(values, requirements="A")


def _moments(x: Array, *, axes: Shape, rms: bool) -> Array:
    return moments(x, axes, rms=rms).values


def _merge_moments(values: Array, *, axes: Shape, counts: Sequence[int], rms: bool) -> Array:
    pieces = zip(counts, _side_by_side(values, axes), strict=True)
    return reduce(merge_moments, (Moments(count, piece, rms) for count, piece in pieces)).values


def _merge_grad_moments(values: Array, *, axes: Shape, counts: Sequence[int]) -> Array:
    pieces = zip(counts, _side_by_side(values, axes), strict=True)
    return reduce(merge_grad_moments, (GradMoments(count, piece) for count, piece in pieces)).values


def _side_by_side(values: Array, axes: Shape) -> list[Array]:
    values = _aligned(values)
    places = itertools.product(*(range(values.shape[a]) for a in axes))
    before = (slice(None),) * axes[0]
    return [values[(*before, *(slice(i, i + 1) for i in place))] for place in places]


def _apply(
    x: Array,
    moments: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    axes: Shape,
    rms: bool,
    count: int,
    y_type: np.dtype[Any],
    **options: Any,
) -> Array:
    weight, bias = _parameter(weight, x, axes), _parameter(bias, x, axes)
    return apply_moments(x, Moments(count, _aligned(moments), rms), weight, bias, axis=axes, dtype=y_type, **options)


def _statistic(moments: Array, *, operation: int, eps: float, name: str) -> Array:
    """Return mean or rstd as the library rounds them: of rows of one number, whose moments are these."""
    rows = math.prod(moments.shape[:-1])
    result = np.empty(rows, moments.dtype)
    if rows:
        one = np.zeros((rows, 1, 1), moments.dtype)
        code = arguments.type_code(moments.dtype)
        arrays = {
            "x": one,
            "y": one.copy(),
            "moments": np.ascontiguousarray(_aligned(moments)).reshape(rows, -1),
            name: result,
        }
        settings = (*Settings(operation, code, code, code, 0, eps), 0)
        _core.run("apply_moments", settings, arrays, frozenset({"y", name}))
    return result.reshape(moments.shape[:-1])


def _with_rstd(moments: Array, rstd: Array) -> Array:
    """Return the moments with the variance for which, without an eps, the given rstd is what follows."""
    values, info = moments.copy(), np.finfo(moments.dtype)
    limit = info.maxexp // 3  # so that products of two are in range
    _, exponent = np.frexp(rstd)
    scale = np.ldexp(rstd.dtype.type(1), exponent - np.clip(exponent, -limit, limit))
    values[..., :2] *= (scale / moments[..., 4])[..., None]
    values[..., 2], values[..., 3] = _one_over_square(rstd / scale)
    values[..., 4] = scale
    return values


def _one_over_square(a: Array) -> tuple[Array, Array]:
    """Return 1 / (a * a) as two numbers, of which the second is what the first lost; 0 for 0."""
    square, lost = _product(a, a)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.where(square == 0, 0, 1 / square)
        product, rest = _product(quotient, square)
        return quotient, np.where(square == 0, 0, quotient * ((1 - product) - rest - quotient * lost))


def _product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a * b as two numbers, the second what the first lost. (Dekker, 1971.)"""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(a: Array) -> tuple[Array, Array]:
    digits = np.finfo(a.dtype).nmant + 1
    larger = a * a.dtype.type(2 ** ((digits + 1) // 2) + 1)
    high = larger - (larger - a)
    return high, a - high


def _grad_moments(
    dy: Array,
    x: Array,
    moments: Array,
    weight: Array | None,
    *,
    axes: Shape,
    rms: bool,
    count: int,
    **options: bool,
) -> Array:
    of_rows = Moments(count, _aligned(moments), rms)
    return grad_moments(dy, x, of_rows, _parameter(weight, x, axes), 0.0, axis=axes, **options).values


def _apply_backward(
    dy: Array,
    x: Array,
    moments: Array,
    weight: Array | None,
    grad_moments: Array,
    *,
    axes: Shape,
    rms: bool,
    count: int,
    output_mask: Sequence[bool],
    **options: bool,
) -> list[Array | None]:
    wanted = (*output_mask, False)[:3]
    of_rows, of_grads = Moments(count, _aligned(moments), rms), GradMoments(count, _aligned(grad_moments))
    weight = _parameter(weight, x, axes)
    grads = apply_grad_moments(dy, x, of_rows, of_grads, weight, 0.0, axis=axes, output_mask=wanted, **options)
    return _spread_out(grads, x, axes)


# ---- Sums over blocks: pairs of a sum and what it lost, along a first axis ----


def _nothing_lost(part: Array, axis: Shape, keepdims: bool) -> Array:
    return np.stack([part, np.zeros_like(part)])


def _add_up(parts: Any, axis: Shape, keepdims: bool) -> Array:
    return reduce(_add, _flat(parts))


def _rounded_sum(parts: Any, axis: Shape, keepdims: bool) -> Array:
    total: Array = _add_up(parts, axis, keepdims).sum(axis=0)
    return total


def _flat(parts: Any) -> list[Array]:
    """Return the arrays in lists of lists, or the only one."""
    return [array for part in parts for array in _flat(part)] if isinstance(parts, list) else [parts]


def _add(a: Array, b: Array) -> Array:
    """Add two pairs; the error of the addition is what it is exactly. (Knuth's two-sum.)"""
    total = a[0] + b[0]
    of_b = total - a[0]
    error = (a[0] - (total - of_b)) + (b[0] - of_b)
    return np.stack([total, a[1] + b[1] + error])
