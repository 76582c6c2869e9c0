"""pyln.jax: pyln's bits in JAX's arrays, gradients, and what JAX does to functions."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import test_examples
from commands import ROOT, run

import pyln

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import pyln.jax  # noqa: E402

COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
TYPES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float16 and float32": ("float16", "float32"),
    "bfloat16 and float32": ("bfloat16", "float32"),
}
NORMS = ["layer_norm", "rms_norm"]


@pytest.fixture
def x64() -> Iterator[None]:
    """Let JAX have float64."""
    with enabled_x64(True):
        yield


def enabled_x64(value: bool) -> AbstractContextManager[Any]:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(value)
    from jax.experimental import enable_x64

    return enable_x64(value)


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def same_bits(got: Any, want: Any) -> bool:
    got, want = np.asarray(got), np.asarray(want)
    return got.shape == want.shape and got.dtype == want.dtype and got.tobytes() == want.tobytes()


def operands(
    rng: np.random.Generator, shape: tuple[int, ...], axes: tuple[int, ...], types: tuple[str, str] = TYPES["float32"]
) -> list[np.ndarray]:
    x_type, parameter_type = map(dtype_of, types)
    x = (3 + 2 * rng.standard_normal(shape)).astype(x_type)
    weight, bias = rng.standard_normal((2, *(shape[a] for a in axes))).astype(parameter_type)
    return [x, weight, bias]


def by_pyln(norm: str, args: list[Any], axes: tuple[int, ...], eps: float, grad_out: np.ndarray) -> tuple[Any, ...]:
    """Y and the gradients of x and of the parameters that there are, in the types that JAX gives them."""
    x, *parameters = args
    y, *statistics = getattr(pyln, norm)(x, None, *parameters, eps, axis=axes, return_stats=True)
    if norm == "rms_norm":
        parameters = parameters[:1]
    grads = getattr(pyln, f"{norm}_backward")(grad_out, x, None, *statistics, *parameters, axis=axes)
    return y, grads[0], *(g.astype(p.dtype) for g, p in zip(grads[1:], parameters, strict=False) if p is not None)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize(("shape", "axes"), [((7, 33), (1,)), ((2, 5, 3, 4), (1,)), ((4, 3, 16), (1, 2)), ((9,), (0,))])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.usefixtures("isa", "x64")
def test_has_the_bits_of_pyln(
    rng: np.random.Generator, norm: str, shape: Any, axes: Any, types: tuple[str, str], compiled: bool
) -> None:
    args = operands(rng, shape, axes, types)[: 3 if norm == "layer_norm" else 2]
    function = partial(getattr(pyln.jax, norm), axis=axes, eps=1e-3)

    def results(grad_out: Any, *args: Any) -> tuple[Any, ...]:
        y, backward = jax.vjp(function, *args)
        return y, *backward(grad_out)

    grad_out = rng.standard_normal(shape).astype(args[0].dtype)
    got = (jax.jit(results) if compiled else results)(grad_out, *args)
    want = by_pyln(norm, args, axes, 1e-3, grad_out)
    assert len(got) == len(want) == len(args) + 1
    assert [same_bits(a, b) for a, b in zip(got, want, strict=True)] == [True] * len(want)


@pytest.mark.parametrize("x64_enabled", [False, True])
def test_types_follow_x64(rng: np.random.Generator, x64_enabled: bool) -> None:
    x, weight, bias = operands(rng, (3, 8), (1,), TYPES["float64"])
    with enabled_x64(x64_enabled):
        y = pyln.jax.layer_norm(x, weight, bias)
        assert y.dtype == (np.float64 if x64_enabled else np.float32)
        x, weight, bias = (a.astype(y.dtype) for a in (x, weight, bias))
        assert same_bits(y, pyln.layer_norm(x, 8, weight, bias))


@pytest.mark.parametrize("present", [(), ("weight",), ("bias",)])
def test_absent_parameters(rng: np.random.Generator, present: tuple[str, ...]) -> None:
    x, *parameters = operands(rng, (6, 20), (1,))
    given = {name: p for name, p in zip(("weight", "bias"), parameters, strict=True) if name in present}
    grad_out = rng.standard_normal(x.shape, np.float32)
    y, backward = jax.vjp(lambda x, given: pyln.jax.layer_norm(x, **given), x, given)
    grad_x, grads = backward(grad_out)
    want = by_pyln("layer_norm", [x, given.get("weight"), given.get("bias")], (1,), 1e-5, grad_out)
    assert same_bits(y, want[0]) and same_bits(grad_x, want[1])
    assert all(same_bits(a, b) for a, b in zip(grads.values(), want[2:], strict=True))


def test_default_eps_of_rms_norm(rng: np.random.Generator) -> None:
    for name in ("float32", "float16", "bfloat16"):
        x = (1e-4 * rng.standard_normal((4, 16))).astype(dtype_of(name))
        assert same_bits(pyln.jax.rms_norm(x), pyln.rms_norm(x, 16))


def plain_layer_norm(x: Any, weight: Any, bias: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    shape = [n if i in axis else 1 for i, n in enumerate(x.shape)]
    centered = x - x.mean(axis, keepdims=True)
    var = (centered * centered).mean(axis, keepdims=True)
    return centered / jnp.sqrt(var + eps) * weight.reshape(shape) + bias.reshape(shape)


def plain_rms_norm(x: Any, weight: Any, bias: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    shape = [n if i in axis else 1 for i, n in enumerate(x.shape)]
    return x / jnp.sqrt((x * x).mean(axis, keepdims=True) + eps) * weight.reshape(shape) + 0 * bias.sum()


@pytest.mark.parametrize(("shape", "axes"), [((7, 33), (1,)), ((2, 5, 3, 4), (1,)), ((4, 3, 16), (1, 2))])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_plain_formula(
    rng: np.random.Generator, norm: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    args = operands(rng, shape, axes, TYPES["float64"])
    coefficients = rng.standard_normal(shape)

    def loss(norm: Callable[..., Any], *args: Any) -> Any:
        return (jnp.sin(norm(*args, axis=axes, eps=1e-3)) * coefficients).sum()

    ours = pyln.jax.layer_norm if norm == "layer_norm" else lambda x, w, b, **more: pyln.jax.rms_norm(x, w, **more)
    plain = plain_layer_norm if norm == "layer_norm" else plain_rms_norm
    got = jax.jit(jax.grad(partial(loss, ours), (0, 1, 2)))(*args)
    want = jax.grad(partial(loss, plain), (0, 1, 2))(*args)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def in_batches(in_axes: tuple[int | None, ...], size: int, args: list[Any]) -> list[list[Any]]:
    return [
        [a if axis is None else np.take(a, i, axis) for a, axis in zip(args, in_axes, strict=True)] for i in range(size)
    ]


@pytest.mark.parametrize(
    "in_axes",
    [(0, None, None), (1, None, None), (0, 0, 0), (2, 0, 0), (0, 0, None), (0, None, 0), (None, 0, 0), (None, None, 1)],
)
def test_vmap(rng: np.random.Generator, in_axes: tuple[int | None, ...]) -> None:
    size, plain = 5, operands(rng, (4, 6), (1,))
    args = [
        a if axis is None else np.stack([rng.permuted(a) for _ in range(size)], axis)
        for a, axis in zip(plain, in_axes, strict=True)
    ]
    got = jax.jit(jax.vmap(pyln.jax.layer_norm, in_axes))(*args)
    want = [pyln.layer_norm(x, 6, weight, bias) for x, weight, bias in in_batches(in_axes, size, args)]
    assert same_bits(got, np.stack(want))


def test_vmap_in_vmap(rng: np.random.Generator) -> None:
    x, _, bias = operands(rng, (2, 3, 4, 6), (3,))
    weights = rng.standard_normal((2, 6), np.float32)
    function = jax.vmap(jax.vmap(pyln.jax.layer_norm, (0, None, None)), (0, 0, None))
    assert same_bits(
        function(x, weights, bias), np.stack([pyln.layer_norm(a, 6, w, bias) for a, w in zip(x, weights, strict=True)])
    )
    function = jax.vmap(jax.vmap(pyln.jax.layer_norm, (None, 0, None)), (0, None, None))
    want = [[pyln.layer_norm(a, 6, w, bias) for w in weights] for a in x]
    assert same_bits(function(x, weights, bias), np.array(want))
    function = jax.vmap(jax.vmap(pyln.jax.layer_norm, (0, 0, None)), (1, None, None))
    want = [[pyln.layer_norm(x[i, j], 6, weights[i], bias) for i in range(2)] for j in range(3)]
    assert same_bits(function(x, weights, bias), np.array(want))


def test_vmap_over_channels_first(rng: np.random.Generator) -> None:
    x, weight, bias = operands(rng, (5, 2, 3, 7), (2,))
    function = jax.vmap(partial(pyln.jax.layer_norm, axis=1), (0, None, None))
    assert same_bits(function(x, weight, bias), pyln.layer_norm(x, None, weight, bias, axis=2))


@pytest.mark.parametrize("in_axes", [(0, None, None), (0, 0, 0), (0, 0, None), (None, 0, 0)])
def test_gradients_of_each_example(rng: np.random.Generator, in_axes: tuple[int | None, ...]) -> None:
    size, plain = 3, operands(rng, (40, 6), (1,))
    args = [
        a if axis is None else np.stack([rng.permuted(a) for _ in range(size)])
        for a, axis in zip(plain, in_axes, strict=True)
    ]
    grad = jax.grad(lambda *args: (pyln.jax.layer_norm(*args) ** 2).sum(), (0, 1, 2))
    got = jax.jit(jax.vmap(grad, in_axes))(*args)
    for i, one in enumerate(in_batches(in_axes, size, args)):
        want = by_pyln("layer_norm", one, (1,), 1e-5, 2 * pyln.layer_norm(one[0], 6, one[1], one[2]))[1:]
        assert same_bits(got[0][i], want[0])
        for a, b in zip(got[1:], want[1:], strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-5)


def test_gradient_through_vmap_sums_over_the_batch(rng: np.random.Generator) -> None:
    args = operands(rng, (8, 40, 6), (2,))
    each = jax.vmap(pyln.jax.layer_norm, (0, None, None))
    got = jax.grad(lambda *args: (each(*args) ** 2).sum(), (0, 1, 2))(*args)
    want = jax.grad(lambda *args: (pyln.jax.layer_norm(*args) ** 2).sum(), (0, 1, 2))(*args)
    assert same_bits(got[0], want[0])
    for a, b in zip(got[1:], want[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_other_transformations(rng: np.random.Generator) -> None:
    x, weight, bias = operands(rng, (4, 6), (1,))

    def loss(x: Any, norm: Any) -> Any:
        return (norm(x, weight, bias) ** 2).sum()

    want = jax.grad(loss)(x, pyln.jax.layer_norm)
    assert same_bits(jax.grad(loss)(x, jax.checkpoint(pyln.jax.layer_norm)), want)
    _, y = jax.lax.scan(lambda carry, row: (carry, pyln.jax.layer_norm(row, weight, bias)), 0, x)
    assert same_bits(y, pyln.layer_norm(x, 6, weight, bias))
    jacobian = jax.jacrev(pyln.jax.layer_norm)(x[0], weight, bias)
    np.testing.assert_allclose(
        jacobian, jax.jacfwd(partial(plain_layer_norm, axis=(0,), eps=1e-5))(x[0], weight, bias), atol=1e-5
    )
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(pyln.jax.layer_norm, (x,), (x,))
    with pytest.raises(NotImplementedError, match="Differentiation rule for 'pyln_jax_forward' not implemented"):
        jax.grad(lambda x: jax.grad(loss)(x, pyln.jax.layer_norm).sum())(x)


def test_only_the_gradients_that_are_wanted(rng: np.random.Generator) -> None:
    x, weight, bias = operands(rng, (4, 6), (1,))
    compiled = jax.jit(jax.vmap(jax.grad(lambda x: pyln.jax.layer_norm(x, weight, bias).sum()))).lower(x).compile()
    (backward,) = [line for line in compiled.as_text().splitlines() if 'target="pyln_jax_backward"' in line]
    assert "= (f32[4,6,1]{2,1,0}, f32[0,6]{1,0}, f32[0,6]{1,0}) custom-call" in backward


def test_nothing_is_copied(rng: np.random.Generator) -> None:
    x, weight, bias = operands(rng, (32, 64), (1,))
    compiled = jax.jit(pyln.jax.layer_norm).lower(x, weight, bias).compile()
    operations = re.findall(r"%\S+ = .*? ([a-z-]+)\(%?", compiled.as_text())
    assert operations.count("custom-call") == 1
    assert set(operations) <= {"parameter", "bitcast", "get-tuple-element", "custom-call"}


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.usefixtures("x64")
def test_numbers_that_xla_flushes_to_zero(rng: np.random.Generator, name: str) -> None:
    tiny = np.finfo(name).smallest_normal
    x = rng.standard_normal((3, 50)).astype(name)
    weight = (x[0] * tiny / 8).astype(name)
    y = pyln.layer_norm(x, 50, weight)
    assert 0 < abs(y).max() < tiny
    assert same_bits(pyln.jax.layer_norm(x, weight), y)
    small = (x * tiny).astype(name)
    assert same_bits(pyln.jax.layer_norm(small, eps=0), pyln.layer_norm(small, 50, eps=0))
    grad_out = (x * tiny / 8).astype(name)
    got = jax.vjp(pyln.jax.layer_norm, x, weight)[1](grad_out)
    want = by_pyln("layer_norm", [x, weight, None], (1,), 1e-5, grad_out)
    assert same_bits(got[0], want[1]) and same_bits(got[1], want[2])


def test_large_arrays_are_shared_by_threads(rng: np.random.Generator) -> None:
    args = operands(rng, (2100, 1000), (1,))
    args[1] *= np.float32(1e-39)  # so that each thread must leave subnormal numbers alone
    want = by_pyln("layer_norm", args, (1,), 1e-5, args[0])
    function = jax.jit(lambda *args: jax.vjp(pyln.jax.layer_norm, *args)[1](args[0]))

    def results(_: int) -> bool:
        got = pyln.jax.layer_norm(*args), *function(*args)
        return all(same_bits(a, b) for a, b in zip(got, want, strict=True))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(results, range(12)))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0), (2, 3, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    for axis in range(len(shape)):
        weight = np.ones(shape[axis], np.float32)
        y, backward = jax.vjp(partial(pyln.jax.layer_norm, axis=axis), x, weight, weight)
        grad_x, *sums = backward(y)
        assert y.shape == grad_x.shape == shape
        assert [same_bits(s, 0 * weight) for s in sums] == [True, True]
    assert jax.vmap(pyln.jax.layer_norm)(np.zeros((0, 5, 2), np.float32)).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("error", "message", "args", "more"),
    [
        (TypeError, "x: expected float32, float64, float16 or bfloat16, got int32", (np.ones((2, 3), np.int32),), {}),
        (TypeError, "weight: expected float32 to go with x, got float16", (None, np.ones(3, np.float16)), {}),
        (TypeError, "bias: expected float32 to go with x, got int32", (None, None, np.ones(3, np.int32)), {}),
        (ValueError, r"weight: expected shape \[3\], that of x's normalized axes, got \[2\]", (None, np.ones(2)), {}),
        (ValueError, "axis: 2 is out of range for an input of 2 dimensions", (), {"axis": 2}),
        (ValueError, "axis: expected consecutive axes, each once", (), {"axis": (0, 0)}),
        (ValueError, "eps: expected a finite float32 that is not negative, got -1", (), {"eps": -1}),
    ],
)
def test_refusals(error: type[Exception], message: str, args: tuple[Any, ...], more: dict[str, Any]) -> None:
    x = np.ones((2, 3), np.float32) if not args or args[0] is None else args[0]
    with pytest.raises(error, match=message):
        pyln.jax.layer_norm(x, *args[1:], **more)
    with pytest.raises(error, match=message):
        jax.jit(lambda x: pyln.jax.layer_norm(x, *args[1:], **more))(x)


def test_parameters_have_one_type() -> None:
    x, weight, bias = np.ones((2, 3), np.float16), np.ones(3, np.float16), np.ones(3, np.float32)
    with pytest.raises(TypeError, match="bias: expected float16 as weight has, got float32"):
        pyln.jax.layer_norm(x, weight, bias)


def test_eps_is_no_traced_value() -> None:
    with pytest.raises(TypeError, match="eps: expected a number, got "):
        jax.jit(lambda eps: pyln.jax.layer_norm(np.ones(3, np.float32), eps=eps))(1e-5)


@pytest.mark.parametrize("function", [pyln.jax.layer_norm, jax.grad(lambda x: pyln.jax.rms_norm(x).sum())])
def test_elsewhere_it_says_what_to_do(function: Callable[..., Any]) -> None:
    with pytest.raises(NotImplementedError, match=r"computes on the CPU, and this is for cuda: .*JAX_PLATFORMS=cpu"):
        jax.jit(function).trace(np.ones((2, 3), np.float32)).lower(lowering_platforms=("cuda",))


def python(program: str, **environment: str) -> str:
    return run(sys.executable, "-W", "error", "-c", program, **environment)


def test_an_error_of_the_library_arrives() -> None:
    program = "import jax, pyln.jax\ntry: print(pyln.jax.layer_norm(jax.numpy.ones((2, 3))))\nexcept jax.errors.JaxRuntimeError as e: print(e)"
    assert "LNORM_ISA" in python(program, LNORM_ISA="z80")


def test_shard_map() -> None:
    program = """
