"""Normalization as objects that hold their parameters and the gradients of those, as PyTorch's modules do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array
from pyln._layer import Layer
from pyln.functional import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward

_layer_norm_keeping = _core.layer_norm_keeping


class LayerNorm(Layer):
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
    zero_centered
        Whether the weight is stored without its 1, and so zeros at first.

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
        zero_centered: bool = False,
    ) -> None:
        self.normalized_shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        self.elementwise_affine = bool(elementwise_affine)
        has_bias = self.elementwise_affine and bool(bias)
        super().__init__(self.normalized_shape, eps, self.elementwise_affine, has_bias, dtype, zero_centered)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y for an input of shape ``(*, *normalized_shape)``, and remember what ``backward`` needs.

        out may be an array to write y into, but not the input itself: ``backward`` needs that.
        """
        if self.weight is not None:  # the plain call looks at its type
            result = _layer_norm_keeping(
                input, self.normalized_shape, self.weight, self.bias, self.eps, out, self.zero_centered
            )
            if result is not None:
                y, kept = result
                self._saved = input, kept, None
                return y
        x = self._input(input, out)
        y, mean, rstd = layer_norm(
            x,
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
            out=out,
            return_stats=True,
            zero_centered=self.zero_centered,
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
        grads = layer_norm_backward(
            grad_out,
            x,
            self.normalized_shape,
            mean,
            rstd,
            self.weight,
            self.bias,
            mask,
            zero_centered=self.zero_centered,
            **self._sums(),
        )
        return self._keep(grads)

    def __repr__(self) -> str:
        return (
            f"LayerNorm({self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
            f"{', zero_centered=True' if self.zero_centered else ''})"
        )


class RMSNorm(Layer):
    """Divides by the root mean square over the last axes, with a weight of their shape.

    Parameters
    ----------
    normalized_shape
        The sizes of the last axes: an int or a sequence of ints.
    eps
        Added to the mean of the squares, inside the root; None is the machine epsilon of the input's type.
    elementwise_affine
        Whether there is a weight (ones at first).
    dtype, zero_centered
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
        zero_centered: bool = False,
    ) -> None:
        self.normalized_shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        self.elementwise_affine = bool(elementwise_affine)
        super().__init__(self.normalized_shape, eps, self.elementwise_affine, False, dtype, zero_centered)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y, and remember what ``backward`` needs; out as in ``LayerNorm``."""
        x = self._input(input, out)
        y, rstd = rms_norm(
            x,
            self.normalized_shape,
            self.weight,
            self.eps,
            out=out,
            return_stats=True,
            zero_centered=self.zero_centered,
        )
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
        grads = rms_norm_backward(
            grad_out,
            x,
            self.normalized_shape,
            rstd,
            self.weight,
            (True, self.weight is not None),
            zero_centered=self.zero_centered,
            **self._sums(2),
        )
        return self._keep(grads)

    def __repr__(self) -> str:
        return (
            f"RMSNorm({self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
            f"{', zero_centered=True' if self.zero_centered else ''})"
        )
