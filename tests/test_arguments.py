"""Bad input: an error that names the argument and says what would be right; nothing is written."""

import sys

import numpy as np
import pytest

import pyln

X = np.arange(20, dtype="f4").reshape(4, 5)
W = np.ones(5, "f4")
STATS = np.zeros((4, 1), "f4")
MARK = 7


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(shape):
    return np.frombuffer(bytearray(4 * int(np.prod(shape)) + 1), "f4", offset=1).reshape(shape)


class Nameless:
    def __repr__(self):
        raise LookupError


FORWARD = [
    # shapes, with PyTorch's words
    (
        dict(normalized_shape=4),
        ValueError,
        r"Given normalized_shape=\[4\], expected input with shape \[\*, 4\], but got input of size \[4, 5\]",
    ),
    (dict(normalized_shape=(3, 4, 5)), ValueError, r"Given normalized_shape=\[3, 4, 5\]"),
    (dict(normalized_shape=()), ValueError, "normalized_shape: expected at least one axis"),
    (dict(normalized_shape=[]), ValueError, "normalized_shape: expected at least one axis"),
    (dict(normalized_shape=-5), ValueError, "normalized_shape: sizes cannot be negative"),
    (dict(normalized_shape=10**5000), ValueError, "normalized_shape: expected no more than 64 bits, got <int>"),
    (
        dict(normalized_shape=(4, 2**63)),
        ValueError,
        r"normalized_shape: expected no more .* got \(4, 9223372036854775808\)",
    ),
    (dict(normalized_shape=5.0), TypeError, "normalized_shape: expected an int or a sequence of ints, got 5.0"),
    (dict(normalized_shape="5"), TypeError, "normalized_shape: expected an int"),
    (dict(normalized_shape=True), TypeError, "normalized_shape: expected an int"),
    (dict(normalized_shape=np.array([4, 5])), TypeError, "normalized_shape: expected an int"),
    (dict(normalized_shape=(4, None)), TypeError, "normalized_shape: expected an int"),
    (dict(input=[[1.0, 2.0], [3.0]], normalized_shape=2), ValueError, "input: "),
    (dict(input=np.float32(3), normalized_shape=1), ValueError, r"input of size \[\]"),
    (
        dict(weight=np.ones(4, "f4")),
        ValueError,
        r"Expected weight to be of same shape as normalized_shape, but got weight of shape \[4\]",
    ),
    (
        dict(bias=np.ones((2, 5), "f4")),
        ValueError,
        r"Expected bias to be of same shape .* bias of shape \[2, 5\] and normalized_shape = \[5\]; one for each example",
    ),
    (dict(bias=np.ones((1, 1, 5), "f4")), ValueError, "Expected bias to be of same shape"),
    (dict(weight=np.ones((4, 1), "f4")), ValueError, "Expected weight to be of same shape"),
    (dict(weight=W, bias=W.astype("f2"), input=X.astype("f2")), TypeError, "bias: expected float32 as weight has"),
    # element types
    (dict(input=X.astype("c8")), TypeError, "input: expected float32, float64, float16 or bfloat16, got complex64"),
    (dict(input=X.astype(int)), TypeError, "input: expected float32, float64, float16 or bfloat16, got int64"),
    (dict(input=X.astype(complex)), TypeError, "input: .* got complex128"),
    (dict(input=X.astype(object)), TypeError, "input: .* got object"),
    (dict(input=X.astype("S3")), TypeError, "input: "),
    (dict(input=X.astype(bool)), TypeError, "input: .* got bool"),
    (
        dict(input=X.astype(X.dtype.newbyteorder())),
        TypeError,
        r"input: byte order is not this machine's .* use input.astype\('float32'\)",
    ),
    (dict(input=np.ma.masked_array(X)), TypeError, "input: a masked array"),
    (dict(input=None), TypeError, "input: expected float32"),
    (dict(weight=W.astype("f8")), TypeError, "weight: expected float32 to go with input, got float64"),
    (dict(bias=[1, 2, 3, 4, 5]), TypeError, "bias: expected float32 to go with input, got int64"),
    # eps
    (dict(eps=-1e-5), ValueError, "eps: expected a finite float32 that is not negative, got -1e-05"),
    (dict(eps=float("nan")), ValueError, "eps: .* got nan"),
    (dict(eps=float("inf")), ValueError, "eps: .* got inf"),
    (dict(eps=1e300), ValueError, "eps: expected a finite float32 .* got 1e\\+300"),
    (dict(eps=10**400), ValueError, "eps: expected a finite float32"),
    (dict(eps="1e-5"), TypeError, "eps: expected a number, got '1e-5'"),
    (dict(eps=np.ones(2)), TypeError, "eps: expected a number, got array"),
    (dict(eps="small"), TypeError, "eps: expected a number, got 'small'"),
    (dict(eps=None), TypeError, "eps: expected a number, got None"),
    (dict(eps=Nameless()), TypeError, "eps: expected a number, got <Nameless>"),
    # dtype
    (dict(dtype="float"), TypeError, "dtype: expected float32 or float16 or bfloat16 for an input of float32, got"),
    (dict(dtype="floating"), TypeError, "dtype: expected float32, float64, float16 or bfloat16, got 'floating'"),
    # axes
    (dict(normalized_shape=None, axis=2), ValueError, "axis: 2 is out of range for an input of 2 dimensions"),
    (dict(normalized_shape=None, axis=10**5000), ValueError, "axis: expected no more than 64 bits, got <int>"),
    (dict(normalized_shape=None, axis=-3), ValueError, "axis: -3 is out of range"),
    (dict(normalized_shape=None, axis=(0, 0)), ValueError, "axis: expected consecutive axes, each once"),
    (dict(normalized_shape=None, axis=(1, -1)), ValueError, "axis: expected consecutive axes, each once"),
    (dict(input=np.zeros((2, 3, 4)), normalized_shape=None, axis=(0, 2)), ValueError, "axis: expected consecutive"),
    (dict(normalized_shape=None, axis=()), ValueError, "axis: expected at least one"),
    (dict(normalized_shape=None, axis=1.0), TypeError, "axis: expected an int"),
    (dict(normalized_shape=None, axis="1"), TypeError, "axis: expected an int"),
    (dict(normalized_shape=None, axis=np.array([0, 1])), TypeError, "axis: expected an int"),
    (dict(input=np.float32(3), normalized_shape=None, axis=0), ValueError, "axis: 0 is out of range .* 0 dimensions"),
    (dict(normalized_shape=None), TypeError, "give either normalized_shape or axis="),
    (dict(axis=1), TypeError, "give either normalized_shape or axis="),
    # out
    (dict(out=np.full((5, 4), MARK, "f4")), ValueError, r"out: expected shape \[4, 5\], got \[5, 4\]"),
    (dict(out=np.full((4, 5), MARK, "f8")), TypeError, "out: expected float32 or float16 or bfloat16, got float64"),
    (dict(out=[[MARK] * 5] * 4), TypeError, "out: expected a NumPy array to write into, got list"),
    (
        dict(out=np.ma.masked_array(np.full((4, 5), MARK, "f4"))),
        TypeError,
        "out: expected a NumPy array to write into, got MaskedArray",
    ),
    (
        dict(out=np.full((4, 5), MARK, X.dtype.newbyteorder())),
        TypeError,
        "out: expected float32 or float16 or bfloat16, got",
    ),
    (dict(out=read_only(np.full((4, 5), MARK, "f4"))), ValueError, "out: the array is read-only"),
    (dict(out=unaligned((4, 5))), ValueError, "out: the array is not aligned"),
    (
        dict(out=np.lib.stride_tricks.as_strided(np.full(8, MARK, "f4"), (4, 5), (4, 4))),
        ValueError,
        "out: elements of the array share memory",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), FORWARD)
