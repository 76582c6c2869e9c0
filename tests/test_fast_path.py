"""Plain arrays take a short cut through compiled checks: it must agree with the careful path, and leave it the rest."""

import contextlib
import gc
import inspect
import sys
import tracemalloc

import numpy as np
import pytest

import pyln
from pyln import _core, functional

ROWS, COLS = 6, 24


@pytest.fixture
def careful(monkeypatch):
    """Call functions by the careful path alone."""

    def call(function, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(functional, "_plain_layer_norm", lambda *a: None)
            patch.setattr(functional, "_plain_layer_norm_backward", lambda *a: None)
            return function(*args, **kwargs)

    return call


def outcome(call, *args, **kwargs):
    """What comes out, as something that can be compared."""
    try:
        result = call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return [
        None if a is None else (a.shape, a.dtype, a.strides, a.tobytes())
        for a in (result if isinstance(result, tuple) else (result,))
    ]


def arrays(dtype="f4"):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, ROWS, COLS)).astype(dtype)
    return x, dy, rng.standard_normal(COLS).astype(dtype), rng.standard_normal(COLS).astype(dtype)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


class Subclass(np.ndarray):
    pass


INPUTS = {
    "plain": lambda x: x,
    "float64": lambda x: x.astype("f8"),
    "3-d": lambda x: x.reshape(2, 3, COLS),
    "1-d": lambda x: x[0],
    "every other row": lambda x: x[::2],
    "rows backwards": lambda x: x[::-1],
    "equal rows": lambda x: np.broadcast_to(x[0], (5, COLS)),
    "columns of a wider matrix": lambda x: np.hstack([x, x])[:, :COLS],
    "3-d without one stride": lambda x: x.reshape(3, 2, COLS).transpose(1, 0, 2),
    "elements with a stride": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "Fortran order": np.asfortranarray,
    "columns backwards": lambda x: x[:, ::-1],
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "0-d": lambda x: x[0, 0],
    "scalar array": lambda x: x[:1, 0].reshape(()),
    "float16": lambda x: x.astype("f2"),
    "integers": lambda x: x.astype("i4"),
    "complex": lambda x: x.astype("c8"),
    "other byte order": lambda x: x.astype(">f4"),
    "misaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), "f4", offset=1).reshape(x.shape),
    "list": lambda x: x.tolist(),
    "subclass": lambda x: x.view(Subclass),
    "read-only": read_only,
    "None": lambda x: None,
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("return_stats", [False, True])
def test_inputs(kind, return_stats, careful, isa):
    x, _, weight, bias = arrays()
    x = INPUTS[kind](x)
    if getattr(x, "dtype", None) == "f8":
        weight, bias = weight.astype("f8"), bias.astype("f8")
    for args in ((x, COLS), (x, (COLS,), weight, bias), (x, [COLS], weight), (x, (COLS,), None, bias, 0.1)):
        got = outcome(pyln.layer_norm, *args, return_stats=return_stats)
        assert got == outcome(careful, pyln.layer_norm, *args, return_stats=return_stats)


OTHERS = {
    "shape of one more": {"weight": np.ones(COLS + 1, "f4")},
    "shape of 2-d": {"weight": np.ones((1, COLS), "f4")},
    "float64": {"bias": np.ones(COLS)},
    "strided": {"bias": np.ones(2 * COLS, "f4")[::2]},
    "list": {"weight": [1.0] * COLS},
    "eps int": {"eps": 1},
    "eps NumPy": {"eps": np.float64(0.5)},
    "eps negative": {"eps": -1.0},
    "eps NaN": {"eps": float("nan")},
    "eps infinite": {"eps": float("inf")},
    "eps text": {"eps": "1"},
    "shape too long": {"normalized_shape": (2, ROWS, COLS)},
    "shape empty": {"normalized_shape": ()},
    "shape wrong": {"normalized_shape": COLS - 1},
    "shape huge": {"normalized_shape": 10**30},
    "shape of NumPy ints": {"normalized_shape": (np.int64(COLS),)},
    "shape of a bool": {"normalized_shape": True},
    "shape of text": {"normalized_shape": "24"},
    "weight for each row": {"weight": np.linspace(0, 1, ROWS * COLS, dtype="f4").reshape(ROWS, COLS)},
    "weight stored without its 1": {"zero_centered": True},
    "steps rounded": {"round_steps": True, "zero_centered": np.True_},
    "both axes": {"normalized_shape": (ROWS, COLS)},
    "out of another shape": {"out": np.empty((ROWS, COLS + 1), "f4")},
    "out of another type": {"out": np.empty((ROWS, COLS))},
    "out read-only": {"out": read_only(np.empty((ROWS, COLS), "f4"))},
    "out a list": {"out": [1.0]},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_arguments(kind, careful):
    x, _, weight, bias = arrays()
    keywords = {"normalized_shape": (COLS,), "weight": weight, "bias": bias} | OTHERS[kind]
    assert outcome(pyln.layer_norm, x, **keywords) == outcome(careful, pyln.layer_norm, x, **keywords)


@pytest.mark.parametrize("place", ["input", "row below", "half", "weight", "between the rows"])
def test_out_that_shares_memory(place, careful):
    def call(run):
        memory = np.arange(2 * ROWS * COLS, dtype="f4").reshape(ROWS, 2 * COLS)
        x, weight = memory[:, :COLS], np.ones(COLS, "f4")
        out = {
            "input": x,
            "row below": memory[1:, :COLS],
            "half": memory[:, COLS // 2 : COLS // 2 + COLS],
            "weight": x,
            "between the rows": memory[:, COLS:],
        }[place]
        x = x[:-1] if place == "row below" else x
        weight = memory[0, :COLS] if place == "weight" else weight
        return outcome(run, x, COLS, weight, out=out), memory.tobytes()

    assert call(pyln.layer_norm) == call(lambda *a, **k: careful(pyln.layer_norm, *a, **k))


@pytest.mark.parametrize("kind", INPUTS)
def test_backward_inputs(kind, careful, isa):
    x, dy, weight, bias = arrays()
    x, dy = INPUTS[kind](x), INPUTS[kind](dy)
    if getattr(x, "dtype", None) == "f8":
        weight, bias = weight.astype("f8"), bias.astype("f8")
    try:
        _, mean, rstd = pyln.layer_norm(x, COLS, return_stats=True)
    except Exception:
        mean = rstd = np.zeros((ROWS, 1), "f4")
    for args in (
        (weight, bias),
        (None, None),
        (weight, None, (True, False, True)),
        (weight, None, [True, True, False]),
    ):
        call = (pyln.layer_norm_backward, dy, x, COLS, mean, rstd, *args)
        assert outcome(*call) == outcome(careful, *call)


BACKWARD = {
    "grad_out of another shape": lambda a: a | {"grad_out": a["grad_out"][:-1]},
    "grad_out of another type": lambda a: a | {"grad_out": a["grad_out"].astype("f8")},
    "mean flat": lambda a: a | {"mean": a["mean"].reshape(-1)},
    "rstd of another type": lambda a: a | {"rstd": a["rstd"].astype("f8")},
    "weight of another shape": lambda a: a | {"weight": a["weight"][:-1]},
    "mask of two": lambda a: a | {"output_mask": (True, True)},
    "mask of ints": lambda a: a | {"output_mask": (1, 0, 1)},
    "nothing wanted": lambda a: a | {"output_mask": (False, False, False)},
    "out in part": lambda a: a | {"out": (np.empty_like(a["input"]), None, None)},
    "out in all": lambda a: a | {"out": tuple(np.empty_like(a[n]) for n in ("input", "weight", "bias"))},
    "out not wanted": lambda a: (
        a | {"output_mask": (True, False, True), "out": (None, np.empty_like(a["weight"]), None)}
    ),
    "out a list": lambda a: a | {"out": [None, np.empty_like(a["weight"]), None]},
    "out of two": lambda a: a | {"out": (None, None)},
    "out strided": lambda a: a | {"out": (None, np.empty(2 * COLS, "f4")[::2], None)},
    "out is grad_out": lambda a: a | {"out": (a["grad_out"], None, None)},
    "accumulate": lambda a: (
        a | {"out": (None, a["weight"] + 1, a["bias"] + 2), "accumulate": True, "zero_centered": True}
    ),
    "accumulate in part": lambda a: a | {"out": (None, a["weight"] + 1, None), "accumulate": True},
    "accumulate nothing": lambda a: a | {"output_mask": (True, False, False), "accumulate": True},
    "out overlaps": lambda a: a | {"out": (a["input"], a["input"][0], None)},
}


@pytest.mark.parametrize("kind", BACKWARD)
def test_backward_other_arguments(kind, careful):
    def keywords():
        x, dy, weight, bias = arrays()
        _, mean, rstd = pyln.layer_norm(x, COLS, return_stats=True)
        plain = {"grad_out": dy, "input": x, "normalized_shape": COLS, "mean": mean, "rstd": rstd}
        return BACKWARD[kind](plain | {"weight": weight, "bias": bias})

    got, expected = keywords(), keywords()
    assert outcome(pyln.layer_norm_backward, **got) == outcome(careful, pyln.layer_norm_backward, **expected)


def test_plain_calls_take_the_short_cut(monkeypatch):
    """Or its tests would compare the careful path with itself."""
    x, dy, weight, bias = arrays()
    y, mean, rstd = _core.layer_norm(x, (COLS,), weight, bias, 1e-5, None, True, False, False)
    assert _core.layer_norm(x, (COLS,), None, None, 1e-5, y, False, False, False) is y
    assert _core.layer_norm(x.T, (ROWS,), None, None, 1e-5, None, False, False, False) is None
    every = (True, True, True)
    grads = _core.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias, every, None, False, False)
    assert grads is not None
    assert _core.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias, every, grads, True, True) is not None
    monkeypatch.setattr(functional, "look_at", None)
    layer = pyln.LayerNorm(COLS)
    layer(x, out=y)
    layer.backward(dy)


def test_layer_keeps_what_backward_needs():
    x, dy, weight, bias = arrays()
    layer = pyln.LayerNorm(COLS)
    layer.load_state_dict({"weight": weight, "bias": bias})
    _, mean, rstd = pyln.layer_norm(x, COLS, weight, bias, return_stats=True)
    expected = pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias)
    other = layer(x[:2], out=np.empty_like(x[:2]))
    np.testing.assert_array_equal(other, pyln.layer_norm(x[:2], COLS, weight, bias))
    for shape in ((ROWS, COLS), (2, 3, COLS)):
        layer.zero_grad()
        layer(x.reshape(shape))
        np.testing.assert_array_equal(layer.backward(dy.reshape(shape)).reshape(ROWS, COLS), expected[0])
        np.testing.assert_array_equal(layer.weight_grad, expected[1])
        np.testing.assert_array_equal(layer.bias_grad, expected[2])
    before = x.copy()
    with pytest.raises(ValueError, match="out"):
        layer(x, out=x)
    np.testing.assert_array_equal(x, before)


