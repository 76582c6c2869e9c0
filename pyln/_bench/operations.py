"""Every operation beside the limit of the bytes that it must move, the separate steps that it replaces, and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import pyln
from pyln._bench.timing import Subject, calls_of, keep_freed_memory, measure, pinned, quartiles

Array = np.ndarray[Any, Any]
Call = Callable[[], object]

ROWS, COLS = 8192, 768
IMAGES = (32, 96, 56, 56)
GROUPS = 32
EXAMPLES = 64
EPS = 1e-5


@dataclass
class Operation:
    """What it is called, the bytes that it reads and writes, and calls that compute it."""

    name: str
    bytes: int
    pyln: Call
    steps: Call | None = None  # by separate calls, or through a transposed copy
    torch: Call | None = None


def operations() -> Iterator[Operation]:
    """In the order of the table, each with arrays of its own."""
    yield from _rows()
    yield from _sixteen_bits()
    yield from _images()


def _random(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype)


def _rows() -> Iterator[Operation]:
    torch = _torch()
    x, dy, other = _random(ROWS, COLS), _random(ROWS, COLS) + np.float32(0.5), _random(ROWS, COLS)
    weight, bias = _random(COLS), _random(COLS)
    y, total, n = np.empty_like(x), np.empty_like(x), x.nbytes
    _, mean, rstd = pyln.layer_norm(x, COLS, weight, bias, return_stats=True)
    _, rms = pyln.rms_norm(x, COLS, weight, return_stats=True)
    sums = np.empty_like(weight), np.empty_like(bias)
    yield Operation(
        "layer_norm",
        2 * n,
        lambda: pyln.layer_norm(x, COLS, weight, bias, out=y),
        None,
        torch("layer_norm", x, weight, bias),
    )
    yield Operation(
        "rms_norm", 2 * n, lambda: pyln.rms_norm(x, COLS, weight, out=y), None, torch("rms_norm", x, weight)
    )
    yield Operation(
        "add_layer_norm",
        4 * n,
        lambda: pyln.add_layer_norm(x, other, COLS, weight, bias, out=(y, total)),
        lambda: pyln.layer_norm(np.add(x, other, out=total), COLS, weight, bias, out=y),
        torch("add_layer_norm", x, other, weight, bias),
    )
    many_weights, many_biases = (_random(EXAMPLES, 1, COLS) for _ in range(2))
    shaped = (EXAMPLES, ROWS // EXAMPLES, COLS)
    yield Operation(
        "one weight per example",
        2 * n,
        lambda: pyln.layer_norm(x.reshape(shaped), COLS, many_weights, many_biases, out=y.reshape(shaped)),
        None,
        torch("adaptive", x.reshape(shaped), many_weights, many_biases),
    )
    eight = np.empty(x.shape, np.int8)

    def quantize_apart() -> None:
        pyln.layer_norm(x, COLS, weight, bias, out=y)
        scale = np.abs(y).max(axis=1, keepdims=True) / np.float32(127)
        np.rint(y / scale, out=y)
        np.copyto(eight, y, casting="unsafe")

    yield Operation(
        "quantized_layer_norm",
        n + eight.nbytes,
        lambda: pyln.quantized_layer_norm(x, COLS, weight, bias, out=eight),
        quantize_apart,
    )
    yield Operation(
        "layer_norm_backward",
        3 * n,
        lambda: pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias, out=(y, *sums)),
        None,
        torch("layer_norm_backward", dy, x, mean, rstd, weight, bias),
    )
    yield Operation(
        "rms_norm_backward", 3 * n, lambda: pyln.rms_norm_backward(dy, x, COLS, rms, weight, out=(y, sums[0]))
    )

    def add_backward_apart() -> None:
        pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias, out=(y, *sums))
        np.add(y, other, out=y)

    yield Operation(
        "add_layer_norm_backward",
        4 * n,
        lambda: pyln.add_layer_norm_backward(dy, other, x, COLS, mean, rstd, weight, bias, out=(y, *sums)),
        add_backward_apart,
    )


def _sixteen_bits() -> Iterator[Operation]:
    from pyln._arguments import bfloat16

    torch = _torch()
    weight, bias = _random(COLS), _random(COLS)
    for name, dtype in (("float16", np.dtype(np.float16)), ("bfloat16", bfloat16())):
        x, dy = _random(ROWS, COLS, dtype=dtype), _random(ROWS, COLS, dtype=dtype)
        y, w, b = np.empty_like(x), weight.astype(dtype), bias.astype(dtype)
        _, mean, rstd = pyln.layer_norm(x, COLS, w, b, return_stats=True)
        yield Operation(
            f"layer_norm {name}",
            2 * x.nbytes,
            lambda x=x, w=w, b=b, y=y: pyln.layer_norm(x, COLS, w, b, out=y),  # type: ignore[misc]
            None,
            torch("layer_norm", x, w, b),
        )
        yield Operation(
            f"layer_norm_backward {name}",
            3 * x.nbytes,
            lambda x=x, dy=dy, w=w, y=y, m=mean, r=rstd: pyln.layer_norm_backward(  # type: ignore[misc]
                dy, x, COLS, m, r, w, out=(y, None, None)
            ),
            None,
            torch("layer_norm_backward", dy, x, mean.astype(dtype), rstd.astype(dtype), w, b),
        )


def _images() -> Iterator[Operation]:
    torch = _torch()
    channels = IMAGES[1]
    x, dy = _random(*IMAGES), _random(*IMAGES) + np.float32(0.5)
    weight, bias = _random(channels), _random(channels)
    y, n = np.empty_like(x), x.nbytes
    sums = np.empty_like(weight), np.empty_like(bias)

    def last(array: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))

    _, mean, rstd = pyln.layer_norm(x, None, weight, bias, axis=1, return_stats=True)
    last_mean, last_rstd = last(mean), last(rstd)

    def forward_transposed() -> None:
        np.copyto(y, np.moveaxis(pyln.layer_norm(last(x), channels, weight, bias), -1, 1))

    def backward_transposed() -> None:
        dx, *_ = pyln.layer_norm_backward(last(dy), last(x), channels, last_mean, last_rstd, weight, bias)
        assert dx is not None
        np.copyto(y, np.moveaxis(dx, -1, 1))

    yield Operation(
        "channels-first layer_norm",
        2 * n,
        lambda: pyln.layer_norm(x, None, weight, bias, axis=1, out=y),
        forward_transposed,
        torch("channels_first", x, weight, bias),
    )
    yield Operation(
        "channels-first backward",
        3 * n,
        lambda: pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, bias, axis=1, out=(y, *sums)),
        backward_transposed,
    )
    _, group_mean, group_rstd = pyln.group_norm(x, GROUPS, weight, bias, return_stats=True)
    yield Operation(
        "group_norm",
        2 * n,
        lambda: pyln.group_norm(x, GROUPS, weight, bias, out=y),
        None,
        torch("group_norm", x, weight, bias),
    )
    yield Operation(
        "group_norm_backward",
        3 * n,
        lambda: pyln.group_norm_backward(dy, x, GROUPS, group_mean, group_rstd, weight, out=(y, *sums)),
        None,
        torch("group_norm_backward", dy, x, group_mean, group_rstd, weight),
    )
    yield Operation(
        "instance_norm",
        2 * n,
        lambda: pyln.instance_norm(x, weight, bias, out=y),
        None,
        torch("instance_norm", x, weight, bias),
    )


def _torch() -> Callable[..., Call | None]:
    """Calls of PyTorch on the memory of NumPy's arrays; none where it is not installed."""
    try:
        import torch
        from torch.nn import functional
    except ImportError:
        return lambda *_: None
    torch.set_num_threads(1)

    def tensor(array: Array) -> Any:
        if array.dtype.itemsize == 2 and array.dtype != np.float16:
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    wanted = [True, True, True]
    calls: dict[str, Callable[..., object]] = {
        "layer_norm": lambda x, w, b: functional.layer_norm(x, (COLS,), w, b, EPS),
        "rms_norm": lambda x, w: functional.rms_norm(x, (COLS,), w),
        "add_layer_norm": lambda x, other, w, b: functional.layer_norm(x + other, (COLS,), w, b, EPS),
        "adaptive": lambda x, w, b: functional.layer_norm(x, (COLS,), None, None, EPS) * w + b,
        "layer_norm_backward": lambda dy, x, m, r, w, b: torch.ops.aten.native_layer_norm_backward(
            dy, x, (COLS,), m, r, w, b, wanted
        ),
        "channels_first": lambda x, w, b: (
            functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), w, b, EPS).permute(0, 3, 1, 2).contiguous()
        ),
        "group_norm": lambda x, w, b: functional.group_norm(x, GROUPS, w, b, EPS),
        "group_norm_backward": lambda dy, x, m, r, w: torch.ops.aten.native_group_norm_backward(
            dy, x, m, r, w, x.shape[0], x.shape[1], x.shape[2] * x.shape[3], GROUPS, wanted
        ),
        "instance_norm": lambda x, w, b: functional.instance_norm(x, None, None, w, b, eps=EPS),
    }

    def call(name: str, *arrays: Array) -> Call:
        function, tensors = calls[name], [tensor(array) for array in arrays]

        def run() -> object:
            with torch.inference_mode():
                return function(*tensors)

        return run

    return call


