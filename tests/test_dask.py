"""pyln.dask beside pyln: chunks of whole rows give the same bits, split rows keep the bounds, schedulers change nothing."""

import contextlib
import io
import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import rows
from commands import ROOT
from differences import assert_same
from errors import BOUNDS, DGAMMA, Errors, measure
from forms import Case, Results
from test_accuracy import ABOVE, check, make, variants

import pyln

dask = pytest.importorskip("dask", reason="needs dask")
distributed = pytest.importorskip("distributed", reason="needs distributed")
da = pytest.importorskip("dask.array", reason="needs dask")
import pyln.dask as pd  # noqa: E402

Array = np.ndarray
Generator = np.random.Generator
Chunks = tuple[tuple[int, ...], ...]

TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]

# Of arrays of 7 x 5 x 30: first whole rows of the last axis, then split ones, also of one element and of none.
WHOLE_ROWS: list[Chunks] = [((7,), (5,), (30,)), ((1,) * 7, (2, 3), (30,)), ((3, 0, 4), (1, 4), (30,))]
SPLIT_ROWS: list[Chunks] = [((7,), (5,), (16, 14)), ((2, 5), (1, 4), (7, 3, 20)), ((3, 4), (5,), (1, 0, 28, 1))]


@pytest.fixture(autouse=True)
def in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes."""
    settings = {"distributed.comm.timeouts.connect": "60s", "distributed.scheduler.worker-saturation": 1.0}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=":0", memory_limit=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def numbers(rng: Generator, dtype: Any, shape: tuple[int, ...] = (7, 5, 30)) -> tuple[Array, Array]:
    return (rng.standard_normal(shape) + 10).astype(dtype), rng.standard_normal(shape).astype(dtype)


def everything(
    module: Any, rms: bool, x: Any, dy: Any, weight: Any, bias: Any, *, options: Any = None, **axis: Any
) -> list[Any]:
    """y, the statistics and the gradients, by pyln or by pyln.dask."""
    options = options or {}
    backward_options = {name: value for name, value in options.items() if name == "zero_centered"} | axis
    if rms:
        y, rstd = module.rms_norm(x, None, weight, return_stats=True, **axis, **options)
        return [y, rstd, *module.rms_norm_backward(dy, x, None, rstd, weight, **backward_options)]
    y, mean, rstd = module.layer_norm(x, None, weight, bias, return_stats=True, **axis, **options)
    return [y, mean, rstd, *module.layer_norm_backward(dy, x, None, mean, rstd, weight, bias, **backward_options)]


def parameters(rng: Generator, x: Array, axis: Any) -> tuple[Array, Array]:
    weight, bias = rng.standard_normal((2, *(x.shape[a] for a in np.atleast_1d(axis)))).astype(x.dtype)
    return weight, bias


def check_kind(lazy: list[Any], computed: tuple[Array, ...], x: Any, axes: list[int]) -> None:
    """What the dask arrays say of themselves is so; y and grad_input are chunked as x, parameters along its rows."""
    for array, block in zip(lazy, computed, strict=True):
        assert array.dtype == block.dtype and array.shape == block.shape
    *first, grad_x, grad_weight = lazy if len(lazy) == 4 else lazy[:-1]
    statistics = tuple((1,) if a in axes else c for a, c in enumerate(x.chunks))
    assert first[0].chunks == grad_x.chunks == x.chunks
    assert all(statistic.chunks == statistics for statistic in first[1:])
    assert grad_weight.chunks == lazy[-1].chunks == tuple(x.chunks[a] for a in axes)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("chunks", WHOLE_ROWS, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_chunks_of_whole_rows_give_the_same_bits(rng: Generator, dtype: Any, chunks: Chunks, rms: bool) -> None:
    x, dy = numbers(rng, dtype)
    for axis, order in ((-1, (0, 1, 2)), (0, (2, 1, 0)), ((1, 2), (0, 1, 2)), (1, (0, 2, 1))):
        own = tuple(chunks[i] for i in order) if axis != (1, 2) else (chunks[0], (5,), (30,))
        values, gradients = (np.ascontiguousarray(a.transpose(order)) for a in (x, dy))
        lazy, lazy_gradients = (da.from_array(a, chunks=own) for a in (values, gradients))
        weight, bias = parameters(rng, values, axis)
        got = everything(pd, rms, lazy, lazy_gradients, weight, bias, axis=axis)
        computed = dask.compute(*got)
        check_kind(got, computed, lazy, [a % 3 for a in np.atleast_1d(axis)])
        expected = everything(pyln, rms, values, gradients, weight, bias, axis=axis)
        sums = 1 if rms else 2
        for a, b in zip(computed[:-sums], expected[:-sums], strict=True):
            assert_same(a, b)
        one_chunk = all(len(c) == 1 for c in own)
        for a, b in zip(computed[-sums:], expected[-sums:], strict=True):
            scale = abs(gradients.astype(np.float64)).sum() / b.size
            np.testing.assert_allclose(a, b, rtol=0, atol=0 if one_chunk else 16 * np.finfo(b.dtype).eps * scale)


@pytest.mark.parametrize("options", [{"zero_centered": True}, {"round_steps": True}, {"dtype": "float32"}], ids=str)
@pytest.mark.parametrize("chunks", [WHOLE_ROWS[1], SPLIT_ROWS[1]], ids=str)
def test_options(rng: Generator, chunks: Chunks, options: dict[str, Any]) -> None:
    """A 16-bit y from pieces is that of the whole rows, but where a float32 is just between two of its numbers."""
    x, dy = numbers(rng, np.float16)
    weight, bias = parameters(rng, x, -1)
    for rms in (False, True):
        lazy = [da.from_array(a, chunks=chunks) for a in (x, dy)]
        got = dask.compute(*everything(pd, rms, *lazy, weight, bias, axis=-1, options=options))
        expected = everything(pyln, rms, x, dy, weight, bias, axis=-1, options=options)
        plain = everything(pyln, rms, x, dy, weight, bias, axis=-1)
        assert not np.array_equal(expected[0], plain[0]), "the option does something"
        assert got[0].dtype == expected[0].dtype
        assert (got[0] == expected[0]).mean() > (0.2 if got[0].dtype == np.float32 else 0.99)
        for a, b in zip(got, expected, strict=True):
            atol = 8 * np.finfo(b.dtype).eps * max(1, float(abs(b).max()))
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=atol)


# ---- Split rows, in u, against the exact result ----


def in_chunks(case: Case, chunks: Chunks) -> Results:
    """The rows of a case in chunks, over the last axis of the view."""
    x, dy = (da.from_array(a.reshape(case.shape), chunks=chunks) for a in (case.x, case.dy))
    gamma, beta = (None if a is None else a.reshape(-1) for a in (case.gamma, case.beta))
    if case.rms:
        y, rstd = pd.rms_norm(x, None, gamma, case.eps, axis=-1, return_stats=True)
        grads = pd.rms_norm_backward(dy, x, None, rstd, gamma, axis=-1)
        y, rstd, *grads = dask.compute(y, rstd, *grads)
        return Results(y, None, rstd, *grads, None)
    y, mean, rstd = pd.layer_norm(x, None, gamma, beta, case.eps, axis=-1, return_stats=True)
    grads = pd.layer_norm_backward(dy, x, None, mean, rstd, gamma, beta, axis=-1)
    return Results(*dask.compute(y, mean, rstd, *grads))


def cut(rng: Generator, size: int) -> tuple[int, ...]:
    """Some pieces, of any sizes."""
    cuts = sorted(rng.choice(np.arange(1, size), min(size - 1, int(rng.integers(1, 6))), replace=False))
    return tuple(int(b - a) for a, b in itertools.pairwise([0, *cuts, size]))


def errors_of(rng: Generator, case: Case, where: str, ordinary: bool | Array = False) -> Errors:
    chunks = cut(rng, case.x.shape[0]) if len(case.x) > 1 else (1,), cut(rng, case.x.shape[1])
    for each in variants(rng, case):
        yield from measure(partial(in_chunks, chunks=chunks), each, f"{where}, chunks {chunks}", ordinary)


def kinds_of_rows(rng: Generator, dtype: str) -> Errors:
    offsets = np.array(rows.offsets(dtype))[:, None]
    for (kind, values), cols in itertools.product(rows.KINDS.items(), (17, 301)):
        x = values(rng, len(offsets), cols) + offsets
        ordinary = (offsets <= 1e6) & (kind not in ("outliers", "heavy tails"))
        yield from errors_of(rng, make(rng, dtype, x), kind, ordinary)


def kinds_of_gradients(rng: Generator, dtype: str) -> Errors:
    for cols, offset in itertools.product((16, 300), (0, 1e6)):
        x = rng.standard_normal((6, cols)) + offset
        for correlation in rows.CORRELATIONS:
            dy = rows.correlated(rng, x.astype(dtype), correlation)
            yield from errors_of(rng, make(rng, dtype, x, dy), f"correlation {correlation}, mean/std {offset:g}")
        for name, gradient in rows.GRADIENTS.items():
            yield from errors_of(rng, make(rng, dtype, x, gradient(rng, x)), f"dy {name}, mean/std {offset:g}")


def short_rows(rng: Generator, dtype: str) -> Errors:
    for cols, count in itertools.product((2, 3, 5), (1, 40)):
        x = rng.standard_normal((count, cols)) + rng.choice([0, 1e4], (count, 1))
        yield from errors_of(rng, make(rng, dtype, x), "")


def one_hot_rows(rng: Generator, dtype: str) -> Errors:
    for cols, eps in itertools.product((16, 100, 384), (2.0**-17, 0.0)):
        x = rows.one_hot(rng, 8, cols)
        yield from errors_of(rng, make(rng, dtype, x, rows.like_x(rng, x), eps), f"eps {eps}")


def all_sizes(rng: Generator, dtype: str) -> Errors:
    """Rows of which squares vanish or overflow, beside ordinary ones; the sizes of docs/numerics.md."""
    info = np.finfo(dtype)
    exponents = np.linspace(info.minexp + 10, info.maxexp - 8, 16).astype(int)[:, None]
    for cols, offset, eps in itertools.product((17, 300), (0, 100), (2.0**-17, 0.0)):
        x = np.ldexp(rng.standard_normal((len(exponents), cols)) + offset, exponents - 7 * (offset > 0))
        yield from errors_of(rng, make(rng, dtype, x, eps=eps), f"mean/std {offset}, eps {eps}")


def many_chunks_of_rows(rng: Generator, dtype: str) -> Errors:
    """Gradients of the parameters are summed over them in more than one step."""
    x = rng.standard_normal((640, 20)) + 1e4
    for dy in (rng.standard_normal(x.shape) + 3, rows.normalized(x.astype(dtype))):
        for case in variants(rng, make(rng, dtype, x, dy)):
            for chunks in (((4,) * 160, (20,)), ((34, 4, 1, 25) * 10, (7, 13))):
                yield from measure(partial(in_chunks, chunks=chunks), case, f"chunks {chunks}")


CLASSES: dict[str, Callable[[Generator, str], Errors]] = {
    "kinds of rows": kinds_of_rows,
    "kinds of gradients": kinds_of_gradients,
    "short rows": short_rows,
    "one number beside equal ones": one_hot_rows,
    "all sizes": all_sizes,
    "many chunks of rows": many_chunks_of_rows,
}
HIGHER = ABOVE | {"kinds of gradients": {DGAMMA: 8.0}}  # one large among them


@pytest.mark.parametrize("name", CLASSES)
def test_split_rows_keep_the_bounds(rng: Generator, dtype: np.dtype, name: str) -> None:
    check(CLASSES[name](rng, dtype.name), BOUNDS | HIGHER.get(name, {}))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_split_rows_of_16_bits_keep_the_bounds(rng: Generator, half: str) -> None:
    for cols, offset in itertools.product((17, 301), (0, 30)):
        case = make(rng, half, rng.standard_normal((6, cols)) + offset)
        check(errors_of(rng, case, f"mean/std {offset}"), BOUNDS)


@pytest.mark.parametrize("axis", [(1, 2), (0, 1, 2), 1, 0])
@pytest.mark.parametrize("chunks", SPLIT_ROWS, ids=str)
def test_split_along_any_axes(rng: Generator, dtype: np.dtype, chunks: Chunks, axis: Any) -> None:
    x, dy = numbers(rng, dtype)
    weight, bias = parameters(rng, x, axis)
    lazy = [da.from_array(a, chunks=chunks) for a in (x, dy)]
    for rms in (False, True):
        got = everything(pd, rms, *lazy, weight, bias, axis=axis)
        computed = dask.compute(*got)
        check_kind(got, computed, lazy[0], list(np.atleast_1d(axis)))
        for a, b in zip(computed, everything(pyln, rms, x, dy, weight, bias, axis=axis), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=8 * np.finfo(dtype).eps * max(1, abs(b).max()))


# ---- What the bits depend on ----


def test_split_rows_do_not_depend_on_their_neighbours(rng: Generator, dtype: np.dtype) -> None:
    """Nor on the chunks of rows; and a NaN spoils no other row."""
    x, dy = numbers(rng, dtype)
    x[3, 1, 4] = np.nan
    weight, bias = parameters(rng, x, -1)
    first = None
    for chunks in ((7,), (5,)), ((1,) * 7, (2, 3)), ((3, 0, 4), (1, 4)):
        lazy = [da.from_array(a, chunks=(*chunks, (7, 3, 20))) for a in (x, dy)]
        *results, _, _ = dask.compute(*everything(pd, False, *lazy, weight, bias, axis=-1))
        spoilt = [np.isnan(a).any(-1).nonzero() for a in results]
        assert all([int(i[0]) for i in s] == [3, 1] for s in spoilt)
        for a, b in zip(results, first or results, strict=True):
            assert_same(a, b)
        first = results


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("chunks", [WHOLE_ROWS[1], *SPLIT_ROWS[1:]], ids=str)
def test_schedulers_change_no_bit(rng: Generator, cluster: Any, chunks: Chunks, rms: bool) -> None:
    """On two worker processes too, which both have a part of the input; gradients are sums over many chunks."""
    x, dy = numbers(rng, np.float32, (35, 5, 30))
    chunks = (chunks[0] * 5, *chunks[1:])
    weight, bias = parameters(rng, x, -1)
    lazy = [da.from_array(a, chunks=chunks) for a in (x, dy)]
    got = everything(pd, rms, *lazy, weight, bias, axis=-1)
    expected = dask.compute(*got, scheduler="synchronous")
    for results in (dask.compute(*got, scheduler="threads", num_workers=4), cluster.gather(cluster.compute(got))):
        for a, b in zip(results, expected, strict=True):
            assert_same(a, b)


def test_both_processes_of_the_cluster_work(rng: Generator, cluster: Any) -> None:
    """Rows of which each process has a half."""
    x, dy = numbers(rng, np.float32, (64, 2000))
    pids = cluster.run(os.getpid)
    assert len(set(pids.values()) | {os.getpid()}) == 3
    halves = [
        cluster.persist(
            da.from_array(np.concatenate([a[:, s]]), chunks=-1), workers=[worker], allow_other_workers=False
        )
        for worker, s in zip(pids, (slice(0, 999), slice(999, 2000)), strict=True)
        for a in (x, dy)
    ]
    distributed.wait(halves)
    lazy, lazy_dy = da.concatenate(halves[::2], axis=1), da.concatenate(halves[1::2], axis=1)
    y, mean, rstd = pd.layer_norm(lazy, 2000, return_stats=True)
    grad_x, *_ = pd.layer_norm_backward(lazy_dy, lazy, 2000, mean, rstd)
    y, grad_x = cluster.persist([y, grad_x])
    distributed.wait([y, grad_x])
    assert len({worker for place in cluster.who_has(y).values() for worker in place}) == 2
    expected, mean, rstd = pyln.layer_norm(x, 2000, return_stats=True)
    np.testing.assert_allclose(y.compute(scheduler=cluster), expected, rtol=0, atol=1e-6)
    expected, *_ = pyln.layer_norm_backward(dy, x, 2000, mean, rstd)
    np.testing.assert_allclose(grad_x.compute(scheduler=cluster), expected, rtol=0, atol=2e-6)


class Sizes(dask.callbacks.Callback):
    """Bytes of the results of tasks, by the names of what they call."""

    def __init__(self) -> None:
        super().__init__(posttask=self.note)
        self.of: dict[str, set[int]] = {}

    def note(self, key: Any, value: Any, *_: Any) -> None:
        if isinstance(value, np.ndarray):
            self.of.setdefault(str(key[0]).rpartition("-")[0], set()).add(value.nbytes)


@pytest.mark.parametrize("rms", [False, True])
def test_a_few_numbers_per_row_are_handed_over(rng: Generator, dtype: np.dtype, rms: bool) -> None:
    """Those of docs/distributed.md; chunks themselves go to none but the tasks of their own place."""
    x, dy = (da.from_array(a, chunks=(10, (300, 700))) for a in numbers(rng, dtype, (10, 1000)))
    with Sizes() as sizes:
        dask.compute(*everything(pd, rms, x, dy, None, None, axis=-1), optimize_graph=False)
    per_row = {name: {n / 10 / dtype.itemsize for n in sizes.of[name]} for name in sizes.of}
    assert per_row["moments"] == per_row["merge_moments"] == {5}
    assert per_row["grad_moments"] == per_row["merge_grad_moments"] == {4}


def test_gradients_of_parameters_are_summed_as_if_exactly(rng: Generator, dtype: np.dtype) -> None:
    """In any number of chunks: the sum of what the chunks give is rounded once."""
    for many in (2, 16, 17, 300):
        x = rng.standard_normal((3 * many, 4)).astype(dtype)
        dy = rows.small_or_large(rng, x).astype(dtype)
        dy[3:6] = -dy[:3] if many == 2 else dy[3:6]
        lazy, lazy_dy = (da.from_array(a, chunks=(3, -1)) for a in (x, dy))
        _, mean, rstd = pd.layer_norm(lazy, 4, return_stats=True)
        _, grad_weight, grad_bias = dask.compute(*pd.layer_norm_backward(lazy_dy, lazy, 4, mean, rstd))
        mean, rstd = dask.compute(mean, rstd)
        parts = [
            pyln.layer_norm_backward(dy[i : i + 3], x[i : i + 3], 4, mean[i : i + 3], rstd[i : i + 3])
            for i in range(0, len(x), 3)
        ]
        for got, which in ((grad_weight, 1), (grad_bias, 2)):
            exact = [dtype.type(math.fsum(float(part[which][j]) for part in parts)) for j in range(4)]
            np.testing.assert_array_equal(got, exact)


def test_rstd_in_place_of_a_variance_is_found_again(rng: Generator, dtype: np.dtype) -> None:
    """Backward is given rstd, and hands moments on: of whatever size it is, to the last bit."""
    info = np.finfo(dtype)
    size = rng.integers(3 - info.maxexp, info.maxexp - 3, (5000, 1))
    rstd = np.ldexp(rng.uniform(1, 2, size.shape), size).astype(dtype)
    rstd[:9] = 0
    moments = np.zeros((*rstd.shape, 5), dtype)
    moments[..., 2] = moments[..., 4] = 1
    assert_same(pd._statistic(pd._with_rstd(moments, rstd), operation=0, eps=0.0, name="rstd"), rstd)


# ---- Arguments ----


@pytest.mark.parametrize("chunks", [WHOLE_ROWS[1], SPLIT_ROWS[1]], ids=str)
def test_parameters_may_be_arrays_of_either_kind_and_of_any_chunks(rng: Generator, chunks: Chunks) -> None:
    x, dy = numbers(rng, np.float32)
    weight, bias = parameters(rng, x, -1)
    lazy, lazy_dy = (da.from_array(a, chunks=chunks) for a in (x, dy))
    expected = dask.compute(*everything(pd, False, lazy, lazy_dy, weight, bias, axis=-1))
    for w, b in ((da.from_array(weight, chunks=11), bias), (weight, da.from_array(bias, chunks=(29, 1)))):
        got = dask.compute(*everything(pd, False, lazy, lazy_dy.rechunk((2, 3, 4)), w, b, axis=-1))
        for a, c in zip(got, expected, strict=True):
            assert_same(a, c)


def test_parameters_for_each_example(rng: Generator, dtype: np.dtype) -> None:
    x, dy = numbers(rng, dtype)
    lazy, lazy_dy = (da.from_array(a, chunks=WHOLE_ROWS[2]) for a in (x, dy))
    for shapes in (((7, 1, 30), (7, 1, 30)), ((1, 5, 30), (30,)), ((1, 1, 30), (7, 5, 30))):
        weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        got = dask.compute(*everything(pd, False, lazy, lazy_dy, weight, da.from_array(bias), axis=-1))
        expected = everything(pyln, False, x, dy, weight, bias, axis=-1)
        for a, b in zip(got[:-2], expected[:-2], strict=True):
            assert_same(a, b)
        for a, b in zip(got[-2:], expected[-2:], strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=16 * np.finfo(dtype).eps * abs(b).max())
        with pytest.raises(ValueError, match=r"weight: one for each example .* first input\.rechunk\(\{2: -1\}\)"):
            pd.layer_norm(lazy.rechunk((7, 5, 16)), 30, weight)


def test_masked_gradients_and_defaults(rng: Generator) -> None:
    x, dy = numbers(rng, np.float32)
    for chunks in (WHOLE_ROWS[1], SPLIT_ROWS[1]):
        lazy, lazy_dy = (da.from_array(a, chunks=chunks) for a in (x, dy))
        y, mean, rstd = pd.layer_norm(lazy, 30, return_stats=True)
        np.testing.assert_allclose(y, pyln.layer_norm(x, 30), atol=1e-5)
        all_three = pd.layer_norm_backward(lazy_dy, lazy, 30, mean, rstd)
        for mask in itertools.product([False, True], repeat=3):
            grads = pd.layer_norm_backward(lazy_dy, lazy, 30, mean, rstd, output_mask=mask)
            assert [g is not None for g in grads] == list(mask)
            for g, whole in zip(grads, all_three, strict=True):
                assert g is None or np.array_equal(g.compute(), whole.compute())
        np.testing.assert_allclose(pd.rms_norm(lazy, 30), pyln.rms_norm(x, 30), atol=1e-5)


def test_rows_or_columns_that_are_not_there(rng: Generator) -> None:
    for shape, chunks in (((0, 4), ((0,), (1, 3))), ((3, 0), ((1, 2), (0,))), ((3, 0), ((3,), (0, 0)))):
        x = np.zeros(shape, np.float32)
        lazy = da.from_array(x, chunks=chunks)
        with dask.config.set(scheduler="synchronous"):
            got = dask.compute(*everything(pd, False, lazy, lazy, None, None, axis=-1))
        for a, b in zip(got, everything(pyln, False, x, x, None, None, axis=-1), strict=True):
            assert_same(a, b)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(block: Array) -> Array:
        raise RuntimeError("computed")

    for chunks in ((2, 6), (2, 3)):
        x = da.zeros((4, 6), chunks=chunks, dtype=np.float32).map_blocks(fail, dtype=np.float32)
        weight = da.ones(6, dtype=np.float32).map_blocks(fail, dtype=np.float32)
        results = everything(pd, False, x, x, weight, None, axis=-1)
        for lazy in results:
            with pytest.raises(RuntimeError, match="computed"):
                lazy.compute()


X = da.zeros((4, 6), chunks=(2, 3), dtype=np.float32)
STATISTICS = da.zeros((4, 1), dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: pd.layer_norm(np.zeros((4, 6), "f4"), 6),
            TypeError,
            r"input: expected a dask array, got ndarray; use dask\.array\.from_array\(input\), or pyln's own function",
        ),
        (
            lambda: pd.layer_norm_backward(np.zeros((4, 6), "f4"), X, 6, STATISTICS, STATISTICS),
            TypeError,
            "grad_out: expected a dask array, got ndarray",
        ),
        (lambda: pd.rms_norm_backward(X, X, 6, np.ones((4, 1), "f4")), TypeError, "rstd: expected a dask array"),
        (
            lambda: pd.layer_norm(X[X[:, 0] > 0], 6),
            ValueError,
            r"input: the sizes of its chunks along axis 0 are not known; first input\.compute_chunk_sizes\(\)",
        ),
        (lambda: pd.rms_norm(X, 6, X[X > 0]), ValueError, r"weight: .* not known; first weight\.compute_chunk_sizes"),
        (
            lambda: pd.layer_norm(X, 5),
            ValueError,
            r"expected input with shape \[\*, 5\], but got input of size \[4, 6\]",
        ),
        (lambda: pd.layer_norm(X, 6, np.ones(5, "f4")), ValueError, "Expected weight to be of same shape"),
        (lambda: pd.layer_norm(X, 6, None, da.ones(5, dtype="f4")), ValueError, "Expected bias to be of same shape"),
        (lambda: pd.layer_norm(X, 6, da.ones(6)), TypeError, "weight: expected float32 to go with input, got float64"),
        (lambda: pd.layer_norm(X.astype(int), 6), TypeError, "input: expected float32, .* got int64"),
        (lambda: pd.layer_norm(da.ma.masked_less(X, 1), 6), TypeError, "input: a masked array"),
        (lambda: pd.layer_norm(X, 6, eps=-1), ValueError, "eps: expected a finite float32"),
        (lambda: pd.layer_norm(X, 6, dtype="float64"), TypeError, "dtype: expected float32 or float16 or bfloat16"),
        (lambda: pd.layer_norm(X, axis=2), ValueError, "axis: 2 is out of range for an input of 2 dimensions"),
        (
            lambda: pd.layer_norm_backward(X[:2], X, 6, STATISTICS, STATISTICS),
            ValueError,
            r"grad_out: expected shape \[4, 6\] as input has, got \[2, 6\]",
        ),
        (
            lambda: pd.layer_norm_backward(X, X, 6, STATISTICS, STATISTICS[:, 0]),
            ValueError,
            r"rstd: expected shape \[4, 1\], as layer_norm returns it, got \[4\]",
        ),
        (
            lambda: pd.layer_norm_backward(X, X, 6, STATISTICS, STATISTICS, output_mask=(True,)),
            TypeError,
            "output_mask: expected three",
        ),
    ],
)
def test_refusals(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_dask_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys, pyln; assert 'dask' not in sys.modules; sys.modules['dask'] = None\n"
        "try:\n    import pyln.dask\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == 'pyln.dask needs dask: pip install "pyln[dask]"\n', run.stderr


def test_the_page_prints_what_it_says() -> None:
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    (code, expected), *_ = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "pyln.dask" in code
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue() == expected
