"""Normalization as objects that hold their parameters and the gradients of those, as PyTorch's modules do."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array
from pyln._layer import Layer
from pyln.functional import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from pyln.groups import group_norm, group_norm_backward, instance_norm, instance_norm_backward

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
        Added to the mean of the squares, inside the root; None is as in ``rms_norm``.
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


class GroupNorm(Layer):
    """Normalizes over groups of channels, with weight and bias for each channel.

    Parameters
    ----------
    num_groups
        A divisor of num_channels.
    num_channels
        Size of the input's second axis.
    eps, dtype, bias
        As in ``LayerNorm``.
    affine
        Whether there are a weight (ones at first) and a bias (zeros).

    Attributes
    ----------
    weight, bias
        Arrays of shape (num_channels,), or None.
    weight_grad, bias_grad
        As in ``LayerNorm``.

    """

    eps: float

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = arguments.integer("num_groups", num_groups)
        self.num_channels = arguments.integer("num_channels", num_channels)
        if self.num_groups <= 0 or self.num_channels < 0 or self.num_channels % self.num_groups != 0:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.affine = bool(affine)
        super().__init__((self.num_channels,), eps, self.affine, self.affine and bool(bias), dtype)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y for an input of shape ``(N, num_channels, *)``, and remember what ``backward`` needs.

        out as in ``LayerNorm``.
        """
        x = self._input(input, out)
        y, mean, rstd = group_norm(x, self.num_groups, self.weight, self.bias, self.eps, out=out, return_stats=True)
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
        mask = (True, self.weight is not None, self.bias is not None)
        return self._keep(
            group_norm_backward(grad_out, x, self.num_groups, mean, rstd, self.weight, mask, **self._sums())
        )

    def __repr__(self) -> str:
        return (
            f"GroupNorm({self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None})"
        )


class _InstanceNorm(Layer):
    """Normalizes each channel of each example, with weight and bias for each channel.

    Parameters
    ----------
    num_features
        The number of channels.
    eps, dtype, bias
        As in ``LayerNorm``.
    affine
        Whether there are a weight (ones at first) and a bias (zeros).

    Attributes
    ----------
    weight, bias
        Arrays of shape (num_features,), or None.
    weight_grad, bias_grad
        As in ``LayerNorm``.

    """

    eps: float
    _spatial: int  # axes behind the channels

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = False, dtype: Any = "float32", *, bias: bool = True
    ) -> None:
        self.num_features = arguments.integer("num_features", num_features)
        self.affine = bool(affine)
        super().__init__((self.num_features,), eps, self.affine, self.affine and bool(bias), dtype)

    def __call__(self, input: object, *, out: Array | None = None) -> Array:
        """Return y for an input with or without an axis of examples, and remember what ``backward`` needs.

        out as in ``LayerNorm``.
        """
        x = self._input(input, out)
        batched = self._spatial + 2
        if x.ndim not in (batched - 1, batched):
            raise ValueError(f"expected {batched - 1}D or {batched}D input (got {x.ndim}D input)")
        axis = x.ndim - self._spatial - 1
        if x.shape[axis] != self.num_features:
            self._refuse(axis, x.shape[axis])
        if out is not None:
            out = arguments.output("out", out, x.shape, x.dtype, arguments.companions(x.dtype))
        given = x if axis == 1 else x[None]
        place = out if axis == 1 or out is None else np.asarray(out)[None]
        y, mean, rstd = instance_norm(given, self.weight, self.bias, self.eps, out=place, return_stats=True)
        self._saved = given, mean, rstd, x.shape
        return out if out is not None else y if axis == 1 else y[0]

    forward = __call__

    def _refuse(self, axis: int, size: int) -> None:
        if self.affine:
            raise ValueError(
                f"expected input's size at dim={axis} to match num_features ({self.num_features}), but got: {size}."
            )
        warnings.warn(
            f"input's size at dim={axis} does not match num_features, which is not used because affine=False",
            stacklevel=3,
        )

    def backward(self, grad_out: object) -> Array:
        """Return the gradient of the last input, and add to ``weight_grad`` and ``bias_grad``.

        Raises
        ------
        RuntimeError
            There was no forward before.

        """
        x, mean, rstd, shape = self._last()
        dy = arguments.tensor("grad_out", grad_out, arguments.companions(x.dtype))
        arguments.same_shape("grad_out", dy, shape, "input")
        mask = (True, self.weight is not None, self.bias is not None)
        dy = dy if dy.ndim == x.ndim else dy[None]
        grad_input = self._keep(instance_norm_backward(dy, x, mean, rstd, self.weight, mask, **self._sums()))
        return grad_input if len(shape) == x.ndim else grad_input[0]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_features}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None})"
        )


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _spatial = 1


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _spatial = 2


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _spatial = 3