def test_layer_norm(changes, error, message):
    arguments = {"input": X, "normalized_shape": 5, **changes}
    out = arguments.get("out", np.full((4, 5), MARK, "f4"))
    before = np.array(out)
    with pytest.raises(error, match=message):
        pyln.layer_norm(**{"out": out, **arguments})
    np.testing.assert_array_equal(out, before)


def test_overlapping_memory():
    memory = np.arange(40, dtype="f4")
    x = memory[:20].reshape(4, 5)
    for out, parameters, message in [
        (memory[1:21].reshape(4, 5), {}, "out: overlaps input"),
        (x[::-1], {}, "out: overlaps input"),
        (memory[20:].reshape(4, 5), {"weight": memory[35:]}, "out: overlaps weight"),
        (memory[20:].reshape(4, 5), {"bias": memory[20:25]}, "out: overlaps bias"),
    ]:
        with pytest.raises(ValueError, match=message):
            pyln.layer_norm(x, 5, **parameters, out=out)
    np.testing.assert_array_equal(memory, np.arange(40))


BACKWARD = [
    (dict(grad_out=X[:3]), ValueError, r"grad_out: expected shape \[4, 5\] as input has, got \[3, 5\]"),
    (
        dict(grad_out=X.astype("f8")),
        TypeError,
        "grad_out: expected float32 or float16 or bfloat16 to go with input, got float64",
    ),
    (dict(mean=STATS[:3]), ValueError, r"mean: expected shape \[4, 1\], as layer_norm returns it, got \[3, 1\]"),
    (dict(rstd=STATS[:, 0]), ValueError, r"rstd: expected shape \[4, 1\]"),
    (dict(rstd=STATS.astype("f8")), TypeError, "rstd: expected float32"),
    (dict(mean=None), TypeError, "mean: expected float32"),
    (dict(weight=np.ones(4, "f4")), ValueError, "Expected weight to be of same shape"),
    (dict(bias=np.ones(4, "f4")), ValueError, "Expected bias to be of same shape"),
    (dict(output_mask=(True, True)), TypeError, "output_mask: expected three"),
    (dict(output_mask=True), TypeError, "output_mask: expected three"),
    (dict(output_mask=(True, W, True)), TypeError, "output_mask: expected True or False, got array"),
    (dict(out=np.zeros((4, 5), "f4")), TypeError, "out: expected three"),
    (dict(out=(np.zeros((4, 4), "f4"), None, None)), ValueError, r"out \(grad_input\): expected shape \[4, 5\]"),
    (dict(out=(None, np.zeros(5), None)), TypeError, r"out \(grad_weight\): expected float32, got float64"),
    (dict(out=(None, None, read_only(W))), ValueError, r"out \(grad_bias\): the array is read-only"),
    (dict(out=(None, W, None), output_mask=(1, 0, 1)), ValueError, r"out \(grad_weight\): given, but output_mask"),
    (dict(out=(None, STATS[:, 0], None)), ValueError, r"out \(grad_weight\): expected shape \[5\], got \[4\]"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BACKWARD)
def test_layer_norm_backward(changes, error, message):
    arguments = {"grad_out": X, "input": X, "normalized_shape": 5, "mean": STATS, "rstd": STATS, **changes}
    out = tuple(np.full(s, MARK, "f4") for s in ((4, 5), 5, 5))
    with pytest.raises(error, match=message):
        pyln.layer_norm_backward(**{"out": out, **arguments})
    assert all((o == MARK).all() for o in out)


def test_an_overlap_that_takes_long_to_find_out_is_refused():
    """Strides like these are an equation that NumPy gives up on."""
    memory, shape = np.zeros(1 << 16, "f4"), (5, 4, 3, 2, 6, 3, 3)
    out, x = (
        np.lib.stride_tricks.as_strided(memory, shape, [4 * s for s in strides])
        for strides in ((2, 11, 43, 256, 386, 4631, 11578), (400, 419, 462, 535, 439, 395, 314))
    )
    with pytest.raises(np.exceptions.TooHardError):
        np.shares_memory(out, x, max_work=10_000)
    with pytest.raises(ValueError, match="out: overlaps input in memory"):
        pyln.layer_norm(x, 3, out=out)


def test_bfloat16_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="bfloat16 in NumPy needs the package ml_dtypes: pip install ml_dtypes"):
        pyln.layer_norm(X, 5, dtype="bfloat16")


