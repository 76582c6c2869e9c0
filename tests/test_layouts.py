"""Which memory is used in place, and that a layout changes no bit of y, the statistics and grad_input."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
from differences import assert_same

import pyln
from pyln._layout import Layout

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

F16, BF16, F32, F64 = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))

# ---- What is a view ----

X = np.zeros((6, 5, 8, 10), np.float32)


def layout_of(*tensors: Array, axes: tuple[int, int], varying: tuple[int, ...] = (), whole: bool = False) -> Layout:
    return Layout(axes, tensors, varying, contiguous=False, whole=whole, in_order_of=None)


def in_place(*tensors: Array, axes: tuple[int, int], whole: bool = False) -> list[bool]:
    layout = layout_of(*tensors, axes=axes, whole=whole)
    return [np.shares_memory(layout.tensor(t), t) for t in tensors]


@pytest.mark.parametrize(
    ("x", "axes", "seen"),
    [
        (X, (3, 4), (6, 5, 8, 10, 1)),
        (X, (2, 4), (6, 5, 80, 1)),
        (X, (0, 4), (2400, 1)),
        (X, (1, 2), (6, 5, 80)),  # channels first
        (X, (1, 3), (6, 40, 10)),
        (X, (0, 1), (6, 400)),
        (X, (0, 2), (30, 80)),
        (X[::-1], (1, 2), (6, 5, 80)),
        (X[:, ::-2], (1, 2), (6, 3, 80)),
        (X[..., ::2], (1, 2), (6, 8, 5, 5, 1)),  # no neighbours: one stride for each row
        (X[..., ::2], (3, 4), (6, 5, 8, 5, 1)),
        (X[..., 2:7], (1, 2), (6, 8, 5, 5)),
        (X.T, (3, 4), (6, 400)),  # Fortran order
        (X.transpose(0, 3, 1, 2), (1, 2), (6, 5, 8, 10, 1)),  # channels last
        (np.broadcast_to(X[:1], X.shape), (1, 2), (6, 5, 80)),
        (np.broadcast_to(X[..., :1], X.shape), (3, 4), (6, 5, 8, 10, 1)),
        (X[:, :1], (1, 2), (6, 8, 10, 1, 1)),
    ],
)
def test_views(x: Array, axes: tuple[int, int], seen: tuple[int, ...]) -> None:
    layout = layout_of(x, axes=axes)
    view = layout.tensor(x)
    assert view.shape == seen
    assert np.shares_memory(view, x)


def test_copies() -> None:
    exchanged = np.zeros((6, 5, 10, 8), np.float32).swapaxes(2, 3)
    assert in_place(exchanged, X, axes=(2, 4)) == [False, True]
    record = np.zeros(X.shape, [("number", "f4"), ("flag", "i1")])["number"]
    assert in_place(record, axes=(3, 4)) == [False]
    rows = np.zeros((5, 6, 8, 10), np.float32).swapaxes(0, 1)
    assert in_place(rows, X, axes=(3, 4)) == [True, True]
    assert in_place(rows, X, axes=(3, 4), whole=True) == [False, True]


def test_arrays_of_one_call_share_a_layout() -> None:
    fortran = np.asfortranarray(X)
    assert layout_of(fortran, fortran, axes=(1, 2)).inner != []
    assert layout_of(fortran, X, axes=(1, 2)).inner == []
    assert in_place(fortran, X.copy(), axes=(1, 2)) == [True, True]
    assert layout_of(X, axes=(1, 2)).inner == [2, 3]
    assert layout_of(X, axes=(1, 2), varying=(2,)).inner == [3]
    assert layout_of(X, axes=(1, 2), varying=(3,)).inner == []


# ---- What comes out ----


def moved(array: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, axes, range(-len(axes), 0)))


def moved_back(array: Array, axes: tuple[int, ...]) -> Array:
    return np.moveaxis(array, range(-len(axes), 0), axes)


def views(x: Array) -> dict[str, Array]:
    """The same numbers, lying in memory in other ways."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    columns = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    columns[..., 2:-1] = x
    return {
        "C": x,
        "F": np.asfortranarray(x),
        "channels last": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
        "every other": wide[..., ::2],
        "columns": columns[..., 2:-1],
        "backwards": np.flip(np.flip(x).copy()),
        "exchanged": np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    }