def run(seconds: float = 80.0, write: Callable[[str], object] = print) -> list[dict[str, Any]]:
    """Measure all operations on one thread and write a line for each; return what the lines are made of."""
    keep_freed_memory()
    before = pyln.get_num_threads()
    pyln.set_num_threads(1)
    write(f"one thread; rows: {ROWS} x {COLS}; images: {' x '.join(map(str, IMAGES))}, {GROUPS} groups")
    write("times the limit, which is a copy of as many bytes as the operation must read and write\n")
    write(f"{'':30}{'limit':>10}{'pyln':>8}{'in steps':>10}{'PyTorch':>10}")
    measured = []
    try:
        with pinned():
            everything = list(operations())
            for operation in everything:
                measured.append(_measure(operation, seconds / len(everything)))
                write(_line(measured[-1]))
    finally:
        pyln.set_num_threads(before)
    return measured


def _measure(operation: Operation, seconds: float) -> dict[str, Any]:
    half = operation.bytes // 2
    source, target = np.ones(half, np.uint8), np.ones(half, np.uint8)
    calls = {"limit": lambda: np.copyto(target, source), "pyln": operation.pyln}
    calls |= {name: c for name, c in (("in steps", operation.steps), ("PyTorch", operation.torch)) if c is not None}
    subjects = [Subject(name, "operation", calls_of(call)) for name, call in calls.items()]
    measure(subjects, seconds)
    return {
        "operation": operation.name,
        "bytes": operation.bytes,
        "seconds": {subject.name: quartiles(subject.seconds) for subject in subjects},
    }


def _line(measured: dict[str, Any]) -> str:
    medians = {name: times[1] for name, times in measured["seconds"].items()}
    cells = [
        f"{medians[name] / medians['limit']:.2f}" if name in medians else "" for name in ("pyln", "in steps", "PyTorch")
    ]
    return f"{measured['operation']:30}{medians['limit'] * 1e3:>8.2f}ms{cells[0]:>8}{cells[1]:>10}{cells[2]:>10}"
