"""pyln.onnx: whole models through ONNX's reference evaluator with pyln's operators, beside ONNX's own and ONNX Runtime."""

import io
import sys
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import test_examples
from commands import run

import pyln

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import pyln.onnx  # noqa: E402

MICROSOFT = "com.microsoft"
TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
Arrays = dict[str, np.ndarray]


def array(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> np.ndarray:
    return (1 + rng.standard_normal(shape)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def model(
    nodes: list[Any],
    inputs: Arrays,
    outputs: list[str],
    opset: int,
    output_types: dict[str, int] | None = None,
    initializers: Arrays | None = None,
    checked: bool = True,
) -> Any:
    types = output_types or {}
    x = next(iter(inputs.values()))
    shape = [None] * x.ndim
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info(name, TYPES[a.dtype.name], a.shape) for name, a in inputs.items()],
        [helper.make_tensor_value_info(name, types.get(name, TYPES[x.dtype.name]), shape) for name in outputs],
        [numpy_helper.from_array(a, name) for name, a in (initializers or {}).items()],
    )
    domains = {"", *(node.domain for node in nodes)}
    imports = [helper.make_opsetid(domain, opset if domain == "" else 1) for domain in sorted(domains)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if checked and domains == {""}:
        onnx.checker.check_model(made, full_check=True)
    return made


def by_pyln(model: Any, inputs: Arrays) -> list[np.ndarray]:
    """Run, and see that the norms are not computed by someone else."""
    evaluator = ReferenceEvaluator(model, new_ops=pyln.onnx.operators())
    for node, implementation in zip(model.graph.node, evaluator.rt_nodes_, strict=True):
        assert ("Norm" in node.op_type) == (type(implementation).__module__ == "pyln.onnx")
    return evaluator.run(None, inputs)


def by_onnxruntime(model: Any, inputs: Arrays) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def compare(got: list[np.ndarray], want: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=tolerance, atol=tolerance)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---- Each operator ----


@pytest.mark.parametrize("axis", [-1, -2, -4, 1, 0])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_layer_normalization(rng: np.random.Generator, name: str, with_bias: bool, axis: int) -> None:
    x = array(rng, 2, 3, 4, 5, dtype=name)
    inputs = {"x": x, "scale": array(rng, *x.shape[axis:], dtype=name)}
    if with_bias:
        inputs["bias"] = array(rng, *x.shape[axis:], dtype=name)
    node = helper.make_node("LayerNormalization", list(inputs), ["y", "mean", "rstd"], axis=axis, epsilon=1e-3)
    statistics = {"mean": TensorProto.FLOAT, "rstd": TensorProto.FLOAT}
    made = model([node], inputs, ["y", "mean", "rstd"], 17, statistics)
    got = by_pyln(made, inputs)
    axes = tuple(range(axis % 4, 4))
    want = pyln.layer_norm(
        x,
        None,
        *list(inputs.values())[1:],
        eps=np.float32(1e-3),
        axis=axes,
        return_stats=True,
        round_steps=name == "float16",
    )
    assert same_bits(got[0], want[0])
    assert all(same_bits(a, b.astype(np.float32)) for a, b in zip(got[1:], want[1:], strict=True))
    assert got[1].shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    if name == "float64":  # ONNX Runtime gives statistics in float64 there, against ONNX's definition
        made = model(
            [helper.make_node("LayerNormalization", list(inputs), ["y"], axis=axis, epsilon=1e-3)], inputs, ["y"], 17
        )
        got = got[:1]
    compare(got, by_onnxruntime(made, inputs), {"float64": 1e-12, "float32": 2e-6, "float16": 4e-3}[name])


def test_16_bit_results_are_rounded_as_onnx_defines_it(rng: np.random.Generator) -> None:
    """Bit for bit, by the operators of which ONNX says that LayerNormalization is made."""
    x = array(rng, 200, 64, dtype="bfloat16")
    inputs = {"x": x, "scale": array(rng, 64, dtype="bfloat16"), "bias": array(rng, 64, dtype="bfloat16")}
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y", "mean", "rstd"])
    made = model([node], inputs, ["y", "mean", "rstd"], 17, {"mean": TensorProto.FLOAT, "rstd": TensorProto.FLOAT})
    (y, mean, rstd) = by_pyln(made, inputs)
    assert mean.dtype == rstd.dtype == np.float32
    normalized = pyln.layer_norm(x, 64)
    assert same_bits(y, normalized * inputs["scale"] + inputs["bias"])
    assert not same_bits(y, pyln.layer_norm(x, 64, inputs["scale"], inputs["bias"]))


def test_statistics_have_the_type_that_stash_type_says(rng: np.random.Generator) -> None:
    inputs = {"x": array(rng, 5, 16), "scale": array(rng, 16)}
    nodes = {
        stash: helper.make_node("LayerNormalization", ["x", "scale"], ["y", "mean", "rstd"], stash_type=stash)
        for stash in (TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    }
    results = {}
    for stash in (TensorProto.FLOAT, TensorProto.BFLOAT16):
        made = model([nodes[stash]], inputs, ["y", "mean", "rstd"], 17, {"mean": stash, "rstd": stash})
        results[stash] = by_pyln(made, inputs)
    wide, narrow = results.values()
    assert same_bits(wide[0], narrow[0])
    assert all(same_bits(a.astype(ml_dtypes.bfloat16), b) for a, b in zip(wide[1:], narrow[1:], strict=True))
    refused = helper.make_graph(
        [nodes[TensorProto.DOUBLE]],
        "refused",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(NotImplementedError, match=r"stash_type: expected 1 \(float32\) or 16 \(bfloat16\), got 11"):
        by_pyln(helper.make_model(refused, opset_imports=[helper.make_opsetid("", 17)]), inputs)


@pytest.mark.parametrize(
    "shape", [(5,), (1,), (4, 5), (1, 5), (4, 1), (1, 1, 4, 5), (2, 1, 4, 5), (2, 1, 1, 1), (3, 4, 5)]
)
def test_scale_and_bias_are_repeated_as_numpy_does(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, scale, bias = array(rng, 2, 3, 4, 5), array(rng, *shape), array(rng, 5)
    inputs = {"x": x, "scale": scale, "bias": bias}
    node = helper.make_node("LayerNormalization", list(inputs), ["y"], axis=2)
    (y,) = by_pyln(model([node], inputs, ["y"], 17), inputs)
    np.testing.assert_allclose(y, pyln.layer_norm(x, (4, 5)) * scale + bias, rtol=1e-5, atol=1e-6)
    if scale.ndim < 3:
        node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=2)
        inputs.pop("bias")
        (y,) = by_pyln(model([node], inputs, ["y"], 23), inputs)
        np.testing.assert_allclose(y, pyln.rms_norm(x, (4, 5), eps=1e-5) * scale, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, -2, 0])
@pytest.mark.parametrize("scale_type", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_rms_normalization(rng: np.random.Generator, name: str, scale_type: str, axis: int) -> None:
    x, scale = array(rng, 3, 4, 5, dtype=name), array(rng, *(3, 4, 5)[axis:], dtype=scale_type)
    inputs = {"x": x, "scale": scale}
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=axis, epsilon=1e-3)
    # onnx's checker knows no types of scale but x's, against the operator's definition.
    made = model([node], inputs, ["y"], 23, {"y": TYPES[scale_type]}, checked=name == scale_type)
    (y,) = by_pyln(made, inputs)
    wide = pyln.rms_norm(x.astype(np.float64), None, scale.astype(np.float64), 1e-3, axis=tuple(range(axis % 3, 3)))
    tolerances = {"float64": 1e-7, "float32": 2e-6, "float16": 4e-3, "bfloat16": 4e-2}
    compare([y], [wide.astype(scale.dtype)], max(tolerances[name], tolerances[scale_type]))
    if name == scale_type:
        short = x.dtype.itemsize == 2
        assert same_bits(y, pyln.rms_norm(x, x.shape[axis:], scale, np.float32(1e-3), round_steps=short))
    if name == scale_type == "float32":
        compare([y], by_onnxruntime(made, inputs), 2e-6)


@pytest.mark.parametrize(("opset", "count"), [(18, 3), (21, 6)])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_group_normalization(rng: np.random.Generator, name: str, opset: int, count: int) -> None:
    x = array(rng, 2, 6, 4, 5, dtype=name)
    inputs = {"x": x, "scale": array(rng, count, dtype=name), "bias": array(rng, count, dtype=name)}
    node = helper.make_node("GroupNormalization", list(inputs), ["y"], num_groups=3, epsilon=1e-3)
    made = model([node], inputs, ["y"], opset, checked=opset != 18)  # the checker refuses what is deprecated
    (y,) = by_pyln(made, inputs)
    scale, bias = (np.repeat(inputs[name], 6 // count) for name in ("scale", "bias"))
    assert same_bits(y, pyln.group_norm(x, 3, scale, bias, np.float32(1e-3)))
    compare([y], by_onnxruntime(made, inputs), {"float64": 5e-6, "float32": 5e-6, "float16": 2e-2}[name])


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7), (2, 3, 1)])
@pytest.mark.parametrize("opset", [6, 22])
def test_instance_normalization(rng: np.random.Generator, opset: int, shape: tuple[int, ...]) -> None:
    inputs = {"x": array(rng, *shape), "scale": array(rng, 3), "bias": array(rng, 3)}
    node = helper.make_node("InstanceNormalization", list(inputs), ["y"], epsilon=1e-3)
    made = model([node], inputs, ["y"], opset)
    (y,) = by_pyln(made, inputs)
    assert same_bits(y, pyln.group_norm(inputs["x"], 3, inputs["scale"], inputs["bias"], np.float32(1e-3)))
    compare([y], by_onnxruntime(made, inputs), 5e-6)


@pytest.mark.parametrize("skip_shape", [(2, 3, 8), (1, 3, 8), (3, 8)])
@pytest.mark.parametrize("optional", [(), ("beta",), ("bias",), ("beta", "bias")])
def test_skip_layer_normalization(
    rng: np.random.Generator, skip_shape: tuple[int, ...], optional: tuple[str, ...]
) -> None:
    inputs = {"x": array(rng, 2, 3, 8), "skip": array(rng, *skip_shape), "gamma": array(rng, 8)}
    inputs |= {name: array(rng, 8) for name in optional}
    names = [name if name in inputs else "" for name in ("x", "skip", "gamma", "beta", "bias")]
    node = helper.make_node("SkipLayerNormalization", names, ["y", "", "", "total"], domain=MICROSOFT, epsilon=1e-3)
    made = model([node], inputs, ["y", "total"], 17)
    got = by_pyln(made, inputs)
    compare(got, by_onnxruntime(made, inputs), 2e-6)
    total = inputs["x"] + inputs["bias"] + inputs["skip"] if "bias" in inputs else inputs["x"] + inputs["skip"]
    assert same_bits(got[1], total)
    assert same_bits(got[0], pyln.layer_norm(total, 8, inputs["gamma"], inputs.get("beta"), np.float32(1e-3)))


@pytest.mark.parametrize("with_bias", [False, True])
def test_skip_simplified_layer_normalization(rng: np.random.Generator, with_bias: bool) -> None:
    inputs = {"x": array(rng, 2, 3, 8), "skip": array(rng, 2, 3, 8), "gamma": array(rng, 8)}
    if with_bias:
        inputs["bias"] = array(rng, 8)
    node = helper.make_node("SkipSimplifiedLayerNormalization", list(inputs), ["y", "", "", "total"], domain=MICROSOFT)
    made = model([node], inputs, ["y", "total"], 17)
    compare(by_pyln(made, inputs), by_onnxruntime(made, inputs), 2e-6)


def test_statistics_of_the_sum(rng: np.random.Generator) -> None:
    inputs = {"x": array(rng, 2, 3, 8), "skip": array(rng, 2, 3, 8), "gamma": array(rng, 8)}
    node = helper.make_node("SkipLayerNormalization", list(inputs), ["y", "mean", "rstd", "total"], domain=MICROSOFT)
    y, mean, rstd, total = by_pyln(model([node], inputs, ["y", "mean", "rstd", "total"], 17), inputs)
    want = pyln.layer_norm(total, 8, inputs["gamma"], None, 1e-12, return_stats=True)
    assert all(same_bits(a, b) for a, b in zip((y, mean, rstd), want, strict=True))


@pytest.mark.parametrize("axis", [2, -3])
def test_axis_out_of_range(axis: int) -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], axis=axis)
    with pytest.raises(ValueError, match=f"axis: {axis} is out of range for an input of 2 dimensions"):
        ReferenceEvaluator(node, new_ops=pyln.onnx.operators()).run(
            None, {"x": np.ones((2, 3), np.float32), "scale": np.ones(3, np.float32)}
        )


