"""Whatever is given to a public function: a right result, or an error that names an argument; nothing else is touched.

A call is drawn that is valid, of any types, shapes, layouts and options, and must give what the formula says. Then some
arguments become strange, and it must give what plain copies of them give, or refuse, and has written nothing then.

    PYLN_FUZZ_MINUTES=5 pytest -n0 tests/test_fuzz.py     so long in all, with other numbers each time
    python tests/fuzz/fuzz_py.py -max_total_time=300      the same calls, led by their coverage of pyln (atheris)
"""

import faulthandler
import inspect
import itertools
import os
import re
import secrets
import sys
import time
import warnings
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

import pyln

MINUTES = float(os.environ.get("PYLN_FUZZ_MINUTES", "0"))
LONG = np.longdouble
BF16 = np.dtype(ml_dtypes.bfloat16)
TYPES = [np.dtype(t) for t in ("f4", "f8", "f2", BF16)]
PRECISION = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}


def moments_of(count, mean, var, rms):
    return pyln.Moments.of(count, mean, var, rms=rms)


def layer(kind):
    def call(input, normalized_shape, eps, dtype, zero_centered, grad_out, out):
        made = kind(normalized_shape, eps, zero_centered=zero_centered, dtype=dtype)
        y = made(input, out=out)
        return (y, None if out is not None else made.backward(grad_out), made.state_dict())

    return call


def group_layer(input, num_groups, num_channels, eps, dtype, grad_out, out):
    made = pyln.GroupNorm(num_groups, num_channels, eps, dtype=dtype)
    return made(input, out=out), None if out is not None else made.backward(grad_out)


def instance_layer(kind):
    def call(input, num_features, eps, dtype, grad_out, out):
        made = kind(num_features, eps, dtype=dtype)
        return made(input, out=out), None if out is not None else made.backward(grad_out)

    return call


def loaded(state_dict):
    made = pyln.LayerNorm(3)
    made.load_state_dict(state_dict)
    return made.state_dict()


def course(x, gamma, beta, ln_param, dout):
    out, cache = pyln.cs231n.layernorm_forward(x, gamma, beta, ln_param)
    return out, *pyln.cs231n.layernorm_backward(dout, cache)


def course_backward(dout, cache):
    return pyln.cs231n.layernorm_backward(dout, cache)


def with_isa(name):
    with pyln.use_isa(name):
        return pyln.isa()


PLAIN = [
    *("layer_norm", "layer_norm_backward", "layer_norm_backward_from_y"),
    *("rms_norm", "rms_norm_backward", "rms_norm_backward_from_y"),
    *("add_layer_norm", "add_layer_norm_backward", "add_rms_norm", "add_rms_norm_backward"),
    *("group_norm", "group_norm_backward", "instance_norm", "instance_norm_backward"),
    *("quantized_layer_norm", "quantized_rms_norm"),
    *("moments", "merge_moments", "apply_moments", "grad_moments", "merge_grad_moments", "apply_grad_moments"),
]
FUNCTIONS = {
    **{name: getattr(pyln, name) for name in PLAIN},
    "Moments": pyln.Moments,
    "Moments.of": moments_of,
    "GradMoments": pyln.GradMoments,
    "LayerNorm": layer(pyln.LayerNorm),
    "RMSNorm": layer(pyln.RMSNorm),
    "GroupNorm": group_layer,
    "InstanceNorm1d": instance_layer(pyln.InstanceNorm1d),
    "InstanceNorm2d": instance_layer(pyln.InstanceNorm2d),
    "InstanceNorm3d": instance_layer(pyln.InstanceNorm3d),
    "load_state_dict": loaded,
    "cs231n": course,
    "cs231n.layernorm_backward": course_backward,
    "use_isa": with_isa,
}
# Without arguments; the last has its own tests, in test_threads.py.
ELSEWHERE = {"__version__", "available_isas", "get_num_threads", "isa", "set_num_threads"}


def test_every_public_function_is_here():
    assert set(pyln.__all__) - ELSEWHERE == {name.partition(".")[0] for name in FUNCTIONS} - {"load_state_dict"}


# ---- valid calls ----


