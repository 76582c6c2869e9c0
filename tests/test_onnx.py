"""Every node test of ONNX for the operators that pyln computes."""

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

import pyln

pytestmark = pytest.mark.usefixtures("isa")


def layer_normalization(x: Any, scale: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5) -> tuple:
    axes = tuple(range(axis % x.ndim, x.ndim))
    return pyln.layer_norm(x, None, scale, bias, epsilon, axis=axes, return_stats=True)


def rms_normalization(x: Any, scale: Any, *, axis: int = -1, epsilon: float = 1e-5) -> tuple:
    return (pyln.rms_norm(x, None, scale, epsilon, axis=tuple(range(axis % x.ndim, x.ndim))),)


def group_normalization(x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5) -> tuple:
    return (pyln.group_norm(x, num_groups, scale, bias, epsilon),)


def instance_normalization(x: Any, scale: Any, bias: Any, *, epsilon: float = 1e-5) -> tuple:
    return (pyln.instance_norm(x, scale, bias, epsilon),)


OPERATORS = {
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
}


def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other operators
        everything = collect_testcases(None)
    return [case for case in everything if any(node.op_type in OPERATORS for node in case.model.graph.node)]


CASES = cases()


def test_all_operators_are_there() -> None:
    counts = {name: 0 for name in OPERATORS}
    for case in CASES:
        counts[case.model.graph.node[0].op_type] += 1
    assert counts["LayerNormalization"] >= 19
    assert counts["RMSNormalization"] >= 19
    assert counts["GroupNormalization"] >= 2
    assert counts["InstanceNormalization"] >= 2


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case: Any) -> None:
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for inputs, expected in case.data_sets:
        results = OPERATORS[node.op_type](*inputs, **attributes)
        assert len(results) >= len(expected)
        for got, want in zip(results, expected, strict=False):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