def test_overlapping_gradients():
    memory = np.arange(45, dtype="f4")
    dy = memory[:20].reshape(4, 5)
    x = memory[20:40].reshape(4, 5)
    before = memory.copy()
    for out, other in ((memory[5:25], "grad_out"), (memory[25:45], "input"), (memory[19::-1], "grad_out")):
        with pytest.raises(ValueError, match=rf"out \(grad_input\): overlaps {other} in memory"):
            pyln.layer_norm_backward(dy, x, 5, STATS, STATS, out=(out.reshape(4, 5), None, None))
    for name, out in (("grad_weight", (None, memory[:5], None)), ("grad_bias", (None, None, memory[35:40]))):
        with pytest.raises(ValueError, match=rf"out \({name}\): overlaps"):
            pyln.layer_norm_backward(dy, x, 5, STATS, STATS, out=out)
    with pytest.raises(ValueError, match=r"out \(grad_weight\): overlaps out \(grad_input\)"):
        pyln.layer_norm_backward(X, X, 5, STATS, STATS, out=(x, memory[20:25], None))
    np.testing.assert_array_equal(memory, before)
    shared = np.zeros(5, "f4")
    with pytest.raises(ValueError, match=r"out \(grad_bias\): overlaps out \(grad_weight\)"):
        pyln.layer_norm_backward(X, X, 5, STATS, STATS, out=(None, shared, shared))
    with pytest.raises(ValueError, match=r"out \(grad_weight\): overlaps weight"):
        pyln.layer_norm_backward(X, X, 5, STATS, STATS, shared, out=(None, shared, None))


@pytest.mark.parametrize(
    "function", [pyln.layer_norm, pyln.rms_norm, pyln.quantized_layer_norm, pyln.quantized_rms_norm]
)
def test_axis_alone_is_enough(function):
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    for got, expected in zip(function(x, axis=1), function(x, None, axis=1), strict=True):
        np.testing.assert_array_equal(got, expected)
    for arguments in [{}, dict(normalized_shape=2, axis=2)]:
        with pytest.raises(TypeError, match="give either normalized_shape or axis="):
            function(x, **arguments)