def spread(parameter, ndim, begin, end):
    return parameter.astype(LONG).reshape((1,) * begin + parameter.shape + (1,) * (ndim - end))


class Valid:
    """Arguments that go together, by name, and what should come out."""

    def __init__(self, draw, name):
        self.draw, self.name = draw, name
        self.rms = "rms" in name.lower() or ("moments" in name.lower() and draw(st.booleans()))
        self.groups = name.startswith(("group", "Group", "instance", "Instance"))
        self.x_type = draw(st.sampled_from(TYPES if "." not in name and name != "load_state_dict" else TYPES[:2]))
        if name.startswith("cs231n"):
            self.x_type = draw(st.sampled_from(TYPES[:2]))
        self.real = np.dtype("f8" if self.x_type == "f8" else "f4")
        self.p_type = draw(st.sampled_from(sorted({self.x_type, self.real}, key=str)))
        self.q_type = draw(st.sampled_from(["i1", "u1"]))
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        self.scale = draw(st.sampled_from([1.0, 1.0, 1e-2, 30.0]))
        self.shape = tuple(draw(st.lists(st.integers(0, 6), min_size=1, max_size=4)))
        ndim = len(self.shape)
        self.begin = draw(st.integers(0, ndim - 1))
        self.end = ndim
        self.by_axis = name in PLAIN and "add" not in name and not self.groups and draw(st.booleans())
        if self.by_axis or "moments" in name:
            self.end = draw(st.integers(self.begin + 1, ndim))
        if self.groups:
            spatial = int(name[-2]) if name[-2].isdigit() else draw(st.integers(1, 2))
            self.count = draw(st.integers(1, 3))
            channels = self.count * (1 if name.lower().startswith("instance") else draw(st.integers(1, 3)))
            self.shape = draw(st.integers(0, 3)), channels, *draw(st.tuples(*[st.integers(2, 4)] * spatial))
            self.begin, self.end = 1, 2
        elif name.startswith("cs231n"):
            self.shape = self.shape[0], draw(st.integers(1, 6))
            self.begin, self.end = 1, 2
        self.norm_shape = self.shape[self.begin : self.end]
        self.stat_shape = tuple(1 if self.begin <= i < self.end else n for i, n in enumerate(self.shape))
        self.x = self.array(self.shape, self.x_type)

    def array(self, shape, dtype):
        with warnings.catch_warnings(action="ignore"):
            return (self.rng.standard_normal(shape) * self.scale).astype(dtype)

    def seen(self, a):
        """As (..., elements) rows in long double."""
        a = a.astype(LONG)
        if self.groups:
            return a.reshape(self.shape[0], self.count, int(np.prod(self.shape[1:])) // self.count)
        return np.moveaxis(a, range(self.begin, self.end), range(-(self.end - self.begin), 0)).reshape(
            *(n for i, n in enumerate(self.shape) if not self.begin <= i < self.end), int(np.prod(self.norm_shape))
        )

    def statistics(self, x, eps):
        """mean, rstd and xhat of the rows of x, which are last in the results."""
        rows = self.seen(x)
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            mean = np.zeros((*rows.shape[:-1], 1), LONG) if self.rms else rows.mean(-1, keepdims=True)
            var = ((rows - mean) ** 2).mean(-1, keepdims=True)
            rstd = np.where(var + eps == 0, 0, 1 / np.sqrt(var + LONG(eps)))
        return mean, rstd, (rows - mean) * rstd

    def argument(self, name):  # noqa: PLR0911, PLR0912
        """A valid value for the argument of that name."""
        draw, maybe = self.draw, lambda make: make() if self.draw(st.booleans()) else None
        parameter_shape = self.shape[1:2] if self.groups else self.norm_shape
        stat_shape = (self.shape[0], self.count) if self.groups else self.stat_shape
        if name in ("input", "x", "total", "y"):
            return self.x
        if name in ("residual", "grad_out", "dout", "grad_total"):
            return self.array(self.shape, self.x_type)
        if name in ("weight", "bias", "input_bias"):
            return maybe(lambda: self.array(parameter_shape, self.p_type))
        if name in ("gamma", "beta"):
            return self.array(parameter_shape, self.x_type)
        if name in ("mean", "rstd") and self.name != "Moments.of":
            return self.statistics(self.x, 1e-5)[name == "rstd"].astype(self.real).reshape(stat_shape)
        if name in ("mean", "var"):
            return None if name == "mean" and self.rms else np.abs(self.array((2, 1), self.x_type))
        if name == "out":
            return maybe(self.out)
        more = {
            "normalized_shape": lambda: None if self.by_axis else self.norm_shape,
            "axis": lambda: tuple(range(self.begin, self.end)) if self.by_axis or "moments" in self.name else None,
            "eps": lambda: draw(st.sampled_from([1e-5, 1e-3, np.float32(0.1), 1])),
            "dtype": lambda: self.q_type if "quantized" in self.name else None if self.name in PLAIN else self.x_type,
            "output_mask": lambda: tuple(
                draw(st.booleans()) for _ in range(2 if self.rms and "moments" not in self.name else 3)
            ),
            "num_groups": lambda: self.count,
            "num_channels": lambda: self.shape[1],
            "num_features": lambda: self.shape[1],
            "moments": lambda: pyln.moments(self.x, tuple(range(self.begin, self.end)), rms=self.rms),
            "grad_moments": self.grad_moments,
            "a": self.mergeable,
            "b": self.mergeable,
            "count": lambda: 6,
            "values": lambda: np.ones((2, 1, 4 if self.name == "GradMoments" else 5), self.real),
            "scale": lambda: draw(st.sampled_from([None, 0.1, 1])),
            "zero_point": lambda: None,
            "state_dict": lambda: {"weight": self.array((3,), self.x_type), "bias": self.array((3,), "f4")},
            "ln_param": lambda: draw(st.sampled_from([{}, {"eps": 1e-5}])),
            "cache": lambda: (self.x, *(self.argument(n) for n in ("mean", "rstd", "gamma"))),
            "name": pyln.isa,
            "rms": lambda: self.rms,
            "accumulate": lambda: False,
            "round_steps": lambda: False,
        }
        return more[name]() if name in more else draw(st.booleans())

    def mergeable(self):
        moments = pyln.moments(self.x, tuple(range(self.begin, self.end)), rms=self.rms)
        return moments if self.name == "merge_moments" else self.grad_moments()

    def grad_moments(self):
        axes = tuple(range(self.begin, self.end))
        return pyln.grad_moments(self.x, self.x, pyln.moments(self.x, axes, rms=self.rms), axis=axes)

    def out(self):
        places = [np.full(self.shape, 7).astype(self.q_type if "quantized" in self.name else self.x_type)]
        if self.name.startswith("add") and "backward" not in self.name:
            return places[0], places[0].copy()
        if "backward" in self.name:
            shape = self.shape[1:2] if self.groups else self.norm_shape
            return (places[0], *(np.full(shape, 7, self.real) for _ in range(1 if self.rms else 2)))
        return places[0]

    def check(self, arguments, result):
        """What comes out is what the formula says."""
        if self.name not in PLAIN or "merge" in self.name or self.name in ("moments", "grad_moments"):
            return
        a = arguments
        ndim = len(self.shape)
        begin, end = self.begin, self.end
        gamma, beta = (
            LONG(neutral) if a.get(n) is None else self.seen(spread(a[n], ndim, begin, end) + np.zeros(self.shape))
            for n, neutral in (("weight", 0 if a.get("zero_centered") else 1), ("bias", 0))
        )
        gamma = gamma + LONG(1) if a.get("zero_centered") else gamma
        x, eps = self.x.astype(LONG), a.get("eps")
        eps = np.finfo(self.real).eps if eps is None else float(eps)
        tolerance = PRECISION[self.x_type.name]
        first = result[0] if isinstance(result, tuple) else result
        if "backward" in self.name or self.name == "apply_grad_moments":
            if first is None or "from_y" in self.name or self.name == "apply_grad_moments":
                return
            rstd = a["rstd"].astype(LONG).reshape(-1)
            mean = a["mean"].astype(LONG).reshape(-1) if "mean" in a else 0 * rstd
            order = self.seen(x).shape[:-1]
            xhat = (self.seen(x) - mean.reshape(*order, 1)) * rstd.reshape(*order, 1)
            g = self.seen(a["grad_out"]) * gamma
            m = (lambda v: v.mean(-1, keepdims=True)) if xhat.shape[-1] else (lambda v: 0)
            expected = rstd.reshape(*order, 1) * (g - (0 if self.rms else m(g)) - xhat * m(g * xhat))
            if a.get("grad_total") is not None:
                expected = expected + self.seen(a["grad_total"])
        else:
            if self.name.startswith("add"):
                x = x + a["residual"].astype(LONG)
                if a.get("input_bias") is not None:
                    x = x + spread(a["input_bias"], ndim, begin, end)
                assert_close(result[1].astype(LONG), x, tolerance)
                x = result[1]
            expected = self.statistics(x, eps)[2] * gamma + beta
        if "quantized" in self.name:
            q, scale, zero = result
            scale, zero = (
                np.broadcast_to(np.asarray(v), self.stat_shape) for v in (scale, 0 if zero is None else zero)
            )
            got = (self.seen(q) - self.seen(zero + np.zeros(self.shape))) * self.seen(scale + np.zeros(self.shape))
            assert (
                a["scale"] is not None
                or (np.abs(got - expected) <= 0.51 * self.seen(scale + np.zeros(self.shape)) + 0.02).all()
            )
        else:
            assert_close(self.seen(first), expected, tolerance)


def assert_close(got, expected, tolerance):
    size = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=float(200 * tolerance * size))


