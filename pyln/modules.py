"""Normalization as objects that hold their parameters and the gradients of those, as PyTorch's modules do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln import _core, _dlpack
from pyln._arguments import Array
from pyln.functional import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward

_layer_norm_keeping = _core.layer_norm_keeping


class _Norm:
    """What the layers below have in common: parameters, their gradients, and what the last forward kept."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None, has_weight: bool, has_bias: bool, dtype: Any
    ) -> None:
        self.normalized_shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        self.elementwise_affine = has_weight
        self.dtype = arguments.element_type("dtype", dtype)
        self.eps = None if eps is None else arguments.epsilon(eps, self.dtype)
        self.weight: Array | None = np.ones(self.normalized_shape, self.dtype) if has_weight else None
        self.bias: Array | None = np.zeros(self.normalized_shape, self.dtype) if has_bias else None
        self.weight_grad: Array | None = None
        self.bias_grad: Array | None = None
        self._saved: tuple[Any, ...] | None = None  # the input, and the statistics or what holds them

    def _input(self, input: object, out: Array | None) -> Array:
        """The input as an array that backward can come back to."""
        name = arguments.type_name(self.dtype)
        allowed = ["float32", "float16", "bfloat16"] if name == "float32" else [name]
        x = arguments.tensor("input", input, allowed, owner=f"a layer of {name}")
        if out is not None and np.may_share_memory(x, out):
            arguments.distinct({"out": out}, {"input": x})
        return x

    def _last(self) -> tuple[Any, ...]:
        if self._saved is None:
            raise RuntimeError("backward: call the layer on an input first")
        return self._saved

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
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        if missing or unexpected:
            raise ValueError(f"state_dict: missing {missing}, unexpected {unexpected}")
        new = {name: _dlpack.as_array(f"state_dict[{name!r}]", state_dict[name]) for name in own}
        for name, value in new.items():
            if value.shape != self.normalized_shape:
                raise ValueError(
                    f"state_dict[{name!r}]: expected shape {list(self.normalized_shape)}, got {list(value.shape)}"
                )
            if value.dtype.kind not in "fiu" and arguments.type_name(value.dtype) != "bfloat16":
                raise TypeError(f"state_dict[{name!r}]: expected numbers, got {value.dtype}")
        for name, value in new.items():
            own[name][...] = value


class LayerNorm(_Norm):
    """Normalizes over the last axes, with weight and bias of their shape.

    Parameters
    ----------
    normalized_shape
        The sizes of the last axes: an int or a sequence of ints.
    eps
        Added to the variance, inside the root.
    elementwise_affine
        Whether there are a weight (ones at first) and a bias (zeros).
    bias
        Whether there is a bias beside the weight.
    dtype
        Of parameters and inputs: float32, float64, float16 or bfloat16. A layer of float32 takes 16-bit inputs too.

    Attributes
    ----------
    weight, bias
        Arrays of shape normalized_shape, or None.
    weight_grad, bias_grad
        Sums of the gradients since the last ``zero_grad``; None before the first ``backward``.

    """

    eps: float

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        has_weight = bool(elementwise_affine)
        super().__init__(normalized_shape, eps, has_weight, has_weight and bool(bias), dtype)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y for an input of shape ``(*, *normalized_shape)``, and remember what ``backward`` needs.

        out may be an array to write y into, but not the input itself: ``backward`` needs that.
        """
        if self.weight is not None:  # the plain call looks at its type
            result = _layer_norm_keeping(input, self.normalized_shape, self.weight, self.bias, self.eps, out)
            if result is not None:
                y, kept = result
                self._saved = input, kept, None
                return y
        x = self._input(input, out)
        y, mean, rstd = layer_norm(
            x, self.normalized_shape, self.weight, self.bias, self.eps, out=out, return_stats=True
        )
        self._saved = x, mean, rstd
        return y

    forward = __call__

    def backward(self, grad_out: object) -> Array:
        """Return the gradient of the last input, and add to ``weight_grad`` and ``bias_grad``.

        Raises
        ------
        RuntimeError
            There was no forward before.

        """
        x, mean, rstd = self._last()
        if isinstance(mean, _core.Statistics):
            mean, rstd = mean.arrays(x.shape[: x.ndim - len(self.normalized_shape)] + (1,) * len(self.normalized_shape))
        mask = (True, self.weight is not None, self.bias is not None)
        grad_input, grad_weight, grad_bias = layer_norm_backward(
            grad_out, x, self.normalized_shape, mean, rstd, self.weight, self.bias, mask
        )
        self.weight_grad = _accumulated(self.weight_grad, grad_weight)
        self.bias_grad = _accumulated(self.bias_grad, grad_bias)
        assert grad_input is not None
        return grad_input

    def __repr__(self) -> str:
        return (
            f"LayerNorm({self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None})"
        )


class RMSNorm(_Norm):
    """Divides by the root mean square over the last axes, with a weight of their shape.

    Parameters
    ----------
    normalized_shape
        The sizes of the last axes: an int or a sequence of ints.
    eps
        Added to the mean of the squares, inside the root; None is the machine epsilon of the input's type.
    elementwise_affine
        Whether there is a weight (ones at first).
    dtype
        As in ``LayerNorm``.

    Attributes
    ----------
    weight
        Array of shape normalized_shape, or None.
    weight_grad
        Sum of the gradients since the last ``zero_grad``; None before the first ``backward``.

    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(normalized_shape, eps, bool(elementwise_affine), False, dtype)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y, and remember what ``backward`` needs; out as in ``LayerNorm``."""
        x = self._input(input, out)
        y, rstd = rms_norm(x, self.normalized_shape, self.weight, self.eps, out=out, return_stats=True)
        self._saved = x, rstd
        return y

    forward = __call__

    def backward(self, grad_out: object) -> Array:
        """Return the gradient of the last input, and add to ``weight_grad``.

        Raises
        ------
        RuntimeError
            There was no forward before.

        """
        x, rstd = self._last()
        grad_input, grad_weight = rms_norm_backward(
            grad_out, x, self.normalized_shape, rstd, self.weight, (True, self.weight is not None)
        )
        self.weight_grad = _accumulated(self.weight_grad, grad_weight)
        assert grad_input is not None
        return grad_input

    def __repr__(self) -> str:
        return f"RMSNorm({self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine})"


def _accumulated(total: Array | None, grad: Array | None) -> Array | None:
    return grad if total is None or grad is None else total + grad
