"""How the arrays of one call are seen as outer x norm x inner: by their strides where these allow it, else copied."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from pyln._arguments import Array, Shape

Arrays = dict[str, Array]


class Layout:
    """The axes of one call's tensors in three groups, the same for all of them: outer, normalized, inner.

    inner are the leading axes whose elements lie next to each other in all tensors, as in channels-first images and in
    Fortran order; there are none where the normalized elements do. Parameters may not vary along them. A tensor is
    copied where no single stride leads along its normalized axes, or, if `contiguous`, where that is not one element;
    and, if `whole`, where none leads along its outer axes.
    """

    def __init__(
        self,
        axes: tuple[int, int],
        tensors: Collection[Array],
        varying: Collection[int],
        contiguous: bool,
        whole: bool,
        in_order_of: Array | None,
    ) -> None:
        begin, end = axes
        shape = next(iter(tensors)).shape
        leading = [i for i in (*range(begin), *range(end, len(shape))) if shape[i] != 1]
        steps = {id(t): _step(t.strides[begin:end], shape[begin:end], t.itemsize) for t in tensors}
        self.contiguous = contiguous
        self.whole = whole
        self.inner: list[int] = []
        if not contiguous and 0 not in shape:
            usable = [t for t in tensors if self._is_norm_step(steps[id(t)], t.itemsize)]
            if any(steps[id(t)] != t.itemsize for t in usable):
                self.inner = _neighbours(usable, [i for i in leading if i not in varying])
        self.outer = [i for i in (*range(begin), *range(end, len(shape))) if i not in self.inner]
        if in_order_of is not None:
            self.outer.sort(key=lambda i: -abs(in_order_of.strides[i]))
        self.order = [*self.outer, *range(begin, end), *self.inner]
        self.outer_shape: Shape = tuple(shape[i] for i in self.outer)
        self.norm = math.prod(shape[begin:end])
        self.inner_size = math.prod(shape[i] for i in self.inner)

    def _is_norm_step(self, step: int | None, itemsize: int) -> bool:
        return step is not None and (step == itemsize if self.contiguous else step % itemsize == 0)

    def _moved(self, array: Array) -> Array:
        return array.transpose(*self.order, *range(len(self.order), array.ndim))

    def tensor(self, array: Array) -> Array:
        """The tensor with the axes (*outer, norm, inner): a view, or a copy."""
        moved = self._moved(array)
        k, end = len(self.outer), len(self.order) - len(self.inner)
        strides, shape, itemsize = moved.strides, moved.shape, moved.itemsize
        if array.size == 0:
            return np.empty((*shape[:k], self.norm, self.inner_size), array.dtype)
        usable = (
            self._is_norm_step(_step(strides[k:end], shape[k:end], itemsize), itemsize)
            and _step(strides[end:], shape[end:], itemsize) == itemsize
            and not any(stride % itemsize for stride, n in zip(strides[:k], shape[:k], strict=True) if n != 1)
            and (not self.whole or _step(strides[:k], shape[:k], 0) is not None)
        )
        return (moved if usable else np.ascontiguousarray(moved)).reshape(*shape[:k], self.norm, self.inner_size)

    def parameter(self, array: Array) -> Array:
        """A parameter, which has an input's axes, 1 or in full, as (*outer, elements) without gaps."""
        moved = self._moved(array)
        k = len(self.outer)
        return np.ascontiguousarray(moved).reshape(*moved.shape[:k], math.prod(moved.shape[k:]))

    def statistic(self, array: Array) -> Array:
        """Numbers for each row, with an input's axes, 1 for normalized ones, as (*outer, inner, ...) without gaps."""
        rest = array.shape[len(self.order) :]
        return np.ascontiguousarray(self._moved(array)).reshape(*self.outer_shape, self.inner_size, *rest)

    def write_back(self, seen: Array, array: Array) -> None:
        """Copy what was computed in a copy of the array into it; seen is what one of the above returned."""
        if seen.size and not np.may_share_memory(seen, array):
            moved = self._moved(array)
            moved[...] = seen.reshape(moved.shape)


def _step(strides: Sequence[int], shape: Sequence[int], otherwise: int) -> int | None:
    """The one stride that leads through all elements of these axes, or None; `otherwise` for a single element."""
    step = reach = None
    for stride, size in zip(reversed(strides), reversed(shape), strict=True):
        if size == 0:
            return otherwise
        if size != 1:
            if reach not in (None, stride):
                return None
            step = stride if step is None else step
            reach = stride * size
    return otherwise if step is None else step


def _neighbours(tensors: Sequence[Array], candidates: list[int]) -> list[int]:
    """The axes, in order, through which elements follow each other without gaps in all tensors."""
    found: list[int] = []
    reach = 1
    while following := [i for i in candidates if all(t.strides[i] == reach * t.itemsize for t in tensors)]:
        found.insert(0, following[0])
        candidates.remove(following[0])
        reach *= tensors[0].shape[following[0]]
    return found


def pieces(arrays: Arrays, tensors: Collection[str], outer: int) -> Iterator[Arrays]:
    """Cut the arrays along the first of their outer axes until one stride leads through the others in each tensor.

    Arrays that are 1 along an axis stay whole there.
    """
    if all(_step(arrays[name].strides[:outer], arrays[name].shape[:outer], 0) is not None for name in tensors):
        yield arrays
        return
    for i in range(max(arrays[name].shape[0] for name in tensors)):
        part = {name: a[i if a.shape[0] != 1 else 0] for name, a in arrays.items()}
        yield from pieces(part, tensors, outer - 1)


def repetition(outer: Shape, varying: Sequence[bool]) -> tuple[Shape, int]:
    """Along which outer axes parameters or residuals are stored, and for how many rows on end one of theirs is used.

    The C library knows two ways: those of the first axes, each for some rows, or those of the last, again and again.
    Returns the shape they must have to be one of the two, the smaller.
    """
    along = [i for i, varies in enumerate(varying) if varies and outer[i] != 1]
    if not along:
        return (1,) * len(outer), math.prod(outer)
    first, last = along[0], along[-1] + 1
    leading = outer[:last] + (1,) * (len(outer) - last)
    trailing = (1,) * first + outer[first:]
    if math.prod(trailing) < math.prod(leading):
        return trailing, 1
    return leading, math.prod(outer[last:])
