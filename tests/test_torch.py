"""pyln.torch against torch.nn.functional and torch.nn, and in all that PyTorch does with an operator."""

import copy
import io
import pickle
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_examples
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.library import opcheck
from torch.testing import assert_close

import pyln
import pyln.torch as pt
from pyln.torch._arrays import array
from pyln.torch._operators import ELSEWHERE, NAMES

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = torch.ops.pyln
# PyTorch's of its own parts.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}Warning") for kind in ("Deprecation", "Future")]
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def randn(*shape: int, dtype: torch.dtype = torch.float32, leaf: bool = True) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=leaf)


def double(*shape: int) -> Tensor:
    return randn(*shape, dtype=torch.float64)


def add_layer_norm(x: Tensor, residual: Tensor, shape: Any, *rest: Any) -> tuple[Tensor, Tensor]:
    """pyln.torch.add_layer_norm, of PyTorch's operations."""
    total = x + residual
    return F.layer_norm(total, shape, *rest), total


# Each function by pyln and by PyTorch, and the arguments that have gradients.
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[torch.dtype], tuple[Tensor, ...]]]] = {
    "layer_norm": (
        lambda x, w, b: pt.layer_norm(x, (24,), w, b),
        lambda x, w, b: F.layer_norm(x, (24,), w, b),
        lambda d: (randn(3, 5, 24, dtype=d), randn(24, dtype=d), randn(24, dtype=d)),
    ),
    "layer_norm of two axes, without bias": (
        lambda x, w: pt.layer_norm(x, (5, 24), w, eps=1e-3),
        lambda x, w: F.layer_norm(x, (5, 24), w, eps=1e-3),
        lambda d: (randn(3, 5, 24, dtype=d), randn(5, 24, dtype=d)),
    ),
    "layer_norm without parameters": (
        lambda x: pt.layer_norm(x, 24),
        lambda x: F.layer_norm(x, (24,)),
        lambda d: (randn(3, 24, dtype=d),),
    ),
    "rms_norm": (
        lambda x, w: pt.rms_norm(x, (24,), w),
        lambda x, w: F.rms_norm(x, (24,), w),
        lambda d: (randn(3, 5, 24, dtype=d), randn(24, dtype=d)),
    ),
    "rms_norm, zero-centred": (
        lambda x, w: pt.rms_norm(x, 24, w, 1e-6, zero_centered=True),
        lambda x, w: (F.rms_norm(x.to(wide(x)), (24,), None, 1e-6) * (1 + w.to(wide(w)))).to(x.dtype),
        lambda d: (randn(3, 5, 24, dtype=d), randn(24, dtype=d)),
    ),
    "add_layer_norm": (
        lambda x, r, w, b: pt.add_layer_norm(x, r, (24,), w, b),
        lambda x, r, w, b: add_layer_norm(x, r, (24,), w, b),
        lambda d: (randn(3, 5, 24, dtype=d), randn(3, 5, 24, dtype=d), randn(24, dtype=d), randn(24, dtype=d)),
    ),
    "group_norm": (
        lambda x, w, b: pt.group_norm(x, 3, w, b),
        lambda x, w, b: F.group_norm(x, 3, w, b),
        lambda d: (randn(2, 6, 4, 3, dtype=d), randn(6, dtype=d), randn(6, dtype=d)),
    ),
}
case = pytest.mark.parametrize("case", CASES)


def wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def both(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


def test_pyln_does_not_import_torch() -> None:
    code = "import sys, pyln; assert 'torch' not in sys.modules; import pyln.torch; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    code = "import sys; sys.modules['torch'] = None; import pyln.torch"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and 'pip install "pyln[torch]"' in run.stderr


# ---- The numbers ----


@case
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_values_and_gradients_are_those_of_pytorch(case: str, dtype: torch.dtype) -> None:
    ours, theirs, arguments = CASES[case]
    given = arguments(dtype)
    exact = [t.detach().double().requires_grad_() for t in given]
    y, expected = both(ours(*given)), both(theirs(*exact))
    cotangents = [torch.randn_like(t) for t in y]
    grads = torch.autograd.grad(y, given, cotangents)
    expected_grads = torch.autograd.grad(expected, exact, [t.double() for t in cotangents])
    like = both(theirs(*given))
    digits = {torch.float32: 2e-6, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for a, b, c in zip(y, expected, like, strict=True):
        assert a.dtype is c.dtype and a.shape == c.shape
        # The epsilon that None stands for is not float64's: compare with the same.
        if case != "rms_norm" or dtype is torch.float64:
            assert_close(a.double(), b, rtol=digits, atol=digits)
        assert_close(a, c, rtol=2 * digits, atol=2 * digits)
    for a, b, t in zip(grads, expected_grads, given, strict=True):
        assert a.dtype is t.dtype and a.shape == t.shape
        assert_close(a.double(), b, rtol=2 * digits, atol=8 * digits)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (0, 8), (3, 0), (2, 3, 65), (1, 4096)], ids=str)