# ---- Whole models ----


def test_a_model_of_all_of_them(rng: np.random.Generator) -> None:
    """Nodes of ONNX's own between pyln's, at the newest opset that ONNX Runtime has been seen to know."""
    inputs = {"x": array(rng, 2, 6, 4, 5)}
    parameters = {"c": array(rng, 6), "d": array(rng, 6), "e": array(rng, 5), "f": array(rng, 4, 5)}
    nodes = [
        helper.make_node("GroupNormalization", ["x", "c", "d"], ["a"], num_groups=2),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("InstanceNormalization", ["b", "d", "c"], ["g"]),
        helper.make_node("Add", ["g", "x"], ["h"]),
        helper.make_node("LayerNormalization", ["h", "f", "f"], ["i", "mean", "rstd"], axis=-2),
        helper.make_node("Sigmoid", ["i"], ["j"]),
        helper.make_node("RMSNormalization", ["j", "e"], ["y"]),
    ]
    made = model(nodes, inputs, ["y", "mean", "rstd"], 23, initializers=parameters)
    got = by_pyln(made, inputs)
    compare(got, by_onnxruntime(made, inputs), 1e-5)
    # That is close to what it is without pyln; but not the same, as other code computes it.
    plain = ReferenceEvaluator(made).run(None, inputs)
    compare(got, plain, 1e-5)
    assert not same_bits(got[0], plain[0])


