"""pyln.layer_norm: PyTorch's semantics, every layout of memory, and the rows at the edge."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import pyln

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

EPS = 2.0**-17


def tolerance(dtype: np.dtype) -> dict[str, float]:
    return {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}


def plain(x: Array, k: int = 1, weight: Array | None = None, bias: Array | None = None, eps: float = EPS) -> Array:
    """Normalize a C-contiguous copy over its last k axes: what other layouts of x must give, bit for bit."""
    return pyln.layer_norm(np.array(x, order="C"), x.shape[x.ndim - k :], weight, bias, eps)


# ---- Parity with PyTorch ----


@pytest.mark.parametrize("affine", ["", "weight", "bias", "weight bias"])
@pytest.mark.parametrize(
    ("shape", "normalized_shape"),
    [
        ((7,), 7),
        ((3, 5), 5),
        ((3, 5), (5,)),
        ((3, 5), [5]),
        ((3, 5), (3, 5)),
        ((2, 3, 4), [3, 4]),
        ((2, 3, 4), np.int64(4)),
        ((32, 20, 10), 10),
        ((4, 25, 128), (128,)),
        ((2, 3, 8, 9), (3, 8, 9)),
        ((2, 3, 8, 9), torch.Size([8, 9])),
        ((1, 1, 1), (1, 1)),
    ],
)
def test_values_and_statistics_are_pytorchs(
    rng: Generator, dtype: np.dtype, shape: tuple[int, ...], normalized_shape: int | Sequence[int], affine: str
) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    row = tuple(np.atleast_1d(normalized_shape))
    weight = rng.standard_normal(row).astype(dtype) if "weight" in affine else None
    bias = rng.standard_normal(row).astype(dtype) if "bias" in affine else None
    expected = torch.native_layer_norm(
        torch.from_numpy(x),
        [int(n) for n in row],
        None if weight is None else torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        1e-5,
    )
    got = pyln.layer_norm(x, normalized_shape, weight, bias, return_stats=True)
    for value, torchs in zip(got, expected, strict=True):
        assert value.dtype == dtype
        assert value.shape == tuple(torchs.shape)
        np.testing.assert_allclose(value, torchs.numpy(), **tolerance(dtype))


def test_default_eps_is_pytorchs(rng: Generator, dtype: np.dtype) -> None:
    x = (1e-3 * rng.standard_normal((3, 8))).astype(dtype)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(x), (8,)).numpy()
    np.testing.assert_allclose(pyln.layer_norm(x, 8), expected, **tolerance(dtype))
    assert np.array_equal(pyln.layer_norm(x, 8), pyln.layer_norm(x, 8, None, None, 1e-5))
    assert not np.allclose(pyln.layer_norm(x, 8), pyln.layer_norm(x, 8, eps=1e-6), rtol=1e-2)


def test_eps_is_inside_the_root() -> None:
    y, mean, rstd = pyln.layer_norm(np.array([[-1.0, 1.0]]), 2, eps=3.0, return_stats=True)
    assert y.tolist() == [[-0.5, 0.5]] and mean.tolist() == [[0.0]] and rstd.tolist() == [[0.5]]


def test_statistics_keep_the_normalized_axes(rng: Generator) -> None:
    x = rng.standard_normal((2, 3, 4, 5))
    for keywords, shape in [
        ({"normalized_shape": 5}, (2, 3, 4, 1)),
        ({"normalized_shape": (4, 5)}, (2, 3, 1, 1)),
        ({"normalized_shape": None, "axis": 1}, (2, 1, 4, 5)),
        ({"normalized_shape": None, "axis": (0, 1)}, (1, 1, 4, 5)),
    ]:
        y, mean, rstd = pyln.layer_norm(x, **keywords, return_stats=True)
        assert y.shape == x.shape and mean.shape == rstd.shape == shape
        axes = tuple(i for i in range(4) if shape[i] == 1)
        np.testing.assert_allclose(mean, x.mean(axes, keepdims=True), atol=1e-15)
        np.testing.assert_allclose(rstd, 1 / np.sqrt(x.var(axes, keepdims=True) + 1e-5), rtol=1e-14)


def test_sequences_are_read_as_arrays() -> None:
    assert pyln.layer_norm([[1.0, 3.0]], 2, [2.0, 2.0], [0.5, 0.5], eps=0).tolist() == [[-1.5, 2.5]]


def test_torch_tensors_are_read_as_arrays(rng: Generator) -> None:
    x = rng.standard_normal((3, 4))
    assert np.array_equal(pyln.layer_norm(torch.from_numpy(x), 4), pyln.layer_norm(x, 4))


# ---- axis= ----


@pytest.mark.parametrize(
    "axis", [0, 1, 2, 3, -1, -2, -4, (1,), (0, 1), (1, 2), [3, 2], (-2, -1), (1, 2, 3), (-4, 1, 2)]
)
def test_axis(rng: Generator, dtype: np.dtype, axis: int | Sequence[int]) -> None:
    x = rng.standard_normal((3, 4, 5, 6)).astype(dtype)
    axes = sorted(a % 4 for a in np.atleast_1d(axis))
    row = tuple(x.shape[a] for a in axes)
    weight, bias = rng.standard_normal((2, *row)).astype(dtype)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(x, axes, last)
    expected = np.moveaxis(plain(moved, len(axes), weight, bias), last, axes)
    out = np.empty_like(x)
    y, mean, rstd = pyln.layer_norm(x, None, weight, bias, EPS, axis=axis, out=out, return_stats=True)
    assert y is out and np.array_equal(y, expected)
    assert np.array_equal(pyln.layer_norm(x, None, weight, bias, EPS, axis=axis), expected)
    _, moved_mean, moved_rstd = pyln.layer_norm(np.ascontiguousarray(moved), row, eps=EPS, return_stats=True)
    assert np.array_equal(mean, np.moveaxis(moved_mean, last, axes))
    assert np.array_equal(rstd, np.moveaxis(moved_rstd, last, axes))


# ---- Layouts ----


def layouts(rng: Generator, dtype: np.dtype) -> dict[str, Array]:
    """Views of 4-dimensional arrays whose memory lies in every way that NumPy knows."""
    x = rng.standard_normal((6, 5, 8, 10)).astype(dtype)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
    assert not unaligned.flags.aligned
    return {
        "dense": x,
        "every other row": x[:, :, ::2],
        "every other first index": x[::2],
        "rows backwards": x[:, :, ::-1],
        "all leading axes backwards": x[::-1, ::-1, ::-1],
        "columns of a matrix": x[..., 2:7],
        "transposed leading axes": x.transpose(2, 0, 1, 3),
        "columns backwards": x[..., ::-1],
        "every other column": x[..., ::2],
        "transposed": x.T,
        "last axes exchanged": x.swapaxes(2, 3),
        "first and last exchanged": x.swapaxes(0, 3),
        "Fortran order": np.asfortranarray(x),
        "all rows the same": np.broadcast_to(x[0, 0, 0], x.shape),
        "first axis the same": np.broadcast_to(x[0], x.shape),
        "middle axis the same": np.broadcast_to(x[:, :1], x.shape),
        "all elements the same": np.broadcast_to(x[:1, :1, :1, :1], x.shape),
        "one row": x[:1, :1, :1],
        "one column": x[..., 3:4],
        "no row": x[:, :0],
        "unaligned": unaligned,
        "a field of records": np.rec.fromarrays([x, x.astype(np.int8)]).f0,
        "read-only": np.frombuffer(x.tobytes(), dtype).reshape(x.shape),
    }


LAYOUTS = list(layouts(np.random.default_rng(0), np.dtype(np.float32)))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(rng: Generator, dtype: np.dtype, name: str, k: int) -> None:
    x = layouts(rng, dtype)[name]
    before = x.copy()
    row = x.shape[4 - k :]
    weight, bias = rng.standard_normal((2, *row)).astype(dtype)
    expected = plain(x, k, weight, bias)
    y, mean, rstd = pyln.layer_norm(x, row, weight, bias, EPS, return_stats=True)
    _, plain_mean, plain_rstd = pyln.layer_norm(before, row, eps=EPS, return_stats=True)
    assert np.array_equal(y, expected)
    assert np.array_equal(mean, plain_mean, equal_nan=True) and np.array_equal(rstd, plain_rstd, equal_nan=True)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_of_parameters(rng: Generator, dtype: np.dtype, name: str) -> None:
    weight = layouts(rng, dtype)[name]
    x = rng.standard_normal((2, *weight.shape)).astype(dtype)
    before = weight.copy()
    y = pyln.layer_norm(x, weight.shape, weight, weight, EPS)
    assert np.array_equal(y, plain(x, 4, before, before)) and np.array_equal(weight, before)


WRITABLE = [
    *("dense", "every other row", "every other first index", "rows backwards", "all leading axes backwards"),
    *("columns of a matrix", "transposed leading axes", "columns backwards", "every other column", "transposed"),
    *("last axes exchanged", "first and last exchanged", "Fortran order", "one row", "one column", "no row"),
]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("name", WRITABLE)
def test_out_of_any_layout(rng: Generator, dtype: np.dtype, name: str, k: int) -> None:
    out = layouts(rng, dtype)[name]
    around = out if out.base is None else out.base
    untouched = np.ones(around.shape, bool)
    mark = around.copy()
    out[...] = np.nan
    untouched[np.isnan(around)] = False
    x = rng.standard_normal(out.shape).astype(dtype)
    y = pyln.layer_norm(x, x.shape[4 - k :], eps=EPS, out=out)
    assert y is out and np.array_equal(out, plain(x, k))
    assert np.array_equal(around[untouched], mark[untouched]), "elements beside the view have changed"


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("name", WRITABLE)
def test_in_place(rng: Generator, dtype: np.dtype, name: str, k: int) -> None:
    x = layouts(rng, dtype)[name]
    expected = plain(x, k)
    assert pyln.layer_norm(x, x.shape[4 - k :], eps=EPS, out=x) is x
    assert np.array_equal(x, expected)


def test_in_place_with_axis(rng: Generator, dtype: np.dtype) -> None:
    x = rng.standard_normal((3, 4, 5)).astype(dtype)
    expected = np.moveaxis(plain(np.moveaxis(x, 1, -1)), -1, 1)
    pyln.layer_norm(x, None, eps=EPS, axis=1, out=x)
    assert np.array_equal(x, expected)


def test_columns_of_one_matrix(rng: Generator, dtype: np.dtype) -> None:
    matrix = rng.standard_normal((9, 20)).astype(dtype)
    x, out = matrix[:, :8], matrix[:, 8:16]
    expected, rest = plain(x), matrix[:, 16:].copy()
    pyln.layer_norm(x, 8, eps=EPS, out=out)
    assert np.array_equal(out, expected) and np.array_equal(matrix[:, 16:], rest)


def test_a_memory_map_and_a_subclass(rng: Generator, tmp_path: object) -> None:
    x = rng.standard_normal((3, 4))
    np.save(f"{tmp_path}/x.npy", x)
    assert np.array_equal(pyln.layer_norm(np.load(f"{tmp_path}/x.npy", mmap_mode="r"), 4, eps=EPS), plain(x))
    assert np.array_equal(pyln.layer_norm(np.array(x)[:, None].view(np.recarray), 4, eps=EPS)[:, 0], plain(x))


# ---- Rows at the edge ----


@pytest.mark.parametrize("cols", [1, 3, 16, 17, 300])
def test_a_row_does_not_depend_on_its_neighbours(rng: Generator, dtype: np.dtype, cols: int) -> None:
    x = rng.standard_normal((37, cols)).astype(dtype)
    y = plain(x)
    for i in range(37):
        assert np.array_equal(plain(x[i : i + 1]), y[i : i + 1])
        assert np.array_equal(plain(x[i:]), y[i:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cols", [1, 2, 7, 16, 100, 1025])
def test_nan_and_infinity_spoil_their_own_row_only(rng: Generator, dtype: np.dtype, cols: int, bad: float) -> None:
    x = rng.standard_normal((9, cols)).astype(dtype)
    expected = pyln.layer_norm(x, cols, eps=EPS, return_stats=True)
    for column in {0, cols // 2, cols - 1}:
        spoilt = x.copy()
        spoilt[4, column] = bad
        for got, want in zip(pyln.layer_norm(spoilt, cols, eps=EPS, return_stats=True), expected, strict=True):
            assert np.array_equal(np.delete(got, 4, 0), np.delete(want, 4, 0))
        y, mean, rstd = pyln.layer_norm(spoilt, cols, eps=EPS, return_stats=True)
        assert np.isnan(y[4]).all() and np.isnan(rstd[4]).all() and not np.isfinite(mean[4]).any()


def test_zero_rows(dtype: np.dtype) -> None:
    y, mean, rstd = pyln.layer_norm(np.empty((0, 5), dtype), 5, return_stats=True)
    assert y.shape == (0, 5) and mean.shape == rstd.shape == (0, 1)


def test_zero_columns_have_no_statistics(dtype: np.dtype) -> None:
    none = np.empty(0, dtype)
    y, mean, rstd = pyln.layer_norm(np.empty((3, 0), dtype), 0, none, none, return_stats=True)
    assert y.shape == (3, 0) and mean.shape == rstd.shape == (3, 1)
    assert np.isnan(mean).all() and np.isnan(rstd).all()
    assert pyln.layer_norm(np.empty((3, 0, 4), dtype), None, axis=1).shape == (3, 0, 4)


@pytest.mark.parametrize("eps", [0.0, EPS])
@pytest.mark.parametrize("cols", [1, 2, 16, 33, 1000])
def test_constant_rows_give_bias_exactly(rng: Generator, dtype: np.dtype, cols: int, eps: float) -> None:
    limits = np.finfo(dtype)
    values = [0, 1, 0.1, -3e7, limits.max, -limits.max, limits.tiny, limits.smallest_subnormal]
    x = np.repeat(np.array(values, dtype)[:, None], cols, axis=1)
    weight, bias = rng.standard_normal((2, cols)).astype(dtype)
    y, mean, rstd = pyln.layer_norm(x, cols, weight, bias, eps, return_stats=True)
    assert np.array_equal(y, np.broadcast_to(bias, x.shape))
    assert np.array_equal(mean, x[:, :1])
    not_scaled = abs(x[:, 0]) < limits.max  # there eps itself vanishes beside the scale of the row
    assert np.array_equal(rstd[not_scaled], np.full_like(rstd[not_scaled], 0 if eps == 0 else eps**-0.5))


def test_eps_zero_is_zero(dtype: np.dtype) -> None:
    tiny = np.finfo(dtype).tiny
    y = pyln.layer_norm(np.array([[tiny, -tiny]], dtype), 2, eps=0)
    assert y.tolist() == [[1, -1]]


def test_eps_is_rounded_to_the_inputs_type() -> None:
    x = np.array([[1e-3, -1e-3, 0]], np.float32)
    assert np.array_equal(pyln.layer_norm(x, 3, eps=1e-5), pyln.layer_norm(x, 3, eps=float(np.float32(1e-5))))


@pytest.mark.parametrize("eps", [1, np.float32(1), np.int64(1), np.array(1.0), True])
def test_eps_of_any_type_of_number(rng: Generator, eps: object) -> None:
    x = rng.standard_normal((2, 3))
    assert np.array_equal(pyln.layer_norm(x, 3, eps=eps), pyln.layer_norm(x, 3, eps=1.0))
