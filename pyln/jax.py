"""Layer and RMS normalization of JAX arrays, with gradients, under jit, vmap and grad. Not imported with pyln.

The work is done by the C library on the CPU, in XLA's own buffers: nothing is copied, and no Python runs. Results are
those of ``pyln.layer_norm`` and ``pyln.rms_norm``, bit for bit.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

import numpy as np

try:
    import jax
    import jax.custom_batching
    import jax.extend
    import jax.ffi
    import jax.numpy as jnp
    from jax.interpreters import mlir
except ImportError as error:
    raise ImportError('pyln.jax needs JAX, 0.5 or later: pip install "pyln[jax]"') from error

from pyln import _arguments as arguments
from pyln import _core
from pyln._call import LAYER, RMS

__all__ = ["layer_norm", "rms_norm"]

Arrays = list[jax.Array]


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, *, axis: int | Sequence[int] = -1, eps: float = 1e-5
) -> jax.Array:
    """Normalize over an axis or consecutive axes: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    What ``pyln.layer_norm`` computes, as a function of JAX arrays that jit, vmap and derivatives in reverse mode (grad,
    vjp, jacrev) go through; jvp and jacfwd do not, nor second derivatives. Arguments are named and ordered as pyln's
    are; but `axis` says what is normalized, the last axis by default, as in jax.numpy and Flax.

    Parameters
    ----------
    x
        Array of float32, float64, float16 or bfloat16; 16-bit elements are computed with in float32.
    weight, bias
        Arrays of the shape of x's normalized axes, or None for 1 and 0; of x's type, or float32 for a 16-bit x. For
        parameters that differ from example to example use vmap over them.
    axis
        The axis or axes, which must be consecutive.
    eps
        Added to the variance, inside the root: a number, not a traced value. The default is PyTorch's; Flax's is 1e-6.

    Returns
    -------
    y
        Of x's shape and type. The gradients of weight and bias are summed in float32 for a 16-bit x, and then rounded
        to the types of weight and bias, as JAX wants them.

    Raises
    ------
    TypeError
        Element types that are not known or do not go together.
    ValueError
        Shapes that do not fit, axes that are out of range or not consecutive, eps negative or NaN.
    NotImplementedError
        On lowering for a platform other than the CPU.

    """
    return _checked(LAYER, x, weight, bias, axis, eps)


def rms_norm(x: Any, weight: Any = None, *, axis: int | Sequence[int] = -1, eps: float | None = None) -> jax.Array:
    """Divide by the root mean square over an axis or consecutive axes: ``x / sqrt(mean(x * x) + eps) * weight``.

    What ``pyln.rms_norm`` computes; for the rest as ``layer_norm``.

    Parameters
    ----------
    x, weight, axis
        As in ``layer_norm``.
    eps
        Added to the mean of the squares, inside the root. None is the machine epsilon of the type that is computed
        in, as in PyTorch from 2.7 on: 2^-52 for float64, 2^-23 for all others. Flax's default is 1e-6.

    Returns
    -------
    y
        As ``layer_norm``.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As ``layer_norm``.

    """
    return _checked(RMS, x, weight, None, axis, eps)


def _checked(operation: int, x: Any, weight: Any, bias: Any, axis: int | Sequence[int], eps: float | None) -> jax.Array:
    x = _array(x)
    own = arguments.type_name(x.dtype)
    if own not in arguments.companions(x.dtype):
        raise TypeError(f"x: expected float32, float64, float16 or bfloat16, got {x.dtype}")
    begin, end = arguments.normalized_axes(cast(arguments.Array, x), None, axis)
    parameters = [
        _parameter(name, value, x, x.shape[begin:end]) for name, value in (("weight", weight), ("bias", bias))
    ]
    weight, bias = parameters
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        raise TypeError(f"bias: expected {weight.dtype} as weight has, got {bias.dtype}")
    eps = arguments.epsilon(eps, x.dtype, operation == RMS)
    return _seen_as_rows(x, weight, bias, operation, begin, end, eps)


def _array(value: Any) -> jax.Array:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def _parameter(name: str, value: Any, x: jax.Array, shape: tuple[int, ...]) -> jax.Array | None:
    if value is None:
        return None
    parameter = _array(value)
    own = arguments.type_name(x.dtype)
    allowed = [own] if own in ("float32", "float64") else [own, "float32"]
    if arguments.type_name(parameter.dtype) not in allowed:
        raise TypeError(f"{name}: expected {' or '.join(allowed)} to go with x, got {parameter.dtype}")
    if parameter.shape != shape:
        raise ValueError(
            f"{name}: expected shape {list(shape)}, that of x's normalized axes, got {list(parameter.shape)}"
        )
    return parameter


# From here on x is (outer, norm, inner), statistics are (outer, inner), and weight and bias are (rows, norm): one row
# for all of outer, or as many as there are groups of outer; none where they are absent.


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _seen_as_rows(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    operation: int,
    begin: int,
    end: int,
    eps: float,
) -> jax.Array:
    outer, norm, inner = (math.prod(x.shape[part]) for part in (slice(begin), slice(begin, end), slice(end, None)))
    rows = [jnp.empty((0, norm), x.dtype) if p is None else p.reshape(1, norm) for p in (weight, bias)]
    return _norm(operation, eps, x.reshape(outer, norm, inner), *rows).reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _norm(operation: int, eps: float, x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    y, _, _ = _forward(operation, eps, False)(x, weight, bias)
    return y


def _norm_forward(operation: int, eps: float, x: Any, weight: Any, bias: Any) -> tuple[jax.Array, Any]:
    values = [a.value for a in (x, weight, bias)]
    y, mean, rstd = _forward(operation, eps, True)(*values)
    # What is not to be differentiated is told to backward by its absence: sums over rows are not made for nothing.
    wanted = [a.value if a.perturbed else None for a in (weight, bias)]
    return y, (x.value, mean, rstd, weight.value, *wanted)


def _norm_backward(operation: int, eps: float, saved: Any, grad_out: Any) -> tuple[jax.Array | None, ...]:
    x, mean, rstd, weight, *wanted = saved
    none = jnp.empty((0, x.shape[1]), weight.dtype)
    likes = [none if a is None else a for a in wanted]
    grad_x, *sums = _backward(operation, eps)(grad_out, x, mean, rstd, weight, *likes)
    return grad_x, *(None if a is None else s.astype(a.dtype) for s, a in zip(sums, wanted, strict=True))


_norm.defvjp(_norm_forward, _norm_backward, symbolic_zeros=True)


def _attributes(operation: int, eps: float) -> dict[str, Any]:
    return {"eps": np.float64(eps), "operation": np.int64(operation)}


@cache
def _forward(operation: int, eps: float, with_statistics: bool) -> Callable[..., Arrays]:
    """Return the function of x, weight and bias that gives y, mean and rstd; the last two are empty if not wanted."""
    attributes = _attributes(operation, eps)

    def results(x: jax.Array, *parameters: jax.Array) -> Arrays:
        outer, _, inner = x.shape
        rows = outer if with_statistics else 0
        real = arguments.arithmetic_type(x.dtype)
        types = (x.shape, x.dtype), ((rows if operation == LAYER else 0, inner), real), ((rows, inner), real)
        return _forward_call.bind(x, *parameters, types=types, **attributes)

    return _with_batches(results, parameters=2)


@cache
def _backward(operation: int, eps: float) -> Callable[..., Arrays]:
    """Return the function of grad_out, x, mean, rstd and weight that gives the gradients of x, weight and bias.

    Those of weight and bias have the shapes of the two arguments behind these.
    """
    attributes = _attributes(operation, eps)

    def results(grad_out: jax.Array, x: jax.Array, *others: jax.Array) -> Arrays:
        *_, like_weight, like_bias = others
        real = arguments.arithmetic_type(x.dtype)
        types = (x.shape, x.dtype), (like_weight.shape, real), (like_bias.shape, real)
        return _backward_call.bind(grad_out, x, *others, types=types, **attributes)

    return _with_batches(results, parameters=3, sums=True)


def _with_batches(function: Callable[..., Arrays], parameters: int, sums: bool = False) -> Callable[..., Arrays]:
    """Give a function a rule for vmap: a batch is more rows, and more rows of its last arguments, the parameters.

    These are repeated if they are not the same for all rows, or if each example has sums over rows of its own.
    """
    batched = jax.custom_batching.custom_vmap(jax.jit(function))

    @batched.def_vmap
    def rule(size: int, in_batched: Sequence[bool], *args: jax.Array) -> tuple[Arrays, list[bool]]:
        last = len(args) - parameters
        shared = not sums and not any(
            is_batched or a.shape[0] > 1 for a, is_batched in zip(args[last:], in_batched[last:], strict=True)
        )
        rows = []
        for i, (a, is_batched) in enumerate(zip(args, in_batched, strict=True)):
            if i < last or not shared:
                a = a if is_batched else jnp.broadcast_to(a, (size, *a.shape))
                a = a.reshape(size * a.shape[1], *a.shape[2:])
            rows.append(a)
        shapes = [a.shape[1:] if is_batched else a.shape for a, is_batched in zip(args, in_batched, strict=True)]
        one = jax.eval_shape(function, *map(jax.ShapeDtypeStruct, shapes, (a.dtype for a in args)))
        return [a.reshape(size, *b.shape) for a, b in zip(batched(*rows), one, strict=True)], [True] * len(one)

    return cast(Callable[..., Arrays], batched)


def _refuse(context: Any, *args: Any, **parameters: Any) -> Any:
    raise NotImplementedError(
        f"pyln.jax computes on the CPU, and this is for {' and '.join(context.module_context.platforms)}: "
        "put the arrays there (jax.device_put(x, jax.devices('cpu')[0])), set JAX_PLATFORMS=cpu, "
        "or use jax.numpy on other devices"
    )


def _results(*args: Any, types: Any, **attributes: Any) -> list[jax.core.ShapedArray]:
    for a in args:
        # Whether values differ among a shard_map's devices has another name every few versions of JAX, and no public
        # way into the types of results.
        if getattr(a, "vma", None) or getattr(getattr(a, "mat", None), "varying", None):
            raise NotImplementedError("pyln.jax under jax.shard_map needs check_vma=False, as an argument of shard_map")
    return [jax.core.ShapedArray(*t) for t in types]


def _call(target: str) -> jax.extend.core.Primitive:
    """Return an operation of XLA that calls a function of jax.c; its results have the given `types`."""

    def lower(context: Any, *args: Any, types: Any, **attributes: Any) -> Any:
        return jax.ffi.ffi_lowering(target)(context, *args, **attributes)

    primitive = jax.extend.core.Primitive(target)
    primitive.multiple_results = True
    primitive.def_abstract_eval(_results)
    mlir.register_lowering(primitive, _refuse)
    mlir.register_lowering(primitive, lower, platform="cpu")
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(_library, target)), platform="cpu")
    return primitive


_library = ctypes.CDLL(_core.__file__)
_forward_call = _call("pyln_jax_forward")
_backward_call = _call("pyln_jax_backward")