def test_far_from_zero_it_is_right_where_the_others_are_not(rng: np.random.Generator) -> None:
    inputs = {"x": array(rng, 64, 768) + np.float32(1e4), "scale": np.ones(768, np.float32)}
    made = model([helper.make_node("LayerNormalization", ["x", "scale"], ["y"])], inputs, ["y"], 17)
    x = inputs["x"].astype(np.float64)
    exact = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    ours, theirs = (abs(f(made, inputs)[0] - exact).max() for f in (by_pyln, by_onnxruntime))
    assert ours < 1e-6 < 1e-4 < theirs


def torch_export(module: Any, example: Any, opset: int) -> Any:
    """By the exporter that needs no other packages; newer ones of PyTorch need onnxscript."""
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is deprecated
        torch.onnx.export(module.eval(), (example,), file, opset_version=opset, dynamo=False, input_names=["x"])
    return onnx.load_from_string(file.getvalue())


def test_a_model_exported_by_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(16, 12),
        torch.nn.LayerNorm(12),
        torch.nn.GELU(),
        torch.nn.Unflatten(1, (6, 2)),
        torch.nn.InstanceNorm1d(6, affine=True),
        torch.nn.Flatten(),
        torch.nn.LayerNorm((12,), eps=1e-3, elementwise_affine=False),
    )
    example = torch.from_numpy(array(rng, 5, 16))
    made = torch_export(layers, example, 17)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("LayerNormalization") == 2 and "InstanceNormalization" in kinds
    inputs = {"x": example.numpy()}
    got = by_pyln(made, inputs)
    compare(got, by_onnxruntime(made, inputs), 1e-5)
    compare(got, [layers(example).detach().numpy()], 1e-5)


def test_onnx_is_imported_on_request_only() -> None:
    program = "import sys; sys.modules['onnx'] = None\ntry: import pyln.onnx\nexcept ImportError as e: print(e)"
    assert run(sys.executable, "-c", program) == 'pyln.onnx needs the package onnx: pip install "pyln[onnx]"\n'


def test_snippets_print_what_the_page_says() -> None:
    test_examples.test_snippets_print_what_the_page_says("onnx")
