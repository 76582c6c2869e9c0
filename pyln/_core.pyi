from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

class Statistics:
    """mean and rstd of the rows of one input, kept for backward by who does not look at them."""

    def arrays(self, shape: tuple[int, ...]) -> tuple[_Array, _Array]: ...

_Types = tuple[int, int, int, int]

def forward(
    types: _Types,
    x: _Array,
    weight: _Array | None,
    bias: _Array | None,
    eps: float,
    y: _Array,
    mean: _Array | None,
    rstd: _Array | None,
) -> None: ...
def backward(
    types: _Types,
    grad_out: _Array,
    x: _Array,
    mean: _Array | None,
    rstd: _Array,
    weight: _Array | None,
    grad_x: _Array | None,
    grad_weight: _Array | None,
    grad_bias: _Array | None,
) -> None: ...
def layer_norm(
    input: object,
    normalized_shape: object,
    weight: object,
    bias: object,
    eps: object,
    out: object,
    return_stats: bool,
) -> _Array | tuple[_Array, _Array, _Array] | None: ...
def layer_norm_keeping(
    input: object, normalized_shape: object, weight: object, bias: object, eps: object, out: object
) -> tuple[_Array, Statistics] | None: ...
def rms_norm(
    input: object, normalized_shape: object, weight: object, eps: object, out: object, return_stats: bool
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
) -> tuple[_Array | None, _Array | None, _Array | None] | None: ...
def set_thread_bytes(forward: int, backward: int) -> tuple[int, int]: ...
def isa() -> str | None: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> bool: ...
def version() -> str: ...