def test_bits_are_those_of_numpy_arrays(shape: tuple[int, ...], dtype: torch.dtype, isa: str) -> None:
    x, w, b, g = randn(*shape, dtype=dtype), randn(shape[-1]), randn(shape[-1]), randn(*shape, dtype=dtype, leaf=False)
    if dtype is torch.float64:
        w, b = w.detach().double().requires_grad_(), b.detach().double().requires_grad_()
    y = pt.layer_norm(x, shape[-1], w, b)
    grads = torch.autograd.grad(y, (x, w, b), g)
    arrays = [array(t) for t in (x, w, b, g)]
    expected, mean, rstd = pyln.layer_norm(arrays[0], shape[-1], *arrays[1:3], return_stats=True)
    expected_grads = pyln.layer_norm_backward(arrays[3], arrays[0], shape[-1], mean, rstd, *arrays[1:3])
    for a, e in zip((y, *grads), (expected, *expected_grads), strict=True):
        np.testing.assert_array_equal(array(a), e, strict=True)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_epsilon_of_rms_norm_by_default(dtype: torch.dtype) -> None:
    x = 3e-4 * torch.randn(4, 24).to(dtype)  # mean squares near float32's epsilon
    assert_close(pt.rms_norm(x, 24), F.rms_norm(x, (24,)), rtol=0.02, atol=0)


def test_rms_norm_takes_weights_of_any_type() -> None:
    x, w = randn(3, 8), randn(8)
    for dtype in TYPES:
        assert torch.equal(pt.rms_norm(x, 8, w.to(dtype)), pt.rms_norm(x, 8, w.to(dtype).float()))


def test_a_large_mean_costs_pytorch_digits_and_not_pyln() -> None:
    x = randn(8, 768, leaf=False) + 1e4
    exact = F.layer_norm(x.double(), (768,))
    errors = [(f(x, (768,)).double() - exact).abs().max().item() for f in (pt.layer_norm, F.layer_norm)]
    assert errors[0] < 1e-6 < 1e-4 < errors[1]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_tensors_are_used_where_they_lie(dtype: torch.dtype) -> None:
    whole = randn(6, 8, 10, dtype=dtype)
    for t in (whole, whole.detach().transpose(0, 2), whole[1::2, :, 3:], whole[:1].expand(4, 8, 10), whole[0, 0]):
        a = array(t)
        assert a.__array_interface__["data"][0] == t.data_ptr()
        assert a.strides == tuple(s * t.element_size() for s in t.stride())
    a[...] = 3
    assert (whole[0, 0] == 3).all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_strided_tensors_give_the_bits_of_contiguous_ones(dtype: torch.dtype) -> None:
    x = randn(4, 16, 12, dtype=dtype, leaf=False)
    w, b = randn(12, dtype=dtype), randn(12, dtype=dtype)
    for t in (x[:, ::3], x.flip(0)[..., :12], x[:1].expand(3, 16, 12), randn(12, 16, 4, dtype=dtype).transpose(0, 2)):
        t = t.detach().requires_grad_()
        dense = t.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        y, expected = pt.layer_norm(t, 12, w, b), pt.layer_norm(dense, 12, w, b)
        assert torch.equal(y, expected) and y.is_contiguous()
        g = randn(*y.shape, dtype=dtype, leaf=False)
        assert torch.equal(torch.autograd.grad(y, t, g)[0], torch.autograd.grad(expected, dense, g)[0])
        # sum() hands down one number that is expanded
        assert torch.equal(torch.autograd.grad(pt.rms_norm(t, 12).sum(), t)[0], pt_rms_gradient(dense))


