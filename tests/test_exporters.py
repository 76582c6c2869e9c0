"""Objects that lend their memory, and misreport it: what contradicts itself is refused, before it is touched.

What cannot be seen is not here: an address is believed, and that there is as much behind it as is said.
"""

import ctypes
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest

import pyln
from pyln import _dlpack
from pyln._dlpack import _Tensor, _Versioned

CPU, CUDA, CUDA_HOST = 1, 2, 3
FLOAT, BFLOAT = 2, 4
MEMORY = (ctypes.c_float * 16)(*range(16))
HERE = ctypes.addressof(MEMORY)
OWNER = np.frombuffer(MEMORY, "f4")

new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Exporter:
    """A tensor of DLPack that says whatever it is told to."""

    def __init__(self, name=b"dltensor", device=CPU, major=1, **told):
        shape, strides = told.pop("shape", (3, 4)), told.pop("strides", None)
        self.kept = [None if a is None else (ctypes.c_int64 * len(a))(*a) for a in (shape, strides)]
        told = {"data": HERE, "ndim": len(shape or ()), "code": FLOAT, "bits": 32, "lanes": 1, **told}
        tensor = _Tensor(**told, device_type=device)
        for field, array in zip(("shape", "strides"), self.kept, strict=True):
            if array is not None:
                setattr(tensor, field, ctypes.cast(array, ctypes.POINTER(ctypes.c_int64)))
        self.held = tensor if name == b"dltensor" else _Versioned(major=major, tensor=tensor)
        self.name, self.device = name, device

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self):
        return new_capsule(ctypes.addressof(self.held), self.name, None)


class Versioned(Exporter):
    def __dlpack__(self, *, max_version):
        return super().__dlpack__()


TRUE = {
    "plain": (Exporter(), OWNER[:12].reshape(3, 4)),
    "versioned": (Versioned(name=b"dltensor_versioned"), OWNER[:12].reshape(3, 4)),
    "transposed": (Exporter(strides=(1, 3)), OWNER[:12].reshape(4, 3).T),
    "backwards": (Exporter(data=HERE + 44, strides=(-4, -1)), OWNER[11::-1].reshape(3, 4)),
    "repeated": (Exporter(strides=(0, 1)), np.broadcast_to(OWNER[:4], (3, 4))),
    "offset": (Exporter(byte_offset=16), OWNER[4:].reshape(3, 4)),
    "misaligned": (Exporter(data=HERE + 2, shape=(3,)), np.frombuffer(bytes(MEMORY)[2:14], "f4")),
    "host": (Exporter(device=CUDA_HOST), OWNER[:12].reshape(3, 4)),
    "half": (Exporter(bits=16, shape=(2, 3)), OWNER.view("f2")[:6].reshape(2, 3)),
    "bfloat16": (Exporter(code=BFLOAT, bits=16), OWNER.view(ml_dtypes.bfloat16)[:12].reshape(3, 4)),
    "nothing": (Exporter(shape=(0, 4), data=None), np.empty((0, 4), "f4")),
}


@pytest.mark.parametrize("name", TRUE)
def test_true_tensors(name):
    exporter, expected = TRUE[name]
    got = _dlpack.as_array(exporter)
    assert (
        got.dtype == expected.dtype and got.tobytes() == expected.tobytes() and not got.flags.writeable
    ) or not got.size
    y = pyln.layer_norm(exporter, axis=-1)
    assert y.tobytes() == pyln.layer_norm(expected, axis=-1).tobytes()


