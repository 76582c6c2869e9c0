"""pyln.torch.distributed on real processes: the bounds of whole rows, one set of statistics, errors that reach all ranks."""

import contextlib
import datetime
import itertools
import os
import pickle
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import rows
from commands import ROOT, run
from errors import BOUNDS, DGAMMA, measure
from forms import Case, Results
from test_accuracy import check, make, variants

torch = pytest.importorskip("torch", reason="needs torch")
if not torch.distributed.is_available():
    pytest.skip("needs a torch with torch.distributed", allow_module_level=True)
from torch import distributed as dist  # noqa: E402

import pyln  # noqa: E402
import pyln.torch.distributed as sharded  # noqa: E402

Array = np.ndarray
Generator = np.random.Generator

SECONDS = 240  # after which processes are taken to hang


def on_ranks(function: Callable[[int], Any], folder: Path, ranks: int = 2) -> list[Any]:
    """What the function, of this module, returns in each of several processes, which are ranks of a group."""
    context = torch.multiprocessing.spawn(run_rank, (function, folder, ranks), nprocs=ranks, join=False)
    end = time.monotonic() + SECONDS
    while not context.join(timeout=5):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            pytest.fail(f"the ranks hang: not done after {SECONDS} s")
    return [pickle.loads((folder / f"rank{rank}").read_bytes()) for rank in range(ranks)]


def run_rank(rank: int, function: Callable[[int], Any], folder: Path, ranks: int) -> None:
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=SECONDS / 2)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=ranks, timeout=timeout
    )
    try:
        (folder / f"rank{rank}").write_bytes(pickle.dumps(function(rank)))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once, and not when the group has given up
    dist.barrier()
    dist.destroy_process_group()


def tensor(array: Array) -> Any:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def numpy(value: Any) -> Array:
    if value.dtype == torch.bfloat16:
        return value.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return value.detach().numpy()