def pt_rms_gradient(x: Tensor) -> Tensor:
    y = pt.rms_norm(x, 12)
    return torch.autograd.grad(y, x, torch.ones_like(y))[0]


def test_group_norm_keeps_the_channels_last() -> None:
    w, b = randn(6), randn(6)
    for shape, order in (((2, 6, 4, 5), torch.channels_last), ((2, 6, 3, 4, 5), torch.channels_last_3d)):
        x = randn(*shape, leaf=False)
        last = x.to(memory_format=order).requires_grad_()
        y, expected = pt.group_norm(last, 3, w, b), F.group_norm(last, 3, w, b)
        assert y.stride() == expected.stride()
        assert torch.equal(y, pt.group_norm(x, 3, w, b))
        assert_close(torch.autograd.grad(y.sum() ** 2, last), torch.autograd.grad(expected.sum() ** 2, last))


@pytest.mark.parametrize("wanted", range(1, 8))
def test_any_subset_of_gradients(wanted: int) -> None:
    tensors = [randn(4, 8, leaf=bool(wanted & 1)), randn(8, leaf=bool(wanted & 2)), randn(8, leaf=bool(wanted & 4))]
    leaves = [t for t in tensors if t.requires_grad]
    ours, theirs = (f(tensors[0], (8,), *tensors[1:]).sin().sum() for f in (pt.layer_norm, F.layer_norm))
    assert_close(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves))


def test_either_result_of_add_layer_norm_may_be_unused() -> None:
    x, r, w = randn(3, 8), randn(3, 8), randn(8)
    for i in (0, 1):
        ours, theirs = pt.add_layer_norm(x, r, 8, w)[i], add_layer_norm(x, r, (8,), w)[i]
        for a, b in zip(
            torch.autograd.grad(ours.sin().sum(), (x, r, w), allow_unused=True, retain_graph=True),
            torch.autograd.grad(theirs.sin().sum(), (x, r, w), allow_unused=True),
            strict=True,
        ):
            assert (a is None and b is None) or torch.allclose(a, b, atol=1e-6)
    y, total = pt.add_layer_norm(x, r, 8, w)
    assert torch.equal(y, pt.layer_norm(total, 8, w))
    (y.sum() + total.sum()).backward()
    assert x.grad is not r.grad and torch.equal(x.grad, r.grad)


def test_a_weight_for_each_example() -> None:
    x, w, b = double(3, 5, 8), double(3, 1, 8), double(3, 1, 8)
    f = lambda x, w, b: pt.layer_norm(x, 8, w, b)
    assert_close(f(x, w, b), F.layer_norm(x, (8,)) * w + b)
    assert gradcheck(f, (x, w, b)) and gradgradcheck(f, (x, w, b))


# ---- As operators of PyTorch ----


