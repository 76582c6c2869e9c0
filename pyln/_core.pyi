from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

class Statistics:
    """mean and rstd of the rows of one input, kept for backward by who does not look at them."""

    def arrays(self, shape: tuple[int, ...]) -> tuple[_Array, _Array]: ...

def run(
    call: str,
    settings: tuple[int, int, int, int, int, float, int],
    arrays: dict[str, _Array],
    outputs: frozenset[str],
) -> bool: ...
def merge(
    grads: bool, operation: int, x_type: int, count_a: int, a: _Array, count_b: int, b: _Array, merged: _Array
) -> None: ...
def layer_norm(
    input: object,
    normalized_shape: object,
    weight: object,
    bias: object,
    eps: object,
    out: object,
    return_stats: bool,
    zero_centered: bool,
    round_steps: bool,
) -> _Array | tuple[_Array, _Array, _Array] | None: ...
def layer_norm_keeping(
    input: object,
    normalized_shape: object,
    weight: object,
    bias: object,
    eps: object,
    out: object,
    zero_centered: bool,
) -> tuple[_Array, Statistics] | None: ...
def rms_norm(
    input: object,
    normalized_shape: object,
    weight: object,
    eps: object,
    out: object,
    return_stats: bool,
    zero_centered: bool,
    round_steps: bool,
) -> _Array | tuple[_Array, _Array] | None: ...
def layer_norm_backward(
    grad_out: object,
    input: object,
    normalized_shape: object,
    mean: object,
    rstd: object,
    weight: object,
    bias: object,
    output_mask: object,
    out: object,
    zero_centered: bool,
    accumulate: bool,
) -> tuple[_Array | None, _Array | None, _Array | None] | None: ...
def set_thread_bytes(forward: int, backward: int) -> tuple[int, int]: ...
def isa() -> str | None: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> bool: ...
def version() -> str: ...
