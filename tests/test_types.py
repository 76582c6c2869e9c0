"""float16 and bfloat16: each result is the float32 one of the widened arrays, rounded once."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

F16, BF16, F32 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)
HALVES = [F16, BF16]
half = pytest.mark.parametrize("half", HALVES, ids=str)
SHAPES = [(1, 1), (3, 5), (4, 15), (2, 16), (7, 17), (40, 64), (5, 100), (3, 768), (2, 1024), (3, 1025), (2, 5000)]


def bits(a: Array) -> Array:
    return np.ascontiguousarray(a).view(np.uint16 if a.itemsize == 2 else np.uint32)


def assert_same(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(bits(got), bits(expected))


def values(rng: Generator, shape: tuple[int, ...], dtype: np.dtype, offset: float = 0.0) -> Array:
    return (rng.standard_normal(shape) + offset).astype(dtype)


# ---- Conversions ----


def patterns() -> Array:
    """Return float32 numbers: every exponent, and both sides of each place where rounding changes its mind."""
    wide = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32).view(F32)
    bf16_ties = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000).view(np.int32)
    f16 = np.arange(0x7C00, dtype=np.uint16).view(F16).astype(F32)
    f16_ties = np.append((f16[1:] + f16[:-1]) / 2, np.float32(65520)).view(np.int32)
    ties = np.concatenate([bf16_ties, f16_ties, f16_ties | np.int32(-(1 << 31))])
    return np.concatenate([wide, *((ties + side).view(F32) for side in (-1, 0, 1))])


@half
def test_narrowing_rounds_to_nearest_even(half: np.dtype) -> None:
    bias = patterns()
    x = np.zeros(bias.shape, F32)
    y = pyln.layer_norm(x, bias.shape, None, bias, eps=1.0, dtype=half)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = bias.astype(half)
    nan = np.isnan(bias)
    assert np.isnan(y[nan]).all()
    zero = expected == 0  # 0 + -0 is 0
    assert (y[zero] == 0).all()
    assert_same(y[~nan & ~zero], expected[~nan & ~zero])


@half
def test_widening_is_exact(half: np.dtype) -> None:
    bias = np.arange(1 << 16, dtype=np.uint16).view(half)
    y = pyln.layer_norm(np.zeros(bias.shape, half), bias.shape, None, bias, eps=1.0, dtype=F32)
    np.testing.assert_array_equal(y, bias.astype(F32))


# ---- Forward and backward ----


@half
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_is_float32_rounded_once(rng: Generator, half: np.dtype, shape: tuple[int, int], offset: float) -> None:
    x, dy = values(rng, shape, half, offset), values(rng, shape, half)
    for weight_type, y_type in itertools.product((half, F32), (half, F32, *HALVES)):
        weight, bias = values(rng, shape[1:], weight_type), values(rng, shape[1:], weight_type)
        wide = [a.astype(F32) for a in (x, weight, bias)]
        expected, mean, rstd = pyln.layer_norm(wide[0], shape[1], *wide[1:], return_stats=True)
        y, *stats = pyln.layer_norm(x, shape[1], weight, bias, dtype=y_type, return_stats=True)
        assert_same(y, expected.astype(y_type))
        assert_same(stats[0], mean)
        assert_same(stats[1], rstd)

        grads = pyln.layer_norm_backward(dy, x, shape[1], mean, rstd, weight)
        expected_grads = pyln.layer_norm_backward(dy.astype(F32), wide[0], shape[1], mean, rstd, wide[1])
        assert_same(grads[0], expected_grads[0].astype(half))
        assert_same(grads[1], expected_grads[1])
        assert_same(grads[2], expected_grads[2])


@half
@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm_is_float32_rounded_once(rng: Generator, half: np.dtype, shape: tuple[int, int]) -> None:
    x, dy, weight = values(rng, shape, half), values(rng, shape, half), values(rng, shape[1:], half)
    wide = [a.astype(F32) for a in (x, dy, weight)]
    expected, rstd = pyln.rms_norm(wide[0], shape[1], wide[2], 1e-6, return_stats=True)
    y, got = pyln.rms_norm(x, shape[1], weight, 1e-6, return_stats=True)
    assert_same(y, expected.astype(half))
    assert_same(got, rstd)
    grads = pyln.rms_norm_backward(dy, x, shape[1], rstd, weight)
    expected_grads = pyln.rms_norm_backward(wide[1], wide[0], shape[1], rstd, wide[2])
    assert_same(grads[0], expected_grads[0].astype(half))
    assert_same(grads[1], expected_grads[1])


def test_a_float32_input_can_have_a_16_bit_result(rng: Generator) -> None:
    x = values(rng, (6, 50), F32, 3.0)
    for y_type in HALVES:
        out = np.empty(x.shape, y_type)
        assert pyln.layer_norm(x, 50, out=out) is out
        assert_same(out, pyln.layer_norm(x, 50).astype(y_type))
    dy = values(rng, x.shape, BF16)
    _, mean, rstd = pyln.layer_norm(x, 50, return_stats=True)
    dx, *_ = pyln.layer_norm_backward(dy, x, 50, mean, rstd)
    assert_same(dx, pyln.layer_norm_backward(dy.astype(F32), x, 50, mean, rstd)[0])


def test_bfloat16_rows_as_wide_as_float32(rng: Generator) -> None:
    """Squares that overflow or vanish, and a row of zeros."""
    x = values(rng, (4, 100), F32)
    x *= np.float32([[1e30], [1e-30], [1e-38], [0.0]])
    x = x.astype(BF16)
    for eps in (0.0, 1e-5):
        assert_same(pyln.layer_norm(x, 100, eps=eps), pyln.layer_norm(x.astype(F32), 100, eps=eps).astype(BF16))
        assert_same(pyln.rms_norm(x, 100, eps=eps), pyln.rms_norm(x.astype(F32), 100, eps=eps).astype(BF16))


@half
def test_what_is_not_finite_spoils_its_own_row(rng: Generator, half: np.dtype) -> None:
    x = values(rng, (5, 40), half)
    expected = pyln.layer_norm(x, 40)
    x[1, 3], x[3, 0] = np.nan, np.inf
    y = pyln.layer_norm(x, 40)
    assert np.isnan(y[1].astype(F32)).all()
    assert np.isnan(y[3].astype(F32)).all()
    assert_same(y[::2], expected[::2])


# ---- Layouts ----


@half
def test_layouts(rng: Generator, half: np.dtype) -> None:
    x = values(rng, (6, 8, 40), half)
    for view in (
        x[::-1],
        x[:, ::2],
        x[:, :, :30],
        x[..., ::3],
        x.transpose(1, 0, 2),
        x.T,
        np.broadcast_to(x[:1], x.shape),
    ):
        n = view.shape[-1]
        plain = pyln.layer_norm(view.astype(F32).copy(), n).astype(half)
        assert_same(pyln.layer_norm(view, n), plain)
        out = np.empty_like(x)[:, :, : view.shape[2]] if view.shape[:2] == x.shape[:2] else None
        assert_same(pyln.layer_norm(view, n, out=out), plain)
    assert_same(pyln.layer_norm(x, None, axis=1), pyln.layer_norm(x.astype(F32), None, axis=1).astype(half))


@half
def test_in_place(rng: Generator, half: np.dtype) -> None:
    x = values(rng, (9, 1500), half)
    expected, mean, rstd = pyln.layer_norm(x, 1500, return_stats=True)
    dy = values(rng, x.shape, half)
    dx, _, _ = pyln.layer_norm_backward(dy, x, 1500, mean, rstd)
    for place in (dy.copy(), x.copy()):
        given = (place, x) if (place == dy).all() else (dy, place)
        got, _, _ = pyln.layer_norm_backward(
            *given, 1500, mean, rstd, output_mask=(True, False, False), out=(place, None, None)
        )
        assert_same(got, dx)
    assert_same(pyln.layer_norm(x, 1500, out=x), expected)
    with pytest.raises(ValueError, match="out: overlaps input"):
        pyln.layer_norm(x, 1500, out=x.view(BF16 if half == F16 else F16))


def test_threads_change_nothing(rng: Generator, threads: None) -> None:
    x = values(rng, (3000, 768), BF16)
    dy = values(rng, x.shape, BF16)
    results = []
    for count in (1, 2):
        pyln.set_num_threads(count)
        y, mean, rstd = pyln.layer_norm(x, 768, return_stats=True)
        results.append((y, *pyln.layer_norm_backward(dy, x, 768, mean, rstd)))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


# ---- Beside PyTorch ----


@pytest.mark.parametrize(("half", "torch_half"), [(F16, torch.float16), (BF16, torch.bfloat16)], ids=str)
def test_values_are_pytorchs(rng: Generator, half: np.dtype, torch_half: torch.dtype) -> None:
    x, weight, bias = (values(rng, shape, half) for shape in ((20, 300), (300,), (300,)))
    tensors = [torch.from_numpy(a.astype(F32)).to(torch_half) for a in (x, weight, bias)]
    expected = torch.nn.functional.layer_norm(tensors[0], (300,), tensors[1], tensors[2]).float().numpy()
    y = pyln.layer_norm(*tensors[:1], (300,), *tensors[1:])
    assert y.dtype == half
    np.testing.assert_allclose(y.astype(F32), expected, rtol=2e-2, atol=2e-2 if half == BF16 else 3e-3)
    assert_same(y, pyln.layer_norm(x, 300, weight, bias))


def test_tensors_of_bfloat16_share_their_memory() -> None:
    tensor = torch.arange(24, dtype=torch.float32).to(torch.bfloat16).reshape(4, 6)
    for view in (tensor, tensor.T, tensor[:, ::2], tensor[1:, 2:], tensor[:0]):
        expected = view.float().numpy()
        y = pyln.layer_norm(view, view.shape[1])
        assert_same(y, pyln.layer_norm(np.ascontiguousarray(expected), view.shape[1]).astype(BF16))
    layer = pyln.LayerNorm(6)
    layer.load_state_dict({"weight": tensor[0], "bias": tensor[1]})
    np.testing.assert_array_equal(layer.weight, [0, 1, 2, 3, 4, 5])


class OnlyDlpack:
    """What has no ``__array__``."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: object) -> object:
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("torch_type", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_dlpack_is_enough(torch_type: torch.dtype) -> None:
    tensor = torch.arange(24, dtype=torch.float32).reshape(4, 6).to(torch_type)
    y = pyln.layer_norm(OnlyDlpack(tensor), 6)
    np.testing.assert_allclose(y.astype(F32), pyln.layer_norm(tensor.float().numpy(), 6), atol=1e-2)


# ---- Layers, errors ----


@half
def test_layers(rng: Generator, half: np.dtype) -> None:
    x, dy = values(rng, (4, 32), half), values(rng, (4, 32), half)
    for layer_type in (pyln.LayerNorm, pyln.RMSNorm):
        for dtype in (half, "float32"):
            layer = layer_type(32, dtype=dtype)
            y = layer(x)
            assert y.dtype == half
            assert layer.backward(dy).dtype == half
            assert layer.weight_grad.dtype == F32
            layer.backward(dy)
    assert pyln.LayerNorm(32, dtype="bfloat16").dtype == BF16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: pyln.layer_norm(x, 8, np.ones(8, BF16)), "weight: expected float16 or float32 to go with input"),
        (
            lambda x: pyln.layer_norm(x, 8, np.ones(8, F16), np.ones(8, F32)),
            "bias: expected float16 as weight has, got float32",
        ),
        (lambda x: pyln.layer_norm(x, 8, dtype="float64"), "dtype: expected float32 or float16 or bfloat16 for an"),
        (
            lambda x: pyln.layer_norm(x, 8, dtype="int8"),
            "dtype: expected float32, float64, float16 or bfloat16, got int8",
        ),
        (lambda x: pyln.layer_norm(x, 8, dtype=F32, out=np.empty(x.shape, F16)), "out: expected float32, got float16"),
        (lambda x: pyln.layer_norm(x, 8, out=np.empty(x.shape)), "out: expected float32 or float16 or bfloat16, got"),
        (lambda x: pyln.layer_norm(x.astype(">f2"), 8), "byte order"),
        (
            lambda x: pyln.LayerNorm(8, dtype=F16)(x.astype(F32)),
            "input: expected float16 to go with a layer of float16",
        ),
        (
            lambda x: pyln.layer_norm_backward(x, x, 8, *np.ones((2, 3, 1), F16)),
            "mean: expected float32 to go with input, got float16",
        ),
    ],
)
def test_errors(call: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(np.ones((3, 8), F16))