# ---- strange ones ----


class Subclass(np.ndarray):
    pass


def misaligned(a):
    copy = np.frombuffer(bytearray(a.nbytes + 1), np.uint8, offset=1)[: a.nbytes]
    copy[...] = np.frombuffer(a.tobytes(), np.uint8)
    return copy.view(a.dtype).reshape(a.shape)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def gapped(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if a.ndim else a.copy()
    if a.ndim:
        wide[..., ::2] = a
        return wide[..., ::2]
    return wide


# The same numbers in another memory.
SAME = [
    lambda a: a,
    np.asfortranarray,
    lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    lambda a: a[..., ::-1].copy()[..., ::-1] if a.ndim else a,
    misaligned,
    read_only,
    gapped,
    lambda a: a.view(Subclass),
]


def flipped(a):
    return a.astype(a.dtype.newbyteorder()) if a.dtype != BF16 else a


# Other ones.
OTHER = [
    flipped,
    lambda a: a[:-1],
    lambda a: a[None],
    lambda a: a.reshape(-1),
    lambda a: a.T,
    lambda a: a[..., :0],
    lambda a: a.tolist(),
    lambda a: a.astype(object),
    lambda a: a.astype("f8"),
    lambda a: a.astype("f4"),
    lambda a: a.astype("f2"),
    lambda a: a.astype(BF16),
    lambda a: a.astype("c8"),
    lambda a: a.astype("i4"),
    lambda a: a.astype(bool),
    lambda a: a.astype("g"),
    lambda a: a.astype("S3"),
    np.ma.masked_array,
    np.asmatrix,
    memoryview,
    lambda a: a.tobytes(),
    lambda a: a * np.nan,
    lambda a: a + np.inf,
    lambda a: np.broadcast_to(a[:1], a.shape),
    lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (a.itemsize,) * a.ndim),
    lambda a: a.reshape((1,) * (64 - a.ndim) + a.shape),
    lambda a: a.view([("a", a.dtype)]),
    lambda a: a.view(np.dtype((type(a.dtype.name, (np.void,), {}), 1))),
]


