"""Other libraries' layer normalization, called as its users would, with outputs given in advance where that is faster.

A peer is opened once, and asked for a call per shape and direction. It may decline by raising ``Declined``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from pyln._bench import _loops
from pyln._bench.cases import EPS, Array, Data, Direction
from pyln._bench.timing import calls_of


class Declined(Exception):
    """Why a peer has no call for a case."""


@dataclass
class Call:
    """`repeat(times)` computes; `results()` are then y, or dx and, if there are parameters, dgamma and dbeta."""

    repeat: Callable[[int], None]
    results: Callable[[], Sequence[Array]]


class Peer(Protocol):
    """A library that is installed."""

    title: str
    version: str

    def call(self, data: Data, direction: Direction) -> Call:
        """Everything but the computation itself is done here."""


# oneDNN, PyTorch and OpenMP read these when they are loaded.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"


def one_thread_each() -> None:
    """Before any of the peers is imported: none of them is to use more than one thread."""
    os.environ.update(_ENVIRONMENT)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}".strip()


class PlainC:
    """The textbook's loop, compiled with -O3."""

    title, version = "plain C", ""

    def call(self, data: Data, direction: Direction) -> Call:
        return Call(lambda times: _loops.repeat_plain(data.operands, direction, times), lambda: data.outputs(direction))


class NumPy:
    """The formula, operation by operation, each into an array that is there already."""

    title, version = "NumPy", np.__version__

    def call(self, data: Data, direction: Direction) -> Call:
        x, dy, y, dx, gamma, beta = data.x, data.dy, data.y, data.dx, data.gamma, data.beta
        scratch, column = np.empty_like(x), np.empty((data.rows, 1), data.dtype)
        other_column = np.empty_like(column)

        def forward() -> None:
            np.mean(x, axis=1, keepdims=True, out=column)
            np.subtract(x, column, out=y)
            np.multiply(y, y, out=scratch)
            np.mean(scratch, axis=1, keepdims=True, out=column)
            np.add(column, EPS, out=column)
            np.sqrt(column, out=column)
            np.divide(y, column, out=y)
            if gamma is not None and beta is not None:
                np.multiply(y, gamma, out=y)
                np.add(y, beta, out=y)

        mean, rstd = data.mean[:, None], data.rstd[:, None]
        xhat = np.empty_like(x)

        def backward() -> None:
            np.subtract(x, mean, out=xhat)
            np.multiply(xhat, rstd, out=xhat)
            if gamma is not None:
                np.multiply(dy, xhat, out=scratch)
                np.sum(scratch, axis=0, out=data.dgamma)
                np.sum(dy, axis=0, out=data.dbeta)
                np.multiply(dy, gamma, out=dx)
            else:
                np.copyto(dx, dy)
            np.mean(dx, axis=1, keepdims=True, out=column)
            np.multiply(dx, xhat, out=scratch)
            np.mean(scratch, axis=1, keepdims=True, out=other_column)
            np.subtract(dx, column, out=dx)
            np.multiply(xhat, other_column, out=xhat)
            np.subtract(dx, xhat, out=dx)
            np.multiply(dx, rstd, out=dx)

        return Call(calls_of(forward if direction == "forward" else backward), lambda: data.outputs(direction))


class PyTorch:
    """Its operators without autograd. Their `out` variants compute into fresh memory and copy, so they are slower."""

    title = "PyTorch"

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.torch.set_num_threads(1)
        self.version = str(self.torch.__version__)

    def call(self, data: Data, direction: Direction) -> Call:
        torch = self.torch
        shape = (data.cols,)
        tensors = (data.x, data.dy, data.gamma, data.beta)
        x, dy, gamma, beta = (None if a is None else torch.from_numpy(a) for a in tensors)
        _, mean, rstd = torch.native_layer_norm(x, shape, gamma, beta, EPS)
        native_backward = torch.ops.aten.native_layer_norm_backward
        affine = gamma is not None
        last: tuple[Any, ...] = ()

        def forward() -> None:
            nonlocal last
            last = (torch.layer_norm(x, shape, gamma, beta, EPS),)

        def backward() -> None:
            nonlocal last
            last = native_backward(dy, x, shape, mean, rstd, gamma, beta, [True, affine, affine])

        repeat = calls_of(forward if direction == "forward" else backward)

        def without_autograd(times: int) -> None:
            with torch.inference_mode():
                repeat(times)

        return Call(without_autograd, lambda: [a.numpy() for a in last if a is not None])