def operator_calls() -> dict[str, tuple[Any, ...]]:
    x, r, w, b, g = randn(3, 4, 8), randn(3, 4, 8), randn(8), randn(8), randn(3, 4, 8)
    i = randn(2, 8, 3, 3, leaf=False).to(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        _, mean, rstd = OPERATORS.layer_norm(x, [8], w, b, 1e-5)
        _, group_mean, group_rstd = OPERATORS.group_norm(i, 4, w, b, 1e-5)
    everything = [True, True, True]
    return {
        "layer_norm": (x, [8], w, b, 1e-5),
        "layer_norm_backward": (g, x, [8], mean, rstd, w, b, 1e-5, everything),
        "rms_norm": (x, [8], w, 1e-5, False, False),
        "rms_norm_backward": (g, x, [8], rstd, w, 1e-5, True, [True, True]),
        "add_layer_norm": (x, r, [8], w, b, 1e-5),
        "add_layer_norm_backward": (g, r, x, [8], mean, rstd, w, b, 1e-5, everything),
        "group_norm": (i, 4, w, b, 1e-5),
        "group_norm_backward": (randn(2, 8, 3, 3), i, 4, group_mean, group_rstd, w, b, 1e-5, everything),
    }


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of PyTorch 2.15 about itself
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    arguments = operator_calls()[name]
    operator = getattr(OPERATORS, name).default
    assert set(opcheck(operator, arguments).values()) == {"SUCCESS"}
    if name.endswith("_backward"):
        masked = (*arguments[:-1], [False, *arguments[-1][1:-1], False])
        assert set(opcheck(operator, masked).values()) == {"SUCCESS"}
    if "add" not in name:  # 16 bits; statistics, which need no gradient, stay as they are
        half = [a.detach().bfloat16() if isinstance(a, Tensor) and a.requires_grad else a for a in arguments]
        assert set(opcheck(operator, tuple(half)).values()) == {"SUCCESS"}


@case
def test_gradients_of_first_and_second_order(case: str) -> None:
    ours, _, arguments = CASES[case]
    small = {"group_norm": (double(2, 6, 2), double(6), double(6))}
    given = small.get(case) or tuple(
        t.detach()[..., :4].repeat(*(1,) * (t.ndim - 1), 6).requires_grad_() * torch.linspace(1, 2, 24).double()
        for t in arguments(torch.float64)
    )
    given = tuple(t.detach()[:2].clone().requires_grad_() if t.ndim > 2 else t.detach().requires_grad_() for t in given)
    if "rms" in case:  # without eps = 2^-52, whose curvature no difference quotient sees
        ours = {
            "rms_norm": lambda x, w: pt.rms_norm(x, 24, w, 1e-3),
            "rms_norm, zero-centred": lambda x, w: pt.rms_norm(x, 24, w, 1e-3, zero_centered=True),
        }[case]
    assert gradcheck(ours, given, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
    assert gradgradcheck(ours, given, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True)


def test_every_entry_of_the_second_derivatives() -> None:
    x, r, w, b = double(2, 5), double(2, 5), double(5), double(5)
    assert gradgradcheck(lambda x, w, b: pt.layer_norm(x, 5, w, b), (x, w, b))
    assert gradgradcheck(lambda x, w: pt.rms_norm(x, 5, w, 1e-3), (x, w))
    assert gradgradcheck(lambda x, r, w, b: pt.add_layer_norm(x, r, 5, w, b), (x, r, w, b))
    assert gradgradcheck(lambda x, w, b: pt.group_norm(x, 2, w, b), (double(2, 4, 2), double(4), double(4)))


def layer_norm_by_definition(x: Tensor, shape: tuple[int], weight: Tensor) -> Tensor:
    """Differentiable any number of times; PyTorch's own is right twice in reverse mode, and then no more."""
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-5) * weight


def test_third_derivatives() -> None:
    x, w = double(2, 5), double(5)

    def third(f: Callable[..., Tensor]) -> Tensor:
        value = f(x, (5,), w).sin().sum()
        for _ in range(3):
            value = torch.autograd.grad(value, x, create_graph=True)[0].square().sum()
        return value

    assert_close(third(pt.layer_norm), third(layer_norm_by_definition))


def test_forward_mode() -> None:
    x, w, t = randn(3, 8), randn(8), randn(3, 8, leaf=False)
    tangents = []
    for f in (pt.layer_norm, F.layer_norm):
        with forward_ad.dual_level():
            dual = f(forward_ad.make_dual(x, t), (8,), w)
            tangents.append(forward_ad.unpack_dual(dual).tangent)
    assert_close(*tangents)


@case
def test_gradients_are_linear_in_what_arrives(case: str) -> None:
    """So their derivative along it, in forward mode, is the gradient at its tangent."""
    ours, _, arguments = CASES[case]
    given = arguments(torch.float64)
    results = both(ours(*given))
    arriving, tangents = ([randn(*y.shape, dtype=torch.float64, leaf=False) for y in results] for _ in range(2))
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(dy, t) for dy, t in zip(arriving, tangents, strict=True)]
        grads = torch.autograd.grad(results, given, dual, retain_graph=True)
        along = [forward_ad.unpack_dual(grad).tangent for grad in grads]
    assert_close(along, list(torch.autograd.grad(results, given, tangents)))