class Evil:
    """Its methods raise, or return what they should not."""

    def __init__(self, methods):
        self.methods = methods

    def __repr__(self):
        return self("__repr__") or f"Evil({self.methods})"

    def __call__(self, name):
        what = self.methods.get(name)
        if isinstance(what, type) and issubclass(what, Exception):
            raise what("evil")
        return what


METHODS = [
    *("__array__", "__dlpack__", "__dlpack_device__", "__index__", "__float__", "__int__", "__len__", "__iter__"),
    *("__getitem__", "__bool__", "__repr__", "__eq__", "__hash__"),
]
PROPERTIES = ["__array_interface__", "__array_struct__", "shape", "dtype", "requires_grad", "keys", "values", "count"]


@st.composite
def evil(draw):
    returned = st.sampled_from(
        [KeyError, RuntimeError, TypeError, ValueError, RecursionError, OSError, None, -1, 2**70, 0.5, "x", (), (1, 0)]
    )
    methods = draw(st.dictionaries(st.sampled_from(METHODS + PROPERTIES), returned, max_size=4))
    members = {name: lambda self, *a, _name=name, **k: self(_name) for name in methods if name in METHODS}
    members |= {name: property(lambda self, _name=name: self(_name)) for name in methods if name in PROPERTIES}
    return type("Evil", (Evil,), members)(methods)