SHAPES = [((3, 7, 5, 4), (1,)), ((2, 3, 4, 9), (1, 2)), ((40, 6), (0,)), ((2, 19, 33), (1,)), ((1, 300, 17), (1,))]
TYPES = [(F32, F32), (F64, F64), (F16, F16), (BF16, BF16), (F32, BF16), (BF16, F32)]


@pytest.mark.parametrize(("x_type", "y_type"), TYPES, ids=str)
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_layouts_give_the_same_bits(
    rng: Generator, shape: tuple[int, ...], axes: tuple[int, ...], x_type: np.dtype, y_type: np.dtype
) -> None:
    x, dy = (rng.standard_normal(shape) + 2).astype(x_type), rng.standard_normal(shape).astype(y_type)
    row = tuple(shape[a] for a in axes)
    weight, bias = rng.standard_normal((2, *row)).astype(x_type)
    y, mean, rstd = pyln.layer_norm(moved(x, axes), row, weight, bias, dtype=y_type, return_stats=True)
    dx, dgamma, dbeta = pyln.layer_norm_backward(moved(dy, axes), moved(x, axes), row, mean, rstd, weight)
    expected = [moved_back(a, axes) for a in (y, mean, rstd, dx)]
    inputs, gradients = views(x), views(dy)
    for (name, view), other in itertools.product(inputs.items(), ("C", None)):
        got = pyln.layer_norm(view, None, weight, bias, axis=axes, dtype=y_type, return_stats=True)
        grad_out = gradients[other or name]
        dx, *sums = pyln.layer_norm_backward(grad_out, view, None, *got[1:], weight, axis=axes)
        for a, b in zip((*got, dx), expected, strict=True):
            assert_same(a, b)
        bound = 8 * np.finfo(np.float32 if dx.itemsize < 8 else F64).eps * np.sqrt(x.size)
        for total, rows_in_order in zip(sums, (dgamma, dbeta), strict=True):
            np.testing.assert_allclose(total, rows_in_order, rtol=0, atol=bound * max(1, abs(rows_in_order).max()))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rms_norm_of_any_axis(rng: Generator, dtype: np.dtype, order: str, axis: int) -> None:
    x, dy = (np.asarray(rng.standard_normal((5, 6, 7)), dtype, order) for _ in range(2))
    weight = rng.standard_normal(x.shape[axis]).astype(dtype)
    y, rstd = pyln.rms_norm(x, None, weight, axis=axis, return_stats=True)
    dx, dgamma = pyln.rms_norm_backward(dy, x, None, rstd, weight, axis=axis)
    rows = [moved(a, (axis,)) for a in (x, dy)]
    expected, expected_rstd = pyln.rms_norm(rows[0], len(weight), weight, return_stats=True)
    expected_dx, expected_dgamma = pyln.rms_norm_backward(rows[1], rows[0], len(weight), expected_rstd, weight)
    assert_same(y, moved_back(expected, (axis,)))
    assert_same(rstd, moved_back(expected_rstd, (axis,)))
    assert_same(dx, moved_back(expected_dx, (axis,)))
    np.testing.assert_allclose(dgamma, expected_dgamma, rtol=1e-5, atol=1e-5)


def test_new_arrays_lie_as_the_input() -> None:
    x = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    for view in (x, np.asfortranarray(x), x.transpose(0, 3, 1, 2), x[::-1], x.swapaxes(1, 2)):
        y, mean, rstd = pyln.layer_norm(view, None, axis=1, return_stats=True)
        dx, *_ = pyln.layer_norm_backward(y, view, None, mean, rstd, axis=1)
        assert y.strides == dx.strides == tuple(abs(s) for s in view.strides)
        assert mean.flags.c_contiguous and rstd.flags.c_contiguous
    repeated = np.broadcast_to(x[:1, :1], x.shape)
    assert pyln.layer_norm(repeated, 5).flags.c_contiguous