import jax, numpy as np, pyln.jax
from functools import partial
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
x = np.random.default_rng(0).standard_normal((8, 64), np.float32)
weight, bias = np.random.default_rng(1).standard_normal((2, 64), np.float32)
specs = P("d"), P(), P()
args = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip((x, weight, bias), specs)]
over_devices = partial(jax.shard_map, pyln.jax.layer_norm, mesh=mesh, in_specs=specs, out_specs=P("d"))
function = jax.jit(over_devices(check_vma=False))
y = function(*args)
assert len(y.addressable_shards) == 4 and y.addressable_shards[0].data.shape == (2, 64)
assert np.array_equal(y, pyln.layer_norm(x, 64, weight, bias))
assert "all-gather" not in function.lower(*args).compile().as_text()
got = jax.jit(jax.grad(lambda *args: (function(*args) ** 2).sum(), (0, 1, 2)))(*args)
want = jax.grad(lambda *args: (pyln.jax.layer_norm(*args) ** 2).sum(), (0, 1, 2))(x, weight, bias)
assert all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(got, want))
try:
    over_devices()(*args)
except NotImplementedError as error:
    print(error)
"""
    assert python(program, XLA_FLAGS="--xla_force_host_platform_device_count=4") == (
        "pyln.jax under jax.shard_map needs check_vma=False, as an argument of shard_map\n"
    )


def test_a_program_may_end_while_it_is_computed() -> None:
    program = "import jax, pyln.jax\nx = jax.numpy.ones((4000, 2000))\nfor _ in range(5): y = pyln.jax.layer_norm(x)\nprint('end')"
    assert python(program) == "end\n"


def test_jax_is_imported_on_request_only() -> None:
    python("import sys, pyln; assert not {'jax', 'onnx'} & sys.modules.keys()")
    program = "import sys; sys.modules['jax'] = None\ntry: import pyln.jax\nexcept ImportError as e: print(e)"
    assert python(program) == 'pyln.jax needs JAX, 0.5 or later: pip install "pyln[jax]"\n'


# The library's names for what XLA passes, and XLA's.
LAYOUTS = {
    "xla_extension XLA_FFI_Extension_Base": "struct_size type next",
    "xla_version XLA_FFI_Api_Version": "struct_size extensions=extension_start major=major_version minor=minor_version",
    "xla_metadata XLA_FFI_Metadata": "struct_size version=api_version traits",
    "xla_metadata_extension XLA_FFI_Metadata_Extension": "base=extension_base metadata",
    "xla_buffer XLA_FFI_Buffer": "struct_size extensions=extension_start type=dtype data rank dims",
    "xla_buffers XLA_FFI_Args": "struct_size extensions=extension_start size kinds=types at=args",
    "xla_buffers XLA_FFI_Rets": "struct_size extensions=extension_start size kinds=types at=rets",
    "xla_scalar XLA_FFI_Scalar": "type=dtype value",
    "xla_attributes XLA_FFI_Attrs": "struct_size extensions=extension_start size kinds=types names at=attrs",
    "xla_error_args XLA_FFI_Error_Create_Args": "struct_size extensions=extension_start message code=errc",
    "xla_destroy_args XLA_FFI_Error_Destroy_Args": "struct_size extensions=extension_start error",
    "xla_schedule_args XLA_FFI_ThreadPool_Schedule_Args": "struct_size extensions=extension_start context=ctx task data",
    "xla_threads_args XLA_FFI_ThreadPool_NumThreads_Args": (
        "struct_size extensions=extension_start context=ctx threads=num_threads"
    ),
    "xla_api XLA_FFI_Api": (
        "struct_size extensions=extension_start version=api_version internal=internal_api "
        "create_error=XLA_FFI_Error_Create get_message=XLA_FFI_Error_GetMessage destroy_error=XLA_FFI_Error_Destroy "
        "schedule=XLA_FFI_ThreadPool_Schedule count_threads=XLA_FFI_ThreadPool_NumThreads"
    ),
    "xla_frame XLA_FFI_CallFrame": (
        "struct_size extensions=extension_start api context=ctx stage arguments=args results=rets attributes=attrs"
    ),
}
# The structs that XLA may give more fields than are known here; those that pyln fills in have theirs and no more.
GROWING = {"xla_metadata", "xla_api", "xla_frame"}
VALUES = {
    "XLA_METADATA": "XLA_FFI_Extension_Metadata",
    "XLA_F16": "XLA_FFI_DataType_F16",
    "XLA_F32": "XLA_FFI_DataType_F32",
    "XLA_F64": "XLA_FFI_DataType_F64",
    "XLA_BF16": "XLA_FFI_DataType_BF16",
    "XLA_S64": "XLA_FFI_DataType_S64",
    "XLA_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "XLA_RESOURCE_EXHAUSTED": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "XLA_FAILED_PRECONDITION": "XLA_FFI_Error_Code_FAILED_PRECONDITION",
}


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_layouts_are_those_of_jaxlibs_header(tmp_path: Path) -> None:
    checks = ["XLA_MAJOR == XLA_FFI_API_MAJOR", "XLA_MINOR <= XLA_FFI_API_MINOR"]
    for structs, fields in LAYOUTS.items():
        ours, theirs = structs.split()
        for field in fields.split():
            a, b = field.split("=") if "=" in field else (field, field)
            checks.append(f"offsetof({ours}, {a}) == offsetof({theirs}, {b})")
            checks.append(f"sizeof((({ours} *)0)->{a}) <= sizeof((({theirs} *)0)->{b})")
        if ours not in GROWING:
            checks.append(f"sizeof({ours}) == sizeof({theirs})")
    checks += [f"(int){a} == (int){b}" for a, b in VALUES.items()]
    source = tmp_path / "layouts.c"
    lines = [f'_Static_assert({check}, "{check}");' for check in checks]
    source.write_text("\n".join(["#include <xla/ffi/api/c_api.h>", '#include "jax_abi.h"', *lines]))
    assert COMPILER is not None
    run(COMPILER, "-std=c11", "-fsyntax-only", f"-I{jax.ffi.include_dir()}", f"-I{ROOT / 'pyln'}", source)


def test_snippets_print_what_the_page_says() -> None:
    test_examples.test_snippets_print_what_the_page_says("jax")