def everyone(value: Any) -> list[Any]:
    """The values of all ranks."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def in_shards(case: Case, cuts: list[int]) -> Results:
    """The rows of a case, each rank between two of the cuts; the results of all ranks, side by side."""
    own = slice(*cuts[dist.get_rank() :][:2])
    cols = own.stop - own.start
    x = tensor(case.x[:, own].copy()).requires_grad_()
    gamma, beta = (None if a is None else tensor(a[0, own].copy()).requires_grad_() for a in (case.gamma, case.beta))
    own_norm = sharded.rms_norm if case.rms else partial(sharded.layer_norm, bias=beta)
    y = own_norm(x, cols, gamma, eps=case.eps)
    statistics = y.grad_fn.moments.values
    assert all(other.tobytes() == statistics.tobytes() for other in everyone(statistics)), "ranks differ"
    y.backward(tensor(case.dy[:, own].copy()))
    none = np.zeros(cols, case.x.dtype)
    mine = [numpy(y), numpy(x.grad), *(none if p is None else numpy(p.grad) for p in (gamma, beta))]
    y, dx, dgamma, dbeta = (np.concatenate(parts, axis=-1) for parts in zip(*everyone(mine), strict=True))
    return Results(
        y, None, None, dx, dgamma if case.gamma is not None else None, dbeta if case.beta is not None else None
    )


def check_bounds(rng: Generator, cases: list[tuple[Case, bool]]) -> None:
    for case, ordinary in cases:
        cols = case.x.shape[1]
        for cut in {0, 1, cols // 2, int(rng.integers(cols + 1))}:
            for each in variants(rng, case):
                form = lambda c: in_shards(c, [0, cut, cols])
                check(measure(form, each, f"cut at {cut}", ordinary), BOUNDS | {DGAMMA: 8.0})  # one row may make it


def bounds_of_wide_types(rank: int) -> None:
    rng = np.random.default_rng(1607)
    for dtype, cols in itertools.product(("float32", "float64"), (17, 300)):
        offsets = np.array([0, 1, 1e2, 1e4, 1e6])[:, None]
        x = rng.standard_normal((5, cols)) + offsets
        dys = [None, rows.far_from_0(rng, x), rows.correlated(rng, x.astype(dtype), 0.9), rows.small_or_large(rng, x)]
        check_bounds(rng, [(make(rng, dtype, x, dy), dy is None) for dy in dys])
        check_bounds(rng, [(make(rng, dtype, rows.outliers(rng, 5, cols)), False)])
        check_bounds(rng, [(make(rng, dtype, np.ldexp(x, np.finfo(dtype).minexp + 10)), False)])


def bounds_of_16_bits(rank: int) -> None:
    rng = np.random.default_rng(1607)
    for half, cols in itertools.product(("float16", "bfloat16"), (17, 300)):
        check_bounds(rng, [(make(rng, half, rng.standard_normal((5, cols)) + offset), True) for offset in (0, 30)])


@pytest.mark.parametrize("bounds", [bounds_of_wide_types, bounds_of_16_bits], ids=lambda f: f.__name__)
def test_shards_keep_the_bounds_of_whole_rows(bounds: Callable[[int], None], tmp_path: Path) -> None:
    """Forward and backward, with shards of any size, in u against the exact result; statistics are the same bits."""
    on_ranks(bounds, tmp_path)


# ---- In a network ----


class Block(torch.nn.Module):
    """Something before and behind the norm; each column for itself, so that it may be anywhere."""

    def __init__(self, norm: Any, before: Any, behind: Any) -> None:
        super().__init__()
        self.norm = norm
        self.before, self.behind = torch.nn.Parameter(before.clone()), torch.nn.Parameter(behind.clone())

    def forward(self, x: Any) -> Any:
        return (self.norm(x * self.before) * self.behind).square().sum()


def make_numbers() -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 20, generator=generator), *torch.randn(4, 20, generator=generator)


def train(rank: int | None) -> dict[str, Any]:
    """Three steps of a layer norm and then an RMS norm, sharded if there is a rank; parameters after that."""
    own = slice(None) if rank is None else (slice(0, 7), slice(7, 20))[rank]
    x, before, behind, weight, bias = (a[..., own] for a in make_numbers())
    cols = x.shape[-1]
    results = {}
    for kind in ("LayerNorm", "RMSNorm"):
        norm = getattr(torch.nn, kind)(cols) if rank is None else getattr(sharded, f"Sharded{kind}")(cols)
        state = {"weight": weight, "bias": bias}
        norm.load_state_dict({name: state[name] for name in norm.state_dict()})
        block = Block(norm, before, behind)
        optimizer = torch.optim.SGD(block.parameters(), lr=0.02)
        for _ in range(3):
            optimizer.zero_grad()
            block(x).backward()
            optimizer.step()
        results |= {f"{kind} {name}": p.detach().numpy() for name, p in block.named_parameters()}
    return results


def test_modules_train_as_those_of_torch(tmp_path: Path) -> None:
    whole, parts = train(None), on_ranks(train, tmp_path)
    assert any("RMSNorm norm.weight" in part for part in parts)
    for name, expected in whole.items():
        got = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5, err_msg=name)


def several_ways(rank: int) -> dict[str, Any]:
    """How modules look, gradients that only some need, other layouts, no gradients, an unsharded group; bytes."""
    sent: list[int] = []
    all_gather = dist.all_gather

    def counting(gathered: Any, own: Any, group: Any = None) -> Any:
        sent.append(own.numel() * own.element_size())
        return all_gather(gathered, own, group)

    dist.all_gather = counting
    x, _, _, weight, bias = make_numbers()
    x, weight, bias = (torch.cat([a, a], -1)[..., :30] for a in (x, weight, bias))
    own = (slice(0, 7), slice(7, 30))[rank]
    cols = own.stop - own.start
    shard, w = x[:, own].clone(), weight[own].clone()
    results: dict[str, Any] = {"repr": repr(sharded.ShardedLayerNorm(cols, bias=False)), "ranks": rank}

    w.requires_grad_()
    y = sharded.layer_norm(shard, cols, w, bias[own])
    y.sum().backward()
    results["only weight"] = sent.copy(), y.detach().numpy(), w.grad.numpy()

    sent.clear()
    own_x = shard.clone().requires_grad_(rank == 0)
    weights = w.detach().clone().requires_grad_(rank == 1)
    sharded.layer_norm(own_x, cols, weights).backward(shard)
    grad = own_x.grad if rank == 0 else weights.grad
    results["each something else"] = sent.copy(), grad.numpy()

    sent.clear()
    with torch.no_grad():
        y = sharded.rms_norm(x.T.contiguous().T[:, own], cols, w)
    results["columns first"] = sent.copy(), y.numpy()
    sent.clear()
    wide = shard.double().requires_grad_()
    sharded.rms_norm(wide, cols).backward(wide.detach())
    results["float64"] = sent.copy(), wide.grad.numpy()

    three = sharded.layer_norm(torch.stack([shard, 2 * shard]).reshape(2, 2, 2, cols), (2, cols))
    results["two axes"] = three.numpy()
    groups = [dist.new_group([r]) for r in range(2)]
    results["alone"] = sharded.layer_norm(shard, cols, group=groups[rank]).numpy()
    results["module"] = sharded.ShardedRMSNorm(cols, 1e-3, False, group=groups[rank])(shard).numpy()
    dist.all_gather = all_gather
    return results


def test_several_ways(tmp_path: Path) -> None:
    results = on_ranks(several_ways, tmp_path)
    x, _, _, weight, bias = make_numbers()
    x, weight, bias = (torch.cat([a, a], -1)[..., :30].numpy() for a in (x, weight, bias))
    assert [r["repr"] for r in results] == [
        f"ShardedLayerNorm(({cols},), eps=1e-05, elementwise_affine=True, bias=False)" for cols in (7, 23)
    ]

    def close(name: str, expected: Array, part: int | None = None) -> None:
        got = [r[name] if part is None else r[name][part] for r in results]
        np.testing.assert_allclose(np.concatenate(got, axis=-1), expected, rtol=0, atol=2e-6)

    many = len(x)
    y, mean, rstd = pyln.layer_norm(x, 30, weight, bias, return_stats=True)
    assert results[0]["only weight"][0] == [256, 20 * many], "nothing travels back where no input has a gradient"
    close("only weight", y, 1)
    _, grad_weight, _ = pyln.layer_norm_backward(np.ones_like(x), x, 30, mean, rstd, weight)
    close("only weight", grad_weight, 2)

    grad_x, grad_weight, _ = pyln.layer_norm_backward(x, x, 30, mean, rstd, weight)
    assert results[0]["each something else"][0] == results[1]["each something else"][0] == [256, 20 * many, 16 * many]
    np.testing.assert_allclose(results[0]["each something else"][1], grad_x[:, :7], atol=2e-6)
    np.testing.assert_allclose(results[1]["each something else"][1], grad_weight[7:], atol=2e-6)

    assert results[0]["columns first"][0] == [256, 20 * many]
    close("columns first", pyln.rms_norm(x, 30, weight), 1)
    assert results[0]["float64"][0] == [256, 40 * many, 32 * many]
    wide = x.astype(np.float64)
    _, rstd = pyln.rms_norm(wide, 30, return_stats=True)
    close("float64", pyln.rms_norm_backward(wide, wide, 30, rstd)[0], 1)

    both = np.stack([x, 2 * x]).reshape(2, 2, 2, 30)
    close("two axes", pyln.layer_norm(both, (2, 30)))
    for r, own in zip(results, (x[:, :7], x[:, 7:]), strict=True):
        np.testing.assert_allclose(r["alone"], pyln.layer_norm(own, own.shape[1]), atol=2e-6)
        np.testing.assert_allclose(r["module"], pyln.rms_norm(own, own.shape[1], eps=1e-3), atol=2e-6)


# ---- Errors ----

# What each of the two ranks passes, and what each is told.
DIFFERING: dict[str, tuple[Callable[[int], Any], str]] = {
    "rows": (
        lambda rank: sharded.layer_norm(torch.zeros(2 + rank, 4), 4),
        r"ValueError: the ranks of a group must ask for the same, of the same rows:\n"
        r"    rank 0: layer_norm of float32 rows \[2\], .*\n    rank 1: layer_norm of float32 rows \[3\], ",
    ),
    "axes": (
        lambda rank: sharded.layer_norm(torch.zeros((2, 3, 4) if rank else (6, 4)), 4),
        r"ValueError: .* rank 0: layer_norm of float32 rows \[6\], .* rank 1: layer_norm of float32 rows \[2, 3\], ",
    ),
    "dtype": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4, dtype=torch.float64 if rank else torch.bfloat16), 4),
        r"ValueError: .* rank 0: layer_norm of bfloat16 rows \[2\], .* rank 1: layer_norm of float64 rows \[2\]",
    ),
    "eps": (
        lambda rank: sharded.rms_norm(torch.zeros(2, 4), 4, eps=1e-5 * (1 + rank)),
        r"ValueError: .* rank 0: rms_norm .* eps=1e-05, .* rank 1: rms_norm .* eps=2e-05, ",
    ),
    "operation": (
        lambda rank: (sharded.layer_norm, sharded.rms_norm)[rank](torch.zeros(2, 4), 4, eps=1e-5),
        r"ValueError: .* rank 0: layer_norm .* rank 1: rms_norm ",
    ),
    "gradients": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4, requires_grad=rank == 0), 4),
        r"ValueError: .* rank 0: .* with gradients\n .* rank 1: .* without gradients",
    ),
}
WRONG_ON_RANK_1: dict[str, tuple[Callable[[int], Any], str]] = {
    "weight": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4), 4, torch.zeros(4 + rank)),
        "ValueError: Expected weight to be of same shape as normalized_shape",
    ),
    "shape": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4 + rank), 4),
        r"ValueError: Given normalized_shape=\[4\], expected input with shape",
    ),
    "dtype": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4, dtype=torch.int32 if rank else torch.float32), 4),
        "TypeError: input: expected float32, float64, float16 or bfloat16, got int32",
    ),
    "device": (
        lambda rank: sharded.rms_norm(torch.zeros(2, 4, device="meta" if rank else "cpu"), 4),
        "TypeError: input: expected a dense tensor in the CPU's memory, got .* on meta",
    ),
    "kind": (
        lambda rank: sharded.rms_norm(np.zeros((2, 4), "f4") if rank else torch.zeros(2, 4), 4),
        "TypeError: input: expected a tensor, got ndarray",
    ),
    "eps": (
        lambda rank: sharded.layer_norm(torch.zeros(2, 4), 4, eps=-rank),
        "ValueError: eps: expected a finite float32 that is not negative, got -1",
    ),
}


def errors_of(rank: int) -> dict[str, str]:
    """What each case raises; between them a call that is right, which would fail if one rank were behind the other."""
    told = {}
    for kind, cases in (("differing", DIFFERING), ("wrong", WRONG_ON_RANK_1)):
        for name, (call, _) in cases.items():
            try:
                call(rank)
                told[f"{kind} {name}"] = "nothing"
            except Exception as error:
                told[f"{kind} {name}"] = f"{type(error).__name__}: {error}"
            x = torch.tensor([[1.0, -1.0]]) * (1 + rank)
            assert sharded.rms_norm(x, 2, eps=0.0).square().sum() == pytest.approx(0.8 if rank == 0 else 3.2)
    group = dist.new_group([0])
    try:
        sharded.layer_norm(torch.zeros(2, 4), 4, group=group)
        told["group"] = "nothing"
    except RuntimeError as error:
        told["group"] = str(error)
    return told


def test_every_rank_is_told_what_is_wrong(tmp_path: Path) -> None:
    """And none waits for another."""
    told = on_ranks(errors_of, tmp_path)
    for name, (_, message) in DIFFERING.items():
        assert told[0][f"differing {name}"] == told[1][f"differing {name}"]
        assert re.match(message, told[0][f"differing {name}"], re.DOTALL), told[0][f"differing {name}"]
    for name, (_, message) in WRONG_ON_RANK_1.items():
        assert re.match(message, told[1][f"wrong {name}"]), told[1][f"wrong {name}"]
        kind, text = message.split(": ", 1)
        other = rf"RuntimeError: another rank's arguments are wrong:\n .* rank 1: {kind} in \w+: {text}"
        assert re.match(other, told[0][f"wrong {name}"], re.DOTALL), told[0][f"wrong {name}"]
    assert [t["group"] for t in told] == ["nothing", "rank 1 is not in the group that was given"]


def test_without_a_process_group() -> None:
    with pytest.raises(RuntimeError, match=r"not initialized; first torch\.distributed\.init_process_group\('gloo'\)"):
        sharded.layer_norm(torch.zeros(2, 4), 4)


def test_torch_is_imported_only_when_asked_for() -> None:
    code = "import sys, pyln; assert 'torch' not in sys.modules; import pyln.torch.distributed"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_page_s_program(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    pattern = r"`sharded.py`:\n\n```python\n(.*?)^```\n\n```sh\n(.*?)^```\n\n```text\n(.*?)^```"
    ((program, command, expected),) = re.findall(pattern, page, re.MULTILINE | re.DOTALL)
    (tmp_path / "sharded.py").write_text(program)
    torchrun, *arguments = command.split()
    assert torchrun == "torchrun"
    with contextlib.chdir(tmp_path):
        assert run(sys.executable, "-m", "torch.distributed.run", *arguments) == expected