LIES = {
    "no shape": dict(shape=None, ndim=2),
    "negative ndim": dict(ndim=-1),
    "large ndim": dict(ndim=2**31 - 1),
    "65 dimensions": dict(shape=(1,) * 65),
    "63 dimensions": dict(shape=(1,) * 63),
    "negative size": dict(shape=(-3, 4)),
    "two negatives": dict(shape=(-3, -4)),
    "no data": dict(data=None),
    "no data, but an offset": dict(data=None, byte_offset=4096),
    "more than memory": dict(shape=(2**62, 2**62)),
    "product of 2**64": dict(shape=(2**32, 2**32)),
    "bytes of 2**64": dict(shape=(2**62,)),
    "last addresses": dict(data=2**64 - 4),
    "around the end": dict(byte_offset=2**64 - HERE),
    "offset of all": dict(byte_offset=2**64 - 1),
    "stride to the end": dict(strides=(2**61, 1)),
    "stride beyond": dict(strides=(2**62, 1)),
    "strides that cancel": dict(strides=(2**61, -(2**61))),
    "stride before the beginning": dict(strides=(-(2**60), 1)),
    "lanes": dict(lanes=4),
    "no lanes": dict(lanes=0),
    "odd bits": dict(bits=33),
    "no bits": dict(bits=0),
    "24 bits": dict(bits=24),
    "bfloat16 of 32": dict(code=BFLOAT, bits=32),
    "integers": dict(code=0),
    "complex": dict(code=5, bits=64),
    "unknown": dict(code=255),
    "elsewhere": dict(device=CUDA),
    "device -1": dict(device=-1),
    "another capsule": dict(name=b"used_dltensor"),
    "version 2": dict(name=b"dltensor_versioned", major=2),
    "version 0": dict(name=b"dltensor_versioned", major=0),
}


@pytest.mark.parametrize("code", [FLOAT, BFLOAT])
@pytest.mark.parametrize("name", LIES)
def test_tensors_that_misreport(name, code):
    """Those of bfloat16 took another way once."""
    kind = {"code": BFLOAT, "bits": 16} if code == BFLOAT else {}
    refused(Exporter(**(kind | LIES[name])))


def refused(value, *arguments, function=pyln.layer_norm, name="input", **more):
    with pytest.raises((TypeError, ValueError)) as caught:
        function(value, *arguments, **({} if arguments else {"axis": -1}), **more)
    assert str(caught.value).startswith(f"{name}: "), caught.value


def raising(error):
    def method(*args, **kwargs):
        raise error

    return method


ERRORS = [
    KeyError("x"),
    ZeroDivisionError(),
    OSError(5, "x"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "y"),
    StopIteration(),
]


