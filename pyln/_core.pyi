from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def forward(
    x: _Array,
    weight: _Array | None,
    bias: _Array | None,
    eps: float,
    y: _Array,
    mean: _Array | None,
    rstd: _Array | None,
    parallel: bool,
) -> None: ...
def backward(
    grad_out: _Array,
    x: _Array,
    mean: _Array,
    rstd: _Array,
    weight: _Array | None,
    grad_x: _Array | None,
    grad_weight: _Array | None,
    grad_bias: _Array | None,
    parallel: bool,
) -> None: ...
def isa() -> str | None: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> bool: ...
def version() -> str: ...