ARRAYS = st.builds(
    np.zeros,
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from(
        [
            "f4",
            "f8",
            "f2",
            BF16,
            ">f4",
            "<f8",
            "c16",
            "i1",
            "u1",
            "i8",
            "?",
            "O",
            "S2",
            "U1",
            "V3",
            "M8[s]",
            "f4,i2",
            "g",
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from(
        [2**63, 2**64, -(2**63), 10**5000, 1e300, 1e-320, "float32", "bfloat16", "int8", "\ud800", "f4,f4"]
    ),
    st.builds(itertools.count),
    st.sampled_from(
        [range(10**12), range(0), object, np, len, 1j, Decimal("NaN"), Fraction(1, 3), np.float64("nan"), np.int8(-1)]
    ),
    st.lists(st.one_of(st.integers(-3, 5), st.none(), st.floats(), st.text(max_size=2)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([pyln.Moments(3, np.ones((2, 1, 5))), pyln.GradMoments(2**62, np.ones((2, 1, 4), "f4"))]),
)


def changed(draw, value, change):
    """The value with a change of its arrays, where it can be changed so."""
    if isinstance(value, np.ndarray):
        try:
            with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                return change(value)
        except (IndexError, TypeError, ValueError, OverflowError, AttributeError):
            return value
    if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
        index = draw(st.integers(0, len(value) - 1))
        return (*value[:index], changed(draw, value[index], change), *value[index + 1 :])
    return value


def strange(draw, name, arguments):
    value = arguments[name]
    kind = draw(st.integers(0, 5))
    if kind <= 1:
        return changed(draw, value, draw(st.sampled_from(OTHER)))
    if kind == 2:
        return draw(ARRAYS)
    if kind == 3:
        return draw(evil())
    if kind == 4 and name == "out":  # the memory of another argument, or a part of it
        arrays = [a for n, a in arguments.items() if isinstance(a, np.ndarray) and n != "out"]
        place = draw(st.sampled_from(arrays or [np.zeros(3)]))
        place = (
            draw(st.sampled_from([lambda a: a, lambda a: a[::-1], lambda a: a.T, lambda a: a.reshape(-1)[1:]]))(place)
            if place.ndim
            else place
        )
        return (place, *value[1:]) if isinstance(value, tuple) else place
    return draw(SCALARS)


# ---- the oracle ----

FLAGS = {"zero_centered", "round_steps", "accumulate", "return_stats", "rms"}
HANG = 120  # seconds after which a call is held to hang, and the process ends


def memory_of(value):
    """Snapshots of the arrays in a value."""
    if isinstance(value, np.ndarray):
        return [np.asarray(value).tobytes()] if not value.dtype.hasobject else [None]
    if isinstance(value, (tuple, list)):
        return [m for v in value for m in memory_of(v)]
    if isinstance(value, dict):
        return memory_of(list(value.values()))
    return memory_of(value.values) if isinstance(value, (pyln.Moments, pyln.GradMoments)) else []


def outcome(value):
    """What came out, as something that can be compared, NaN with NaN too."""
    if isinstance(value, np.ndarray):
        value = np.asarray(value)
        return value.shape, value.dtype, np.where(value == value, value, 0).tobytes(), (value == value).tobytes()
    if isinstance(value, (tuple, list)):
        return [outcome(v) for v in value]
    if isinstance(value, dict):
        return {name: outcome(v) for name, v in value.items()}
    return outcome(value.values) if isinstance(value, (pyln.Moments, pyln.GradMoments)) else repr(value)


def _without_sums(name, told):
    """Leave out gradients of parameters, whose sums over rows go by the order of memory."""
    return told[:1] if "backward" in name or name == "apply_grad_moments" else told


def plain(value):
    """A copy without a strange layout."""
    if isinstance(value, np.ndarray):
        return np.array(np.asarray(value), order="C")
    return tuple(plain(v) for v in value) if isinstance(value, tuple) else value


def call(function, arguments):
    names = [n for n, p in inspect.signature(function).parameters.items() if p.kind is not p.KEYWORD_ONLY]
    options = {n: v for n, v in arguments.items() if n not in names}
    faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            return function(*(arguments[n] for n in names), **options)
    finally:
        faulthandler.cancel_dump_traceback_later()


def fuzz(draw, name):
    """Draw a call of the function, and look at what comes of it."""
    function, valid = FUNCTIONS[name], Valid(draw, name)
    parameters = inspect.signature(function).parameters
    arguments = {n: valid.argument(n) for n in parameters}
    if arguments.get("grad_moments") is not None:
        arguments["grad_moments"] = pyln.grad_moments(
            arguments["grad_out"], valid.x, arguments["moments"], arguments["weight"], axis=arguments["axis"]
        )
    if arguments.get("out") is not None and "output_mask" in arguments:
        arguments["out"] = tuple(
            o if w else None for o, w in zip(arguments["out"], arguments["output_mask"], strict=True)
        )
    for n, v in arguments.items():
        if n not in ("out", "values"):  # of moments, which are refused where they are not aligned
            arguments[n] = changed(draw, v, draw(st.sampled_from(SAME)))
    count = draw(st.sampled_from([0, 1, 1, 2]))
    names = draw(st.permutations([n for n in parameters if n not in FLAGS]))[:count]
    for n in names:
        arguments[n] = strange(draw, n, arguments)
    before = {n: memory_of(v) for n, v in arguments.items()}
    try:
        result = call(function, arguments)
    except (TypeError, ValueError, MemoryError) as error:
        assert count, f"refused {arguments}: {error!r}"
        words = {*parameters, "input", "weight", "bias", "normalized_shape", "num groups", "count", "values", "moments"}
        words |= {"mean", "rstd", "grad_out", "gamma"} if name.startswith("cs231n") else set()
        assert isinstance(error, MemoryError) or any(re.search(rf"\b{word}\b", str(error)) for word in words), repr(
            error
        )
        assert len(str(error)) < 2000, "a long message"
        assert before == {n: memory_of(v) for n, v in arguments.items()}, f"written before {error!r}"
        return
    shared = [n for n in arguments if "out" in arguments and n != "out" and _shares(arguments["out"], arguments[n])]
    for n, v in arguments.items():
        assert n == "out" or n in shared or before[n] == memory_of(v), f"{n} has changed"
    if not shared:
        copies = {n: None if n == "out" else plain(v) for n, v in arguments.items()}
        if arguments.get("out") is None or (name in PLAIN and "dtype" not in arguments):
            got, expected = (_without_sums(name, outcome(r)) for r in (result, call(function, copies)))
            assert got == expected, f"not as of plain copies: {names} {arguments}"
    if not count:
        valid.check(arguments, result)


def _shares(a, b):
    if isinstance(a, tuple):
        return any(_shares(v, b) for v in a)
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_fuzz(name):
    end = time.monotonic() + 60 * MINUTES / len(FUNCTIONS)
    options = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @given(st.data())
    def once(data):
        fuzz(data.draw, name)

    settings(max_examples=60, derandomize=True, **options)(once)()
    while time.monotonic() < end:
        once = given(st.data())(lambda data: fuzz(data.draw, name))
        number = secrets.randbits(64)
        print(f"{name}: seed {number}")
        seed(number)(settings(max_examples=500, **options)(once))()
