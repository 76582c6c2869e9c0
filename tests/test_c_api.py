"""The C API as another language sees it: the installed header and shared library, by cffi, without any glue."""

import re

import cffi
import numpy as np
import pytest
from commands import run

import pyln


@pytest.fixture(scope="module")
def c(installed):
    header = installed / "include" / "lnorm.h"
    preprocessed = run("cc", "-E", "-P", "-DLNORM_API=", header)
    declarations = preprocessed[preprocessed.index("typedef enum lnorm_status") :]
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r'__attribute__\(\(visibility\("default"\)\)\)', "", declarations))
    return ffi, ffi.dlopen(str(installed / "lib" / "liblnorm.so")), header.read_text()


def pointer(ffi, array):
    return ffi.NULL if array is None else ffi.cast("void *", array.ctypes.data)


def typed(ffi, array):
    return ffi.cast("float *" if array.dtype == np.float32 else "double *", array.ctypes.data)


@pytest.fixture(params=["float32", "float64"])
def data(c, isa, request):
    """Arrays, and what pyln makes of them, on the instruction set that the C library uses too."""
    assert c[1].lnorm_set_isa(isa.encode()) == c[1].LNORM_OK
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((37, 70)).astype(request.param) for _ in range(2))
    weight, bias = (rng.standard_normal(70).astype(request.param) for _ in range(2))
    y, mean, rstd = pyln.layer_norm(x, 70, weight, bias, return_stats=True)
    return x, dy, weight, bias, (y, mean, rstd), pyln.layer_norm_backward(dy, x, 70, mean, rstd, weight)


def equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.reshape(b.shape), b)


def test_typed_calls(c, data):
    ffi, lib, _ = c
    x, dy, weight, bias, expected, grads = data
    suffix = "f32" if x.dtype == np.float32 else "f64"
    got = [np.empty_like(a) for a in expected]
    t = lambda a: typed(ffi, a)  # noqa: E731
    forward, backward = (getattr(lib, f"lnorm_{name}_{suffix}") for name in ("forward", "backward"))
    assert forward(37, 70, t(x), t(weight), t(bias), 1e-5, *map(t, got)) == lib.LNORM_OK
    equal(got, expected)
    size = getattr(lib, f"lnorm_backward_workspace_{suffix}")(37, 70)
    workspace = ffi.new("char[]", size)
    got_grads = [np.empty_like(a) for a in grads]
    arguments = (37, 70, *map(t, (dy, x, expected[1], expected[2], weight, *got_grads)))
    assert backward(*arguments, ffi.NULL, 0) == lib.LNORM_ERROR_WORKSPACE
    assert backward(*arguments, workspace, size - 1) == lib.LNORM_ERROR_WORKSPACE
    assert backward(*arguments, workspace, size) == lib.LNORM_OK
    equal(got_grads, grads)


def test_general_calls_with_strides_and_a_hook(c, data):
    ffi, lib, _ = c
    x, dy, weight, bias, expected, grads = data
    calls = []

    @ffi.callback("void(void *, size_t, lnorm_task, void *)")
    def backwards_in_order(context, count, task, argument):
        calls.append(count)
        for i in reversed(range(count)):
            task(argument, i)

    p = lambda a: pointer(ffi, a)  # noqa: E731
    problem = ffi.new("lnorm_problem *")
    problem.struct_size = ffi.sizeof("lnorm_problem")
    problem.x_type = lib.LNORM_F32 if x.dtype == np.float32 else lib.LNORM_F64
    problem.outer, problem.norm, problem.eps = 37, 70, 1e-5
    wide = np.full((37, 200), 9, x.dtype)
    wide[:, 100:170] = x
    problem.x_stride, problem.y_stride = 200, -70
    problem.parallel_for = backwards_in_order
    y, mean, rstd = (np.empty_like(a) for a in expected)
    assert lib.lnorm_forward(problem, p(wide[:, 100:]), p(weight), p(bias), p(y[-1:]), p(mean), p(rstd)) == lib.LNORM_OK
    equal((y[::-1], mean, rstd), expected)
    size = ffi.new("size_t *")
    assert lib.lnorm_backward_workspace(problem, size) == lib.LNORM_OK
    workspace = ffi.new("char[]", size[0])
    got = [np.empty_like(a) for a in grads]
    status = lib.lnorm_backward(problem, *map(p, (dy, wide[:, 100:], mean, rstd, weight, *got)), workspace, size[0])
    assert status == lib.LNORM_OK
    equal(got, grads)


