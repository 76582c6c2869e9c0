"""What the layers of modules.py have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln._arguments import Array, Shape


class Layer:
    """Parameters, their gradients, and what the last forward kept for backward."""

    def __init__(
        self, shape: Shape, eps: float | None, has_weight: bool, has_bias: bool, dtype: Any, zero_centered: bool = False
    ) -> None:
        self.dtype = arguments.element_type("dtype", dtype)
        self.eps = None if eps is None else arguments.epsilon(eps, self.dtype)
        self.zero_centered = bool(zero_centered)
        ones = np.zeros if self.zero_centered else np.ones
        self.weight: Array | None = ones(shape, self.dtype) if has_weight else None
        self.bias: Array | None = np.zeros(shape, self.dtype) if has_bias else None
        self.weight_grad: Array | None = None
        self.bias_grad: Array | None = None
        self._saved: tuple[Any, ...] | None = None  # the input, and the statistics or what holds them

    def _input(self, input: object, out: Array | None) -> Array:
        """The input as an array that backward can come back to."""
        name = arguments.type_name(self.dtype)
        allowed = ["float32", "float16", "bfloat16"] if name == "float32" else [name]
        x = arguments.tensor("input", input, allowed, owner=f"a layer of {name}")
        if isinstance(out, np.ndarray) and np.may_share_memory(x, out):
            arguments.distinct({"out": out}, {"input": x})
        return x

    def _last(self) -> tuple[Any, ...]:
        if self._saved is None:
            raise RuntimeError("backward: call the layer on an input first")
        return self._saved

    def _sums(self, gradients: int = 3) -> dict[str, Any]:
        """Where backward adds its gradients of the parameters; nothing before the first time."""
        parameters = self._parameters()
        if all(getattr(self, f"{name}_grad") is None for name in parameters):
            return {}
        for name, p in parameters.items():
            if getattr(self, f"{name}_grad") is None:
                setattr(self, f"{name}_grad", np.zeros(p.shape, arguments.arithmetic_type(p.dtype)))
        return {"out": (None, self.weight_grad, self.bias_grad)[:gradients], "accumulate": True}

    def _keep(self, grads: Sequence[Array | None]) -> Array:
        """Keep the gradients of the parameters, and return that of the input."""
        grad_input, self.weight_grad, self.bias_grad = (*grads, None)[:3]
        assert grad_input is not None
        return grad_input

    def zero_grad(self) -> None:
        """Forget the gradients of the parameters."""
        self.weight_grad = None
        self.bias_grad = None

    def _parameters(self) -> dict[str, Array]:
        return {name: p for name, p in (("weight", self.weight), ("bias", self.bias)) if p is not None}

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters, by name."""
        return {name: value.copy() for name, value in self._parameters().items()}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Copy parameters in: arrays, or anything NumPy reads as one, such as torch's tensors.

        Raises
        ------
        ValueError
            A parameter is missing or unexpected, or has another shape; nothing has changed then.

        """
        own = self._parameters()
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}")
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys(), key=str)
        if missing or unexpected:
            raise ValueError(f"state_dict: missing {missing}, unexpected {unexpected}")
        new = {name: arguments.as_array(f"state_dict[{name!r}]", state_dict[name]) for name in own}
        for name, value in new.items():
            shape = own[name].shape
            if value.shape != shape:
                raise ValueError(f"state_dict[{name!r}]: expected shape {list(shape)}, got {list(value.shape)}")
            if value.dtype.kind not in "fiu" and arguments.type_name(value.dtype) != "bfloat16":
                raise TypeError(f"state_dict[{name!r}]: expected numbers, got {value.dtype}")
        for name, value in new.items():
            own[name][...] = value