@pytest.mark.parametrize("error", [*ERRORS, AttributeError("y"), RecursionError()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "method", ["__array__", "__dlpack__", "__dlpack_device__", "__array_interface__", "requires_grad"]
)
def test_methods_that_raise(method, error):
    members = {"__dlpack__": Exporter.__dlpack__, "__dlpack_device__": Exporter.__dlpack_device__}
    is_property = method in ("__array_interface__", "requires_grad")
    members[method] = property(raising(error)) if is_property else raising(error)
    value = type("Strange", (), members)()
    value.held, value.name, value.device = Exporter().held, b"other", CPU
    refused(value)
    refused(np.zeros((2, 3), "f4"), value, function=lambda x, w: pyln.layer_norm(x, 3, weight=w), name="weight")


def test_memory_errors_and_interrupts_pass():
    for error in (MemoryError, KeyboardInterrupt):
        with pytest.raises(error):
            pyln.layer_norm(type("Full", (), {"__array__": raising(error())})(), axis=-1)


@pytest.mark.parametrize("returned", [None, 5, (CPU,), ("cpu", 0), (), object()])
def test_devices_that_are_none(returned):
    exporter = Exporter()
    exporter.__class__ = type("Strange", (Exporter,), {"__dlpack_device__": lambda self: returned})
    if returned != (CPU,):
        refused(exporter)


@pytest.mark.parametrize("returned", [None, 5, "capsule", OWNER, object()])
def test_capsules_that_are_none(returned):
    refused(type("Strange", (Exporter,), {"__dlpack__": lambda self: returned})())


def interface(**told):
    told = {"version": 3, "shape": (3, 4), "typestr": OWNER.dtype.str, "data": (HERE, False), **told}
    return type("Interface", (), {"__array_interface__": told})()


@pytest.mark.parametrize("data", [bytes(48), bytearray(48), memoryview(bytes(48))], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(
    "told",
    [
        dict(shape=(13,)),
        dict(shape=(10**6, 10)),
        dict(strides=(10**9, 4)),
        dict(strides=(16, -4)),
        dict(strides=(-16, 4)),
        dict(offset=4),
        dict(offset=-4),
        dict(offset=2**40),
        dict(strides=(2**62, 2**62)),
    ],
    ids=str,
)
def test_arrays_that_leave_their_buffer(told, data):
    refused(interface(data=data, **told))


def test_arrays_that_fill_their_buffer():
    for told in (dict(), dict(strides=(4, 12)), dict(offset=16, shape=(8,)), dict(shape=(0, 10**6))):
        assert pyln.layer_norm(interface(data=bytes(MEMORY)[:48], **told), axis=-1).shape == told.get("shape", (3, 4))
    assert pyln.layer_norm(memoryview(OWNER[::2]), axis=-1).shape == (8,)
    assert pyln.layer_norm(np.broadcast_to(OWNER[:1], (9,)).tolist(), axis=-1).shape == (9,)


@pytest.mark.parametrize(
    "told",
    [
        dict(data=(0, False)),
        dict(data=(-1, False)),
        dict(data=(2**64, False)),
        dict(data="here"),
        dict(shape=(-3, 4)),
        dict(shape=(2**62, 2**62)),
        dict(shape=(1,) * 70),
        dict(shape=None),
        dict(shape=(2.5,)),
        dict(strides=(4,)),
        dict(strides=(2**70, 4)),
        dict(typestr="|O8"),
        dict(typestr="<q9"),
        dict(typestr=None),
        dict(version=-1, typestr=""),
    ],
    ids=str,
)
def test_interfaces_that_make_no_array(told):
    refused(interface(**told))


class PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


def memory_view(shape, strides, length, format=b"f", itemsize=4):
    """What a C extension could make."""
    arrays = [(ctypes.c_ssize_t * len(a))(*a) for a in (shape, strides)]
    view = PyBuffer(buf=HERE, len=length, itemsize=itemsize, ndim=len(shape), format=format)
    view.shape, view.strides = (ctypes.cast(a, ctypes.POINTER(ctypes.c_ssize_t)) for a in arrays)
    make = ctypes.pythonapi.PyMemoryView_FromBuffer
    make.restype, make.argtypes = ctypes.py_object, (ctypes.POINTER(PyBuffer),)
    return make(view)


def test_buffers():
    assert (
        pyln.layer_norm(memory_view((3, 4), (16, 4), 48), axis=-1).tobytes()
        == pyln.layer_norm(OWNER[:12].reshape(3, 4), 4).tobytes()
    )
    for lie in (
        memory_view((3, 4), (16, 4), 47),
        memory_view((10**9,), (4,), 48),
        memory_view((-3, 4), (16, 4), 48),
        memory_view((2**62, 4), (16, 4), 48),
        memory_view((3, 4), (16, 4), 48, b"d"),
        memory_view((3, 4), (16, 4), 48, b"f", 2),
        memory_view((3, 4), (16, 4), 48, b"nothing"),
        memory_view((3, 4), (16, 4), 48, b"@T{f:a:}", 4),
        memory_view((1,) * 64, (4,) * 64, 4),
    ):
        refused(lie)


if sys.version_info >= (3, 12):

    def test_buffers_of_python():
        def lent(returned):
            return type("Buffer", (), {"__buffer__": lambda self, flags: returned})()

        assert pyln.layer_norm(lent(memoryview(OWNER)), axis=-1).shape == (16,)
        for strange in (None, bytes(4), memoryview(b"1234")):
            refused(lent(strange))
        refused(type("Buffer", (), {"__buffer__": raising(KeyError("x"))})())


class Liar(np.ndarray):
    """Says of itself what it is not."""

    shape = property(lambda self: (1000, 1000))
    strides = property(lambda self: (4000, 4))
    dtype = property(lambda self: np.dtype("f8"))
    size = property(lambda self: 10**6)
    ndim = property(lambda self: 2)
    itemsize = property(lambda self: 8)
    nbytes = property(lambda self: 8 * 10**6)
    reshape = transpose = view = copy = __getitem__ = lambda self, *args: np.zeros((1000, 1000))
    __array_interface__ = property(lambda self: {"version": 3, "shape": (9,), "typestr": "<f8", "data": (8, False)})


def test_subclasses_that_misreport():
    x = np.arange(12, dtype="f4").reshape(3, 4)
    y = pyln.layer_norm(x, 4)
    place = np.zeros((3, 4), "f4").view(Liar)
    assert pyln.layer_norm(x.view(Liar), 4).tobytes() == y.tobytes()
    assert pyln.layer_norm(x, 4, out=place) is place and np.asarray(place).tobytes() == y.tobytes()
    assert pyln.layer_norm(x, axis=-1, out=place, weight=np.ones(4, "f4").view(Liar)) is place
    groups = x.reshape(1, 3, 4)
    assert pyln.group_norm(groups.view(Liar), 1).tobytes() == pyln.group_norm(groups, 1).tobytes()
    place = np.zeros((1, 3, 4), "f4").view(Liar)
    assert pyln.group_norm(groups, 3, out=place) is place and np.asarray(place).tobytes() == y.tobytes()
    layer = pyln.InstanceNorm1d(3)
    assert layer(x, out=(place := np.zeros((3, 4), "f4").view(Liar))) is place
    assert np.asarray(place).tobytes() == y.tobytes()
    memory = np.zeros(20, "f4")
    refused(memory[:12].reshape(3, 4), 4, out=memory[4:16].reshape(3, 4).view(Liar), name="out")
    with warnings.catch_warnings(action="ignore"):
        matrix = np.matrix(x)
    assert pyln.layer_norm(matrix, axis=0).tobytes() == pyln.layer_norm(x, axis=0).tobytes()


def test_types_that_are_called_like_ours():
    """A class may have any name; elements of this one are a byte."""
    for name in ("float32", "float64", "float16", "bfloat16", "int8"):
        dtype = np.dtype((type(name, (np.void,), {}), 1))
        refused(np.zeros((3, 4), dtype))
        refused(np.zeros((3, 4), "f4"), 4, out=np.zeros((3, 4), dtype), name="out")
        refused(np.zeros((3, 4), "f4"), 4, dtype=dtype, name="dtype")
        refused(np.zeros((3, 4), "f4"), 4, dtype=dtype, name="dtype", function=pyln.quantized_layer_norm)


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("make", [frozen, lambda a: np.frombuffer(bytes(a), a.dtype).reshape(a.shape), np.broadcast_to])
def test_memory_that_may_not_be_written(make):
    """Each function refuses it by name."""

    def place(shape, dtype="f4"):
        return np.broadcast_to(np.zeros((), dtype), shape) if make is np.broadcast_to else make(np.zeros(shape, dtype))

    x, w, s = np.ones((2, 4, 3), "f4"), np.ones(3, "f4"), np.ones((2, 4, 1), "f4")
    g = np.ones((2, 4), "f4")
    m = pyln.moments(x)
    three = (place(x.shape), place(3), place(3))
    for name, call in {
        "out": lambda: pyln.layer_norm(x, 3, out=place(x.shape)),
        "out ": lambda: pyln.rms_norm(x, 3, out=place(x.shape)),
        "out  ": lambda: pyln.group_norm(x, 2, out=place(x.shape)),
        "out   ": lambda: pyln.instance_norm(x, out=place(x.shape)),
        "out    ": lambda: pyln.apply_moments(x, m, out=place(x.shape)),
        "out     ": lambda: pyln.quantized_layer_norm(x, 3, out=place(x.shape, "i1")),
        "out      ": lambda: pyln.LayerNorm(3)(x, out=place(x.shape)),
        "out       ": lambda: pyln.InstanceNorm1d(4)(x, out=place(x.shape)),
        "out (y)": lambda: pyln.add_layer_norm(x, x, 3, out=(place(x.shape), None)),
        "out (total)": lambda: pyln.add_rms_norm(x, x, 3, out=(None, place(x.shape))),
        "out (grad_input)": lambda: pyln.layer_norm_backward(x, x, 3, s, s, out=three),
        "out (grad_input) ": lambda: pyln.layer_norm_backward_from_y(x, x, 3, s, out=three),
        "out (grad_weight)": lambda: pyln.rms_norm_backward(x, x, 3, s, w, out=(None, three[1])),
        "out (grad_bias)": lambda: pyln.add_layer_norm_backward(x, x, x, 3, s, s, out=(None, None, three[2])),
        "out (grad_weight) ": lambda: pyln.add_rms_norm_backward(x, x, x, 3, s, out=(None, three[1])),
        "out (grad_input)  ": lambda: pyln.group_norm_backward(x, x, 4, g, g, out=three),
        "out (grad_input)   ": lambda: pyln.instance_norm_backward(x, x, g, g, out=three),
    }.items():
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == f"{name.strip()}: the array is read-only"