def test_refusals(c):
    ffi, lib, _ = c
    x = np.ones((2, 3), "f4")
    out = np.full((2, 3), 7, "f4")
    problem = ffi.new("lnorm_problem *")

    def status(**changes):
        ffi.memmove(problem, bytes(ffi.sizeof("lnorm_problem")), ffi.sizeof("lnorm_problem"))
        problem.struct_size = ffi.sizeof("lnorm_problem")
        problem.outer, problem.norm = 2, 3
        for name, value in changes.items():
            setattr(problem, name, value)
        return lib.lnorm_forward(problem, pointer(ffi, x), ffi.NULL, ffi.NULL, pointer(ffi, out), ffi.NULL, ffi.NULL)

    for changes, expected in [
        ({"struct_size": ffi.sizeof("lnorm_problem") + 8}, lib.LNORM_ERROR_STRUCT),
        ({"struct_size": 0}, lib.LNORM_ERROR_STRUCT),
        ({"operation": 2}, lib.LNORM_ERROR_OPERATION),
        ({"x_type": 5}, lib.LNORM_ERROR_TYPE),
        ({"y_type": lib.LNORM_F64}, lib.LNORM_ERROR_TYPE),
        ({"flags": 16}, lib.LNORM_ERROR_FLAGS),
        ({"inner": -1}, lib.LNORM_ERROR_INNER),
        ({"outer": -1}, lib.LNORM_ERROR_SIZE),
        ({"outer": 2**62, "norm": 2**62}, lib.LNORM_ERROR_SIZE),
        ({"y_stride": 2}, lib.LNORM_ERROR_STRIDE),
        ({"eps": -1.0}, lib.LNORM_ERROR_EPS),
        ({"eps": float("nan")}, lib.LNORM_ERROR_EPS),
    ]:
        assert status(**changes) == expected, changes
        assert (out == 7).all()
        assert len(ffi.string(lib.lnorm_status_text(expected))) > 20
    assert lib.lnorm_forward(ffi.NULL, *[ffi.NULL] * 6) == lib.LNORM_ERROR_STRUCT
    assert status() == lib.LNORM_OK and (out == 0).all()


def test_refusals_of_backward(c):
    ffi, lib, _ = c
    x = np.ones((20, 3))
    stats, sums, dx = np.ones(20), np.full(3, 7.0), np.full((20, 3), 7.0)
    size = lib.lnorm_backward_workspace_f64(20, 3)
    workspace = np.zeros(size // 8 + 1)

    def status(dy=x, x=x, mean=stats, rstd=stats, dx=dx, dgamma=sums, dbeta=None, workspace=workspace, size=size):
        arrays = (dy, x, mean, rstd, None, dx, dgamma, dbeta)
        pointers = [ffi.NULL if a is None else typed(ffi, a) for a in arrays]
        return lib.lnorm_backward_f64(20, 3, *pointers, pointer(ffi, workspace), size)

    for arguments, expected in [
        *[({name: None}, lib.LNORM_ERROR_NULL) for name in ("dy", "x", "mean", "rstd")],
        ({"workspace": None}, lib.LNORM_ERROR_WORKSPACE),
        ({"size": size - 1}, lib.LNORM_ERROR_WORKSPACE),
        ({"workspace": workspace.view("u1")[4:]}, lib.LNORM_ERROR_WORKSPACE),
        ({"workspace": x}, lib.LNORM_ERROR_OVERLAP),
        ({"dx": stats}, lib.LNORM_ERROR_OVERLAP),
        ({"dbeta": sums}, lib.LNORM_ERROR_OVERLAP),
    ]:
        assert status(**arguments) == expected, arguments
        assert (dx == 7).all() and (sums == 7).all() and (x == 1).all() and (stats == 1).all()
    assert status(workspace=None, size=0, dgamma=None) == lib.LNORM_OK
    assert status(dx=None) == lib.LNORM_OK


def test_workspace_sizes(c):
    ffi, lib, _ = c
    for suffix, element in (("f32", 4), ("f64", 8)):
        query = getattr(lib, f"lnorm_backward_workspace_{suffix}")
        assert query(0, 5) == query(5, 0) == query(1, 768) == 0
        assert 0 < query(100, 768) <= query(10**6, 768) < 10**6 * 768 * element
        assert query(2**40, 2**40) == query(2**63, 1) == 2 ** (8 * ffi.sizeof("size_t")) - 1


def test_every_status_has_a_text(c):
    ffi, lib, header = c
    statuses = re.findall(r"^    LNORM_(?:OK|ERROR_\w+) = (\d+)", header, re.MULTILINE)
    texts = [ffi.string(lib.lnorm_status_text(int(status))).decode() for status in statuses]
    unknown = ffi.string(lib.lnorm_status_text(len(statuses))).decode()
    assert len(statuses) >= 13 and len({*texts, unknown}) == len(texts) + 1


def test_version_and_instruction_sets(c):
    ffi, lib, header = c
    version = ffi.string(lib.lnorm_version()).decode()
    assert version == pyln.__version__ and f'#define LNORM_VERSION_STRING "{version}"' in header
    names = [ffi.string(lib.lnorm_available_isa(i)).decode() for i in range(len(pyln.available_isas()))]
    assert names == pyln.available_isas()
    assert lib.lnorm_available_isa(len(names)) == ffi.NULL
    for name in names:
        assert lib.lnorm_set_isa(name.encode()) == lib.LNORM_OK and ffi.string(lib.lnorm_isa()).decode() == name
    assert lib.lnorm_set_isa(b"nonsense") == lib.LNORM_ERROR_ISA
    assert lib.lnorm_set_isa(ffi.NULL) == lib.LNORM_OK
