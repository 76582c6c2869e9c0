"""quantized_layer_norm and quantized_rms_norm: y of the plain functions, as ONNX's operators quantize it."""

import ml_dtypes
import numpy as np
import pytest

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

F16, BF16, F32, F64 = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
TYPES = [F32, F64, F16, BF16]
SHAPES = [(1, 1), (3, 7), (2, 3, 100), (5, 64), (2, 1030), (2, 5000)]


def values(rng: Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def wide_norm(function: object, x: Array, *arguments: object, **options: object) -> Array:
    """Return y as it is before it is quantized: not rounded to 16 bits."""
    real = F64 if x.dtype == F64 else F32
    return function(x.astype(real), *(a.astype(real) if isinstance(a, Array) else a for a in arguments), **options)


def quantize(y: Array, scale: Array | float, zero_point: Array | int, dtype: np.dtype) -> Array:
    limits = np.iinfo(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        q = np.rint(y / y.dtype.type(scale) if np.isscalar(scale) else y / scale) + zero_point
    return np.where(np.isnan(q), zero_point, np.clip(q, limits.min, limits.max)).astype(dtype)


@pytest.mark.parametrize("q_type", ["int8", "uint8"])
@pytest.mark.parametrize("x_type", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_scale_for_each_row(rng: Generator, shape: tuple[int, ...], x_type: np.dtype, q_type: str) -> None:
    """As DynamicQuantizeLinear of the row for uint8."""
    x, n = values(rng, shape, x_type), shape[-1]
    weight, bias = values(rng, (n,), x_type), values(rng, (n,), x_type)
    for function, plain, arguments in (
        (pyln.quantized_layer_norm, pyln.layer_norm, (weight, bias)),
        (pyln.quantized_layer_norm, pyln.layer_norm, ()),
        (pyln.quantized_rms_norm, pyln.rms_norm, (weight, 1e-6)),
    ):
        q, scale, zero_point = function(x, n, *arguments, dtype=q_type)
        y = wide_norm(plain, x, n, *arguments)
        assert q.dtype == q_type and q.shape == x.shape
        assert scale.dtype == y.dtype and scale.shape == (*shape[:-1], 1)
        if q_type == "int8":
            expected = abs(y).max(-1, keepdims=True) / y.dtype.type(127)
            zero = 0
            assert zero_point is None
        else:
            least = np.minimum(y.min(-1, keepdims=True), 0)
            expected = (np.maximum(y.max(-1, keepdims=True), 0) - least) / y.dtype.type(255)
            expected[expected == 0] = 1
            zero = np.rint(-least / expected).astype(np.int32)
            np.testing.assert_array_equal(zero_point, zero)
            assert zero_point.dtype == np.int32
        expected = np.where(expected == 0, 1, expected)
        np.testing.assert_array_equal(scale, expected)
        np.testing.assert_array_equal(q, quantize(y, scale, zero, np.dtype(q_type)))


@pytest.mark.parametrize(
    ("q_type", "zero_point"), [("int8", 0), ("int8", -128), ("int8", 5), ("uint8", 0), ("uint8", 128)]
)
@pytest.mark.parametrize("x_type", TYPES, ids=str)
def test_one_scale(rng: Generator, x_type: np.dtype, q_type: str, zero_point: int) -> None:
    """As QuantizeLinear; so small a scale that numbers saturate too."""
    x, weight = values(rng, (6, 200), x_type), values(rng, (200,), x_type)
    for scale in (0.02, 0.005, 1e-6, 100.0):
        q, *returned = pyln.quantized_layer_norm(x, 200, weight, dtype=q_type, scale=scale, zero_point=zero_point)
        assert returned == [scale, zero_point]
        np.testing.assert_array_equal(
            q, quantize(wide_norm(pyln.layer_norm, x, 200, weight), scale, zero_point, np.dtype(q_type))
        )
        q, *_ = pyln.quantized_rms_norm(x, 200, weight, dtype=q_type, scale=scale, zero_point=zero_point)
        y = wide_norm(pyln.rms_norm, x, 200, weight)
        np.testing.assert_array_equal(q, quantize(y, scale, zero_point, np.dtype(q_type)))
    assert pyln.quantized_layer_norm(x, 200, scale=np.float32(0.5))[1:] == (0.5, 0)


def test_halves_go_to_even() -> None:
    bias = np.arange(-8, 8, dtype=np.float32) / 2
    q, *_ = pyln.quantized_layer_norm(np.zeros((1, 16), np.float32), 16, None, bias, scale=1.0)
    np.testing.assert_array_equal(q[0], np.rint(bias))


def test_rows_at_the_edge(dtype: np.dtype) -> None:
    x = np.zeros((4, 5), dtype)
    x[1, 2], x[2, 0] = np.nan, np.inf
    bias = np.array([0, 0, 0, 0, 1], dtype)
    q, scale, _ = pyln.quantized_layer_norm(x, 5, None, bias)
    np.testing.assert_array_equal(q, [[0, 0, 0, 0, 127], [0] * 5, [0] * 5, [0, 0, 0, 0, 127]])
    np.testing.assert_array_equal(scale[1:3], [[1], [1]])
    q, scale, zero_point = pyln.quantized_layer_norm(x, 5, dtype="uint8")
    assert not q.any() and (scale == 1).all() and not zero_point.any()
    q, *_ = pyln.quantized_layer_norm(x, 5, scale=0.1, zero_point=7)
    assert (q == 7).all()
    for shape in ((0, 5), (3, 0)):
        q, scale, zero_point = pyln.quantized_layer_norm(np.zeros(shape, dtype), shape[1], dtype=np.uint8)
        assert q.shape == shape and scale.shape == zero_point.shape == (shape[0], 1)


@pytest.mark.parametrize("q_type", ["int8", "uint8"])
def test_layouts_and_parameters_of_each_example(rng: Generator, q_type: str, dtype: np.dtype) -> None:
    x, weight = values(rng, (3, 6, 10), dtype), values(rng, (3, 6, 1), dtype)
    y = np.ascontiguousarray(np.moveaxis(pyln.layer_norm(x, None, weight, axis=1), 1, -1))
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    expected = pyln.quantized_layer_norm(moved, 6, np.moveaxis(weight, 1, -1), dtype=q_type)
    assert y.shape == expected[0].shape
    for view in (x, np.asfortranarray(x), np.moveaxis(moved, -1, 1), np.repeat(x, 2, -1)[..., ::2]):
        for out in (None, np.zeros((3, 6, 10), q_type), np.zeros((10, 6, 3), q_type).T):
            got = pyln.quantized_layer_norm(view, None, weight, axis=1, dtype=q_type, out=out)
            assert out is None or got[0] is out
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, None if b is None else np.moveaxis(b, -1, 1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dtype": "eight bits"}, TypeError, "dtype: expected int8 or uint8, got 'eight bits'"),
        ({"dtype": "int16"}, TypeError, "dtype: expected int8 or uint8, got int16"),
        ({"dtype": "float32"}, TypeError, "dtype: expected int8 or uint8, got float32"),
        ({"dtype": "bfloat16"}, TypeError, "dtype: expected int8 or uint8, got"),
        ({"scale": 0}, ValueError, "scale: expected a finite float32 above 0, got 0"),
        ({"scale": -1.0}, ValueError, "scale: expected a finite float32 above 0, got -1.0"),
        ({"scale": float("nan")}, ValueError, "scale: expected a finite float32 above 0, got nan"),
        ({"scale": 1e-50}, ValueError, "scale: expected a finite float32 above 0, got 1e-50"),
        ({"scale": 1e50}, ValueError, "scale: expected a finite float32 above 0"),
        ({"scale": "1"}, TypeError, "scale: expected a number, got '1'"),
        ({"scale": np.ones(2)}, TypeError, "scale: expected a number"),
        ({"zero_point": 3}, ValueError, "zero_point: expected None where scale is None, got 3"),
        ({"scale": 1.0, "zero_point": 128}, ValueError, "zero_point: expected -128 to 127 for int8, got 128"),
        ({"scale": 1.0, "zero_point": -1, "dtype": "uint8"}, ValueError, "zero_point: expected 0 to 255 for uint8"),
        ({"scale": 1.0, "zero_point": 1.0}, TypeError, "zero_point: expected an int, got 1.0"),
        ({"out": np.zeros((4, 5), "u1")}, TypeError, "out: expected int8, got uint8"),
        ({"out": np.zeros((5, 4), "i1")}, ValueError, r"out: expected shape \[4, 5\], got \[5, 4\]"),
        ({"weight": np.ones(4, "f4")}, ValueError, "Expected weight to be of same shape"),
        ({"eps": -1.0}, ValueError, "eps: expected a finite float32"),
    ],
)
def test_refusals(changes: dict, error: type[Exception], message: str) -> None:
    x = np.ones((4, 5), "f4")
    out = np.full((4, 5), 7, "u1" if changes.get("dtype") == "uint8" else "i1")
    with pytest.raises(error, match=message):
        pyln.quantized_layer_norm(**{"input": x, "normalized_shape": 5, "out": out, **changes})
    assert (out == 7).all()


def test_overlaps_are_refused() -> None:
    x = np.ones((4, 5), "f4")
    with pytest.raises(ValueError, match="out: overlaps input"):
        pyln.quantized_layer_norm(x, 5, out=x.view("i1")[:, :5])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_rows_without_elements_have_a_scale(dtype, monkeypatch):
    """Not what happened to be in memory."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 77).astype(dtype))
    q, scale, zero_point = pyln.quantized_layer_norm(np.zeros((3, 0), "f4"), 0, dtype=dtype)
    assert q.shape == (3, 0) and (scale == 1).all() and (zero_point is None or (zero_point == 0).all())
