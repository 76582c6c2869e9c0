from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

def workspace_size(type: str, rows: int, cols: int) -> int: ...

class Operands:
    def __init__(
        self,
        type: str,
        rows: int,
        cols: int,
        stride: int,
        eps: float,
        *,
        x: _Array,
        dy: _Array,
        gamma: _Array | None,
        beta: _Array | None,
        mean: _Array,
        rstd: _Array,
        y: _Array,
        dx: _Array,
        dgamma: _Array | None,
        dbeta: _Array | None,
        workspace: _Array,
    ) -> None: ...

def repeat_limit(operands: Operands, way: str, isa: str, times: int) -> None: ...
def repeat_lnorm(operands: Operands, way: str, isa: str, times: int) -> None: ...
def repeat_plain(operands: Operands, way: str, times: int) -> None: ...
def repeat_onednn(execute: int, primitive: int, stream: int, count: int, arguments: int, times: int) -> None: ...