class OnnxRuntime:
    """A model of one LayerNormalization with constant parameters; input and output bound in advance."""

    title = "ONNX Runtime"

    def __init__(self) -> None:
        self.onnx: Any = import_module("onnx")
        self.runtime: Any = import_module("onnxruntime")
        self.version = str(self.runtime.__version__)

    def call(self, data: Data, direction: Direction) -> Call:
        if direction == "backward":
            raise Declined("it has no backward")
        if not data.dense:
            raise Declined("it takes dense tensors only")
        helper = self.onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(data.dtype)
        shape = (data.rows, data.cols)
        gamma = np.ones(data.cols, data.dtype) if data.gamma is None else data.gamma  # it must have one
        constants = {"gamma": gamma} if data.beta is None else {"gamma": gamma, "beta": data.beta}
        graph = helper.make_graph(
            [helper.make_node("LayerNormalization", ["x", *constants], ["y"], axis=-1, epsilon=EPS)],
            "layer_norm",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", kind, shape)],
            [self.onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = self.runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, data.dtype, shape, data.x.ctypes.data)
        binding.bind_output("y", "cpu", 0, data.dtype, shape, data.y.ctypes.data)
        return Call(calls_of(lambda: session.run_with_iobinding(binding)), lambda: (data.y,))


class OpenVino:
    """A model of mean-variance normalization, which it fuses with the scale and the shift that follow."""

    title = "OpenVINO"

    def __init__(self) -> None:
        self.openvino: Any = import_module("openvino")
        self.operations: Any = import_module("openvino.opset13")
        self.version = str(self.openvino.__version__).partition("-")[0]
        self.core = self.openvino.Core()

    def call(self, data: Data, direction: Direction) -> Call:
        if direction == "backward":
            raise Declined("it has no backward")
        if data.settings.type != "f32":
            raise Declined("it computes in f32")
        if not data.dense:
            raise Declined("it takes dense tensors only")
        operations, openvino = self.operations, self.openvino
        x = operations.parameter([data.rows, data.cols], data.dtype)
        y = operations.mvn(x, operations.constant(np.array([1])), True, EPS, "inside_sqrt")
        if data.gamma is not None and data.beta is not None:
            y = operations.multiply(y, operations.constant(data.gamma[None]))
            y = operations.add(y, operations.constant(data.beta[None]))
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        request = self.core.compile_model(openvino.Model([y], [x]), "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(data.x, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(data.y, shared_memory=True))
        return Call(calls_of(lambda: request.infer(share_outputs=True)), lambda: (data.y,))


class Jax:
    """The formula, compiled; backward is what its vjp returns, compiled. It always allocates its results."""

    title = "JAX"

    def __init__(self) -> None:
        self.jax: Any = import_module("jax")
        self.version = str(self.jax.__version__)
        self.jax.config.update("jax_platforms", "cpu")
        self.jax.config.update("jax_enable_x64", True)
        self.jax.config.update("jax_cpu_enable_async_dispatch", False)

    def call(self, data: Data, direction: Direction) -> Call:
        if not data.dense:
            raise Declined("it takes dense tensors only")
        jax = self.jax
        given = [jax.numpy.asarray(a) for a in (data.x, data.gamma, data.beta) if a is not None]
        eps = data.dtype.type(EPS)

        def layer_norm(x: Any, gamma: Any = None, beta: Any = None) -> Any:
            centred = x - x.mean(axis=1, keepdims=True)
            xhat = centred * jax.lax.rsqrt((centred * centred).mean(axis=1, keepdims=True) + eps)
            return xhat if gamma is None else xhat * gamma + beta

        last: Any = None
        if direction == "forward":
            compiled = jax.jit(layer_norm)

            def call() -> None:
                nonlocal last
                last = jax.block_until_ready(compiled(*given))
        else:
            _, pull_back = jax.jit(lambda *operands: jax.vjp(layer_norm, *operands))(*given)
            compiled = jax.jit(lambda function, dy: function(dy))
            dy = jax.numpy.asarray(data.dy)

            def call() -> None:
                nonlocal last
                last = jax.block_until_ready(compiled(pull_back, dy))

        return Call(calls_of(call), lambda: [np.asarray(a) for a in jax.tree.leaves(last)])


def _onednn() -> Peer:
    from pyln._bench.onednn import OneDnn

    return OneDnn()


def _has_onednn() -> bool:
    from pyln._bench.onednn import library_path

    return library_path() is not None


def _has(*modules: str) -> Callable[[], bool]:
    return lambda: all(find_spec(module) is not None for module in modules)


@dataclass(frozen=True)
class Known:
    """A peer by the name that the command line uses."""

    open: Callable[[], Peer]
    installed: Callable[[], bool]
    distribution: str = ""


KNOWN: dict[str, Known] = {
    "plain": Known(PlainC, lambda: True),
    "onednn": Known(_onednn, _has_onednn, "onednn-cpu-gomp"),
    "torch": Known(PyTorch, _has("torch"), "torch"),
    "onnxruntime": Known(OnnxRuntime, _has("onnxruntime", "onnx"), "onnxruntime onnx"),
    "openvino": Known(OpenVino, _has("openvino"), "openvino"),
    "jax": Known(Jax, _has("jax", "jaxlib"), "jax"),
    "numpy": Known(NumPy, lambda: True),
}