def test_channels_first_images_are_not_copied(rng: Generator) -> None:
    """Were it so, tracemalloc would see more than y."""
    import tracemalloc

    x = rng.standard_normal((4, 64, 32, 32)).astype(np.float32)
    weight = np.ones(64, np.float32)
    out = np.empty_like(x)
    pyln.layer_norm(x, None, weight, axis=1, out=out)
    tracemalloc.start()
    pyln.layer_norm(x, None, weight, axis=1, out=out)
    pyln.layer_norm(x.transpose(0, 2, 3, 1), 64, weight, out=out.transpose(0, 2, 3, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes // 8
    np.testing.assert_array_equal(out, pyln.layer_norm(x, None, weight, axis=1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_outputs_between_the_elements_of_inputs(rng: Generator, dtype: np.dtype, axis: int) -> None:
    both = rng.standard_normal((4, 6, 10)).astype(dtype)
    for x, out in [(both[..., ::2], both[..., 1::2]), (both[:, ::2], both[:, 1::2]), (both[..., 1::2], both[..., ::2])]:
        expected = pyln.layer_norm(x.copy(), None, axis=axis)
        rest = x.copy()
        assert pyln.layer_norm(x, None, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(x, rest)
        _, mean, rstd = pyln.layer_norm(x, None, axis=axis, return_stats=True)
        grads = pyln.layer_norm_backward(x.copy(), x, None, mean, rstd, axis=axis)
        got = pyln.layer_norm_backward(x, x, None, mean, rstd, axis=axis, out=(out, None, None))
        np.testing.assert_array_equal(got[0], grads[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_in_place_in_fortran_order(rng: Generator, dtype: np.dtype, axis: int) -> None:
    x = np.asfortranarray(rng.standard_normal((4, 6, 10)).astype(dtype))
    dy = np.asfortranarray(rng.standard_normal((4, 6, 10)).astype(dtype))
    y, mean, rstd = pyln.layer_norm(x.copy(), None, axis=axis, return_stats=True)
    expected = pyln.layer_norm_backward(dy, x, None, mean, rstd, axis=axis)
    got = pyln.layer_norm_backward(dy, x, None, mean, rstd, axis=axis, out=(dy, None, None))
    assert got[0] is dy
    np.testing.assert_array_equal(dy, expected[0])
    assert pyln.layer_norm(x, None, axis=axis, out=x) is x
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 2), (1, 0, 1)])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_no_elements(shape: tuple[int, ...], axis: int | tuple[int, ...], order: str) -> None:
    x = np.zeros(shape, np.float32, order)
    y, mean, rstd = pyln.layer_norm(x, None, axis=axis, return_stats=True)
    expected = tuple(1 if i in np.atleast_1d(axis) else n for i, n in enumerate(shape))
    assert y.shape == shape and mean.shape == rstd.shape == expected
    assert np.isnan(mean).all() and np.isnan(rstd).all()
    grads = pyln.layer_norm_backward(x, x, None, mean, rstd, axis=axis)
    assert grads[0].shape == shape
    assert grads[1].shape == grads[2].shape == tuple(shape[a] for a in np.atleast_1d(axis))
    assert not grads[1].any() and not grads[2].any()


def test_channels_last_tensors_of_torch(rng: Generator) -> None:
    x = torch.from_numpy(rng.standard_normal((2, 6, 5, 4))).to(memory_format=torch.channels_last)
    y = pyln.layer_norm(x, axis=1)
    np.testing.assert_array_equal(y, pyln.layer_norm(x.contiguous(), None, axis=1))
    assert torch.from_numpy(y).is_contiguous(memory_format=torch.channels_last)


def test_threads_change_nothing(rng: Generator, threads: None) -> None:
    x, dy = rng.standard_normal((2, 4, 96, 64, 64)).astype(np.float32)
    weight = rng.standard_normal(96).astype(np.float32)
    results = []
    for count in (1, 2):
        pyln.set_num_threads(count)
        y, mean, rstd = pyln.layer_norm(x, None, weight, axis=1, return_stats=True)
        results.append((y, mean, rstd, *pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=1)))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


# ---- Views at random ----


def lie(rng: Generator, x: Array) -> Array:
    """A writable array of x's numbers, lying anyhow in memory of its own."""
    order = rng.permutation(x.ndim)
    around = x.transpose(order)
    steps = [int(rng.choice([1, 1, 1, 2, 3])) for _ in order]
    before = [int(rng.choice([0, 0, 1])) for _ in order]
    memory = np.zeros([n * step + b for n, step, b in zip(around.shape, steps, before, strict=True)], x.dtype)
    signs = [int(rng.choice([1, 1, -1])) for _ in order]
    view = memory[tuple(slice(b, None, step) for b, step in zip(before, steps, strict=True))]
    view = view[tuple(slice(None, None, sign) for sign in signs)].transpose(np.argsort(order))
    view[...] = x
    return view


@pytest.mark.parametrize("seed", range(150))
def test_views_at_random(seed: int) -> None:
    """Any shape, axes, strides and parameters: the bits of contiguous arrays."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(1, 6))
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 5, 8, 17], ndim))
    begin = int(rng.integers(0, ndim))
    axes = tuple(range(begin, int(rng.integers(begin + 1, ndim + 1))))
    row = tuple(shape[a] for a in axes)
    x_type, y_type = [(F32, F32), (F64, F64), (BF16, BF16), (F32, F16), (F16, F32)][seed % 5]
    real = F64 if x_type == F64 else F32
    x, dy = rng.standard_normal(shape).astype(x_type), rng.standard_normal(shape).astype(y_type)
    full = [tuple(n if i in axes or rng.random() < 0.4 else 1 for i, n in enumerate(shape)) for _ in range(2)]
    shapes = [p if rng.random() < 0.5 else row for p in full]
    param_type = x_type if rng.random() < 0.5 else real
    weight, bias = (rng.standard_normal(s).astype(param_type) for s in shapes)

    def last(a: Array) -> Array:
        return a if a.shape == row else moved(a, axes)

    expected, mean, rstd = pyln.layer_norm(last(x), row, last(weight), last(bias), dtype=y_type, return_stats=True)
    expected_grads = pyln.layer_norm_backward(last(dy), last(x), row, mean, rstd, last(weight), last(bias))
    out = lie(rng, np.zeros(shape, y_type)) if rng.random() < 0.7 else None
    options = {"axis": axes, "dtype": y_type}
    weight, bias = lie(rng, weight), lie(rng, bias)
    xs = lie(rng, x)
    y, *stats = pyln.layer_norm(xs, None, weight, bias, out=out, return_stats=True, **options)
    assert_same(y, moved_back(expected, axes))
    for a, b in zip(stats, (mean, rstd), strict=True):
        assert_same(a, moved_back(b, axes))
    stats = [lie(rng, s) for s in stats]
    dys = lie(rng, dy)
    place = [lie(rng, np.zeros(shape, x_type)), xs, dys if x_type == y_type else None, None][seed // 5 % 4]
    sums = [lie(rng, np.ones(s, real)) for s in shapes]
    grads = pyln.layer_norm_backward(
        dys, xs, None, *stats, weight, bias, axis=axes, out=(place, *sums), accumulate=True
    )
    assert_same(grads[0], moved_back(expected_grads[0], axes))
    for total, b in zip(sums, expected_grads[1:], strict=True):
        b = b if total.shape == row else moved_back(b, axes)
        bound = 16 * np.finfo(real).eps * np.sqrt(x.size) * max(1, abs(b).max())
        np.testing.assert_allclose(total, 1 + b, rtol=0, atol=bound)