@case
def test_torch_func(case: str) -> None:
    ours, theirs, arguments = CASES[case]
    given = tuple(t.detach() for t in arguments(torch.float64))
    numbers = tuple(range(len(given)))

    def scalar(f: Callable[..., Any]) -> Callable[..., Tensor]:
        return lambda *a: sum(t.sin().sum() for t in both(f(*a)))

    mine, other = scalar(ours), scalar(theirs)
    stack = tuple(torch.stack([t, 2 * t, t - 1]) for t in given)
    inputs = tuple(0 if t.ndim > 1 and i < 2 else None for i, t in enumerate(given))  # not the parameters
    one = tuple(s if d == 0 else t for s, t, d in zip(stack, given, inputs, strict=True))
    assert_close(grad(mine, numbers)(*given), grad(other, numbers)(*given))
    assert_close(jvp(mine, given, given), jvp(other, given, given))
    assert_close(vmap(mine)(*stack), vmap(other)(*stack))
    assert_close(vmap(mine, inputs)(*one), vmap(other, inputs)(*one))
    assert_close(vmap(grad(mine, numbers), inputs)(*one), vmap(grad(other, numbers), inputs)(*one))
    assert_close(vmap(grad(mine, numbers))(*stack), vmap(grad(other, numbers))(*stack))
    assert_close(vmap(grad(mine), inputs)(*one), vmap(grad(other), inputs)(*one))
    twice = tuple(torch.stack([t, t + 1]) for t in one)
    assert_close(vmap(vmap(mine, inputs))(*twice), vmap(vmap(other, inputs))(*twice))


def test_second_derivatives_of_torch_func() -> None:
    x, w = randn(2, 5, dtype=torch.float64, leaf=False), randn(5, dtype=torch.float64, leaf=False)
    mine, other = (lambda x, f=f: f(x, (5,), w).sin().sum() for f in (pt.layer_norm, F.layer_norm))
    expected = hessian(other)(x)
    assert_close(hessian(mine)(x), expected)  # forward over reverse
    assert_close(jacrev(jacrev(mine))(x), expected)  # reverse over reverse
    along = lambda f: grad(lambda x: jvp(f, (x,), (x.cos(),))[1])(x)  # reverse over forward
    assert_close(along(mine), along(lambda x: layer_norm_by_definition(x, (5,), w).sin().sum()))


def test_gradients_of_each_sample_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(6, 8), pt.LayerNorm(8), nn.Linear(8, 1))
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    loss = lambda parameters, x: functional_call(model, parameters, (x,)).square().sum()
    x = randn(5, 6, leaf=False)
    of_each = vmap(grad(loss), (None, 0))(parameters, x)
    for name in parameters:
        assert_close(of_each[name][3], grad(loss)(parameters, x[3])[name])


needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles with g++")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), pt.LayerNorm(8), nn.Tanh(), pt.RMSNorm(8))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_gxx)])
@pytest.mark.filterwarnings("ignore")  # what the compiler warns of
def test_compile_without_graph_breaks(backend: str) -> None:
    torch._dynamo.reset()
    model = network()
    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=True)
    for rows in (3, 5):
        x = randn(rows, 8)
        y, expected = compiled(x), model(x)
        assert_close(y, expected)
        assert_close(
            torch.autograd.grad(y.sin().sum(), (x, *model.parameters())),
            torch.autograd.grad(expected.sin().sum(), (x, *model.parameters())),
        )

    @torch.compile(fullgraph=True, backend=backend)
    def others(x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        y, total = pt.add_layer_norm(x, r, 8)
        return pt.group_norm(y, 2), total

    x, r = randn(3, 8), randn(3, 8)
    assert_close(others(x, r)[0], pt.group_norm(pt.layer_norm(x + r, 8), 2))


@pytest.mark.filterwarnings("ignore")
def test_export() -> None:
    model, x = network(), randn(3, 8, leaf=False)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    targets = [str(node.target) for node in program.graph.nodes]
    assert "pyln.layer_norm.default" in targets and "pyln.rms_norm.default" in targets
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    decomposed = program.run_decompositions().module()
    for rows in (3, 7):
        x = randn(rows, 8, leaf=False)
        assert_close(loaded(x), model(x))
        assert_close(decomposed(x), model(x))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # PyTorch's, that its rms_norm is slow
def test_autocast_does_to_types_what_it_does_to_those_of_pytorch(dtype: torch.dtype) -> None:
    x = randn(4, 6, 8, dtype=dtype)
    parameters = randn(8, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for ours, theirs in (
            (pt.layer_norm(x, 8, parameters), F.layer_norm(x, (8,), parameters)),
            (pt.rms_norm(x, 8, parameters), F.rms_norm(x, (8,), parameters)),
            (pt.group_norm(x, 3), F.group_norm(x, 3)),
        ):
            assert ours.dtype is theirs.dtype
        # A linear layer's result and the stream it is added to.
        y, total = pt.add_layer_norm(randn(6, 8).bfloat16(), randn(6, 8), 8, randn(8))
        assert y.dtype is total.dtype is torch.float32


def test_training_under_autocast() -> None:
    model = nn.Sequential(nn.Linear(8, 8), pt.LayerNorm(8), nn.Linear(8, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(randn(4, 8)).sum()
    loss.backward()
    assert model[1].weight.grad.dtype is torch.float32


def test_modes_without_gradients() -> None:
    x, layer = randn(3, 8), pt.LayerNorm(8)
    expected = layer(x)
    with torch.no_grad():
        y = layer(x)
        assert torch.equal(y, expected) and not y.requires_grad
    with torch.inference_mode():
        y = layer(x)
        assert y.is_inference() and torch.equal(y, expected)
        assert torch.equal(layer(y), layer(expected))


def test_an_input_changed_after_forward_is_noticed() -> None:
    x = randn(3, 8) * 2
    y = pt.layer_norm(x, 8)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_checkpoint() -> None:
    layer, x = pt.LayerNorm(8), randn(3, 8)
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    assert_close(torch.autograd.grad(y.sin().sum(), x), torch.autograd.grad(layer(x).sin().sum(), x))


def test_threads_that_call_at_once(threads: None) -> None:
    pyln.set_num_threads(2)
    x, layer = randn(2048, 768, leaf=False), pt.LayerNorm(768)

    def step(_: int) -> tuple[Tensor, Tensor]:
        t = x.clone().requires_grad_()
        y = layer(t)
        return y, torch.autograd.grad(y.sin().sum(), t)[0]

    expected = step(0)
    with ThreadPoolExecutor(4) as pool:
        for y, g in pool.map(step, range(8)):
            assert torch.equal(y, expected[0]) and torch.equal(g, expected[1])


# ---- Layers ----

LAYERS: list[tuple[type[nn.Module], type[nn.Module], tuple[Any, ...], dict[str, Any]]] = [
    (pt.LayerNorm, nn.LayerNorm, (8,), {}),
    (pt.LayerNorm, nn.LayerNorm, ((4, 8),), {"eps": 1e-3, "bias": False}),
    (pt.LayerNorm, nn.LayerNorm, (8, 1e-6, False), {}),
    (pt.RMSNorm, nn.RMSNorm, (8,), {}),
    (pt.RMSNorm, nn.RMSNorm, ([8], 1e-6, True), {"dtype": torch.bfloat16}),
    (pt.GroupNorm, nn.GroupNorm, (2, 4), {}),
    (pt.GroupNorm, nn.GroupNorm, (2, 4, 1e-3, False), {"device": "cpu"}),
]


@pytest.mark.parametrize(("ours", "theirs", "arguments", "options"), LAYERS)
def test_layers_are_those_of_torch_nn(ours: Any, theirs: Any, arguments: tuple[Any, ...], options: Any) -> None:
    mine, other = ours(*arguments, **options), theirs(*arguments, **options)
    assert isinstance(mine, theirs) and repr(mine) == repr(other)
    for p in other.parameters():
        nn.init.normal_(p)
    mine.load_state_dict(other.state_dict())
    assert mine.state_dict().keys() == other.state_dict().keys()
    x = randn(2, 4, 8, dtype=options.get("dtype", torch.float32))
    assert_close(mine(x), other(x))
    fresh = theirs(*arguments, **options)
    fresh.load_state_dict(mine.state_dict())
    assert torch.equal(fresh(x), other(x))
    for twin in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(twin) is ours and torch.equal(twin(x), mine(x))


def test_layers_without_data() -> None:
    layer = pt.LayerNorm(8, device="meta", dtype=torch.float64)
    y = layer(torch.empty(3, 8, device="meta", dtype=torch.float64))
    assert y.shape == (3, 8) and y.is_meta
    layer.to_empty(device="cpu").reset_parameters()
    x = double(3, 8)
    assert torch.equal(layer(x), pt.layer_norm(x, 8))


def test_zero_centered_rms_norm_starts_as_the_identity() -> None:
    layer, x = pt.RMSNorm(8, 1e-6, zero_centered=True), randn(3, 8)
    assert not layer.weight.any() and torch.equal(layer(x), pt.rms_norm(x, 8, eps=1e-6))
    assert repr(layer).endswith("zero_centered=True)")
    assert pt.RMSNorm(8).weight.sum() == 8


# ---- Converting models ----


def test_convert_a_model_of_torch_nn() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.GroupNorm(2, 8), nn.RMSNorm(8))
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    model.again = model[1]  # shared
    model.replaced = nn.LayerNorm(8)
    model.replaced.forward = lambda x: x
    x = randn(4, 8)
    expected = model(x)
    model.add_module("eighth", nn.ModuleList([nn.LayerNorm(8).to(torch.float8_e4m3fn)]))
    parameters, names = list(model.parameters()), model.state_dict().keys()
    report = pt.convert(model)
    del model.eighth
    calls.clear()
    assert_close(model(x), expected)
    assert len(calls) == 2 and model.again is model[1]
    assert [type(model[i]) for i in (1, 3, 4)] == [pt.LayerNorm, pt.GroupNorm, pt.RMSNorm]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=False))
    assert model.state_dict().keys() == {name for name in names if not name.startswith("eighth")}
    assert report.converted.keys() == {"1", "3", "4"} and report.left.keys() == {"2", "replaced", "eighth.0"}
    assert "was replaced" in report.left["replaced"] and "float8" in report.left["eighth.0"]
    assert "converted 3, left 3" in str(report) and "  3: GroupNorm is pyln.torch.GroupNorm(2, 8" in str(report)
    assert not pt.convert(model).converted


def test_a_subclass_is_left() -> None:
    class Other(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    class LooksLikeRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x / x.std(-1, keepdim=True) * self.weight

    class FailingRMSNorm(LooksLikeRMSNorm):
        def forward(self, x: Tensor) -> Tensor:
            raise LookupError("no state yet")

    with FakeTensorMode():
        elsewhere = nn.LayerNorm(8, device="cuda")
    model = nn.Sequential(Other(8), LooksLikeRMSNorm(), FailingRMSNorm(), LooksLikeRMSNorm().to("meta"), elsewhere)
    kinds = [type(module) for module in model]
    report = pt.convert(model)
    assert [type(module) for module in model] == kinds and not report.converted
    reasons = ("does not compute", "failed: LookupError: no state yet", "no data yet", "are on cuda")
    for name, words in zip(("1", "2", "3", "4"), reasons, strict=True):
        assert words in report.left[name]


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize(("family", "options"), [("Llama", "round_steps"), ("Gemma", "zero_centered"), ("T5", "round")])
@pytest.mark.filterwarnings("ignore")
def test_convert_models_of_transformers(family: str, options: str, transformers: Any) -> None:
    sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    if family == "T5":
        config = transformers.T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        model, norms = transformers.T5EncoderModel(config).eval(), 5
    else:
        config = getattr(transformers, f"{family}Config")(**sizes, num_key_value_heads=2, head_dim=8)
        model, norms = getattr(transformers, f"{family}Model")(config).eval(), 5
    for name, p in model.named_parameters():
        if "norm" in name.lower():
            nn.init.normal_(p)
    ids = torch.arange(12)[None]
    expected = {d: copy.deepcopy(model).to(d)(ids).last_hidden_state for d in (torch.float32, torch.bfloat16)}
    generator = torch.get_rng_state()
    report = pt.convert(model)
    assert torch.equal(torch.get_rng_state(), generator)
    assert len(report.converted) == norms and not report.left, report
    assert all(options in text for text in report.converted.values())
    assert_close(model(ids).last_hidden_state, expected[torch.float32], rtol=1e-4, atol=1e-5)
    half = model.to(torch.bfloat16)(ids).last_hidden_state
    assert half.dtype is torch.bfloat16
    assert_close(half, expected[torch.bfloat16], rtol=0.1, atol=0.1)


# ---- Refusals ----


def test_refusals_say_what_to_do() -> None:
    x, w = randn(3, 8, leaf=False), randn(8, leaf=False)
    for error, words, arguments in (
        (TypeError, r"dense tensors of the CPU.*\.to_dense\(\)", (x.to_sparse(), 8)),
        (TypeError, "expected float32, float64, float16 or bfloat16, got complex64", (x.to(torch.complex64), 8)),
        (TypeError, "expected float32, float64, float16 or bfloat16, got int32", (x.int(), 8)),
        (TypeError, "weight: expected float32 to go with input, got float64", (x, 8, w.double())),
        (TypeError, "weight: expected float32 to go with input, got bfloat16", (x, 8, w.bfloat16())),
        (ValueError, r"got weight of shape \[4\] and normalized_shape = \[8\]", (x, 8, w[:4])),
        (ValueError, r"expected input with shape \[\*, 7\]", (x, 7)),
        (TypeError, "^input: expected a tensor, got ndarray$", (x.numpy(), 8)),
        (TypeError, "^input: expected a tensor, got NoneType$", (None, 8)),
        (TypeError, "^weight: expected a tensor, got list$", (x, 8, [1.0] * 8)),
    ):
        with pytest.raises(error, match=words):
            pt.layer_norm(*arguments)
        if isinstance(arguments[0], Tensor) and not arguments[0].is_sparse and "weight: " not in words:
            with pytest.raises(error):  # without data too
                pt.layer_norm(*(a.to("meta") if isinstance(a, Tensor) else a for a in arguments))
    with pytest.raises(ValueError, match="residual: expected input's shape"):
        pt.add_layer_norm(x, w, 8)
    with pytest.raises(ValueError, match="divisible by num_groups"):
        pt.group_norm(x, 3)
    for words, *arguments in (
        ("num_groups", x, 3),
        ("at least 2 dimensions", w, 2),
        (r"weight: expected the shape \[8\], got \[3, 8\]", x, 2, x),
        (r"bias: expected the shape \[8\], got \[4\]", x, 2, w, w[:4]),
    ):
        with pytest.raises(ValueError, match=words):
            pt.group_norm(*(a.to("meta") if isinstance(a, Tensor) else a for a in arguments))


@pytest.mark.parametrize("name", NAMES)
def test_other_devices_are_refused(name: str) -> None:
    """By what the dispatcher would call; a tensor on such a device cannot be made here."""
    arguments = operator_calls()[name]
    for kind, remedy in ELSEWHERE.items():
        keys = torch._C.DispatchKeySet(torch._C._dispatch_key_parse(kind))
        words = rf"{name}: .*{kind}\); use {re.escape(remedy)} first"
        with pytest.raises(TypeError, match=words), torch.no_grad():
            getattr(OPERATORS, name).default.redispatch(keys, *arguments)


def test_numpy_functions_refuse_what_would_lose_a_gradient() -> None:
    x, w = randn(3, 8), randn(8)
    for dtype in TYPES:
        leaf = x.detach().to(dtype).requires_grad_()
        with pytest.raises(TypeError, match=r"input: .*pyln\.torch.*input\.detach\(\)"):
            pyln.layer_norm(leaf, 8)
    with pytest.raises(TypeError, match=r"^input: .*meta"):
        pyln.layer_norm(torch.empty(3, 8, device="meta"), 8)
    with pytest.raises(TypeError, match=r"weight: .*weight\.detach\(\)"):
        pyln.rms_norm(x.detach(), 8, w)
    assert pyln.layer_norm(x.detach(), 8, w.detach()).shape == (3, 8)


# ---- Use ----


@pytest.mark.filterwarnings("ignore")
def test_embeddings_of_a_real_model(transformers: Any) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "torch_minilm.py"))
    model, tokenizer = example["load"]()
    sentences = [*example["SENTENCES"], "Yes.", "many words " * 200]
    before = example["encode"](model, tokenizer, sentences)
    report = pt.convert(model)
    assert len(report.converted) == 13 and not report.left
    after = example["encode"](model, tokenizer, sentences)
    assert 0 < np.abs(before - after).max() < example["TOLERANCE"]


def test_training_gives_the_same_losses() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "torch_gpt.py"))
    first, second, report = example["train"](30)
    assert len(report.converted) == 5 and not report.left
    assert first[-1] < first[0] - 0.5
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_snippets_print_what_the_page_says() -> None:
    test_examples.test_snippets_print_what_the_page_says("torch")


@pytest.mark.parametrize("there", ["None", "types.SimpleNamespace(__version__='2.5.1+cu124')"])
def test_without_a_torch_that_is_new_enough(there: str) -> None:
    program = (
        f"import sys, types; sys.modules['torch'] = {there}\ntry: import pyln.torch\nexcept ImportError as e: print(e)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert re.fullmatch(
        r'pyln.torch needs PyTorch 2.7 or later: pip install "pyln\[torch\]"; .*(None|2.5.1).*\n', run.stdout
    )