def test_signature_is_that_of_the_documented_function():
    names = ["input", "normalized_shape", "weight", "bias", "eps", "axis", "out", "dtype", "return_stats"]
    options = ["zero_centered", "round_steps"]
    assert list(inspect.signature(pyln.layer_norm).parameters) == names + options


def test_nothing_leaks():
    x, dy, weight, bias = arrays()
    y, mean, rstd = pyln.layer_norm(x, COLS, weight, bias, return_stats=True)
    layer = pyln.LayerNorm(COLS)

    def calls():
        pyln.layer_norm(x, COLS, weight, bias, out=y)
        pyln.layer_norm(x, COLS, weight, bias, return_stats=True)
        pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias)
        layer(x, out=y)
        pyln.layer_norm(x, None, weight[:ROWS], axis=0, out=y)
        pyln.rms_norm_backward(dy[::-1], x, COLS, rstd, weight)
        for wrong in ((x, COLS - 1), (x, COLS, weight[:-1])):
            with contextlib.suppress(ValueError):
                pyln.layer_norm(*wrong)

    calls()
    held = (x, dy, weight, bias, y, mean, rstd)
    counts = [sys.getrefcount(a) for a in held]
    tracemalloc.start()
    for _ in range(1000):
        calls()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    rounds = 3000
    for _ in range(rounds):
        calls()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20 * rounds  # the smallest object takes more; Python's caches take some 25 kB
    assert [sys.getrefcount(a) for a in held] == counts
    x.resize((ROWS * COLS,), refcheck=False)  # refused while a buffer is held
