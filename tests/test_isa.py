"""The instruction sets: the same bits from each, and the choice among them."""

import os
import subprocess
import sys

import numpy as np
import pytest

import pyln

COLS = [*range(1, 70), 127, 128, 129, 255, 256, 257, 511, 513, 768, 1000, 1023, 1024, 1025, 2049, 5000]


def digest(name: str, x: np.ndarray, dy: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> list[bytes]:
    cols = x.shape[1]
    with pyln.use_isa(name):
        results = [pyln.layer_norm(x, cols, weight, eps=eps), pyln.layer_norm(x, cols, None, bias, eps)]
        y, mean, rstd = pyln.layer_norm(x, cols, weight, bias, eps, return_stats=True)
        results += [y, mean, rstd, pyln.layer_norm(x, cols, eps=eps)]
        results += pyln.layer_norm_backward(dy, x, cols, mean, rstd, weight)
        results += pyln.layer_norm_backward(dy, x, cols, mean, rstd)
    # Which NaN comes out of an operation differs between processors; all count as one.
    return [np.where(np.isnan(result), np.nan, result).tobytes() for result in results]


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e5, 1), (0, 1e30), (0, 1e-30), (0, 1e-44)])
def test_all_give_the_same_bits(rng: np.random.Generator, dtype: np.dtype, offset: float, scale: float) -> None:
    for cols in COLS:
        rows = min(21, 1 + 8192 // cols)
        x, dy = rng.standard_normal((2, rows, cols))
        x, dy = ((x + offset) * scale).astype(dtype), dy.astype(dtype)
        weight, bias = rng.standard_normal((2, cols)).astype(dtype)
        best, *others = (digest(name, x, dy, weight, bias, 0.0) for name in pyln.available_isas())
        assert all(other == best for other in others), f"{cols=}"


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 129, 3000])
def test_all_give_the_same_bits_for_many_rows(rng: np.random.Generator, dtype: np.dtype, rows: int) -> None:
    x, dy = rng.standard_normal((2, rows, 19)).astype(dtype)
    weight, bias = rng.standard_normal((2, 19)).astype(dtype)
    best, *others = (digest(name, x, dy, weight, bias, 1e-5) for name in pyln.available_isas())
    assert all(other == best for other in others)


def test_names() -> None:
    names = pyln.available_isas()
    assert names[-1] == "scalar" and len(set(names)) == len(names)
    assert set(names) <= {"scalar", "avx2", "avx512", "neon"}
    assert pyln.isa() in names


def test_use_isa_restores() -> None:
    before = pyln.isa()
    for name in pyln.available_isas():
        with pyln.use_isa(name) as used, pyln.use_isa("scalar"):
            assert used == name and pyln.isa() == "scalar"
        assert pyln.isa() == before
    with pytest.raises(ZeroDivisionError), pyln.use_isa("scalar"):
        raise ZeroDivisionError
    assert pyln.isa() == before


@pytest.mark.parametrize("name", ["sse9", "", "AVX2", "scalar ", "scalar\0", "sc\u00e4lar"])
def test_use_isa_refuses_unknown_names(name: str) -> None:
    before = pyln.isa()
    message = r"name: .* is not an instruction set of this machine; available: .*scalar"
    with pytest.raises(ValueError, match=message), pyln.use_isa(name):
        raise AssertionError("not reached")
    assert pyln.isa() == before


@pytest.mark.parametrize("name", [None, 2, b"scalar"])
def test_use_isa_refuses_what_is_no_name(name: object) -> None:
    with pytest.raises(TypeError, match="name: expected a string"), pyln.use_isa(name):
        raise AssertionError("not reached")


def with_environment(name: str, script: str) -> str:
    environment = {**os.environ, "LNORM_ISA": name}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", pyln.available_isas())
def test_environment_chooses(name: str) -> None:
    assert with_environment(name, "import pyln; print(pyln.isa())") == name


def test_empty_environment_leaves_the_choice() -> None:
    assert with_environment("", "import pyln; print(pyln.isa())") == pyln.available_isas()[0]


UNAVAILABLE = next(name for name in ("neon", "avx512") if name not in pyln.available_isas())

REFUSED = """
import numpy as np, pyln
x, stats = np.ones((2, 3)), np.zeros((2, 1))
out = np.full((2, 3), 7.0)
for call in (
    pyln.isa,
    lambda: pyln.layer_norm(x, 3, out=out),
    lambda: pyln.layer_norm_backward(x, x, 3, stats, stats, out=(out, None, None)),
):
    try:
        call()
    except (RuntimeError, ValueError) as error:
        print("LNORM_ISA" in str(error), (out == 7).all())
with pyln.use_isa("scalar"):
    print(pyln.layer_norm(x, 3, out=out).any())
"""


@pytest.mark.parametrize("name", ["nonsense", "AVX2", UNAVAILABLE])
def test_environment_that_names_no_set_here_is_reported(name: str) -> None:
    assert with_environment(name, REFUSED).split() == ["True"] * 6 + ["False"]
    message = with_environment(name, "import pyln\ntry: pyln.isa()\nexcept RuntimeError as error: print(error)")
    assert message.startswith(f"LNORM_ISA: {name!r}") and ", ".join(pyln.available_isas()) in message
