"""layer_norm and layer_norm_backward: parity with PyTorch, axes, layouts, special values."""

import numpy as np
import pytest
import torch

import pyln

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
SHAPES = [((4, 10), 1), ((32, 10, 20), 1), ((2, 3, 4, 5), 2), ((2, 3, 4, 5), 3), ((7,), 1), ((3, 1), 1), ((1, 300), 1)]


def arrays(shape, k, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[len(shape) - k :]).astype(dtype) for _ in range(2))
    return x, dy, weight, bias


def close(got, expected, scale=1):
    expected = np.asarray(expected)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=TOLERANCE[got.dtype.name] * scale, atol=TOLERANCE[got.dtype.name] * scale
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "k"), SHAPES)
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
def test_parity_with_torch(shape, k, affine, dtype, isa):
    x, dy, weight, bias = arrays(shape, k, dtype)
    weight, bias = weight if affine in ("both", "weight") else None, bias if affine in ("both", "bias") else None
    tw, tb = (None if p is None else torch.from_numpy(p) for p in (weight, bias))
    norm = shape[len(shape) - k :]
    y, mean, rstd = pyln.layer_norm(x, norm, weight, bias, return_stats=True)
    for got, theirs in zip(
        (y, mean, rstd), torch.native_layer_norm(torch.from_numpy(x), norm, tw, tb, 1e-5), strict=True
    ):
        # A row of one element has no variance; PyTorch's rounding of its mean shows in y then.
        close(got, theirs.numpy(), 1 if norm != (1,) else 100)
    # PyTorch gives no weight's gradient without a weight; pyln gives it all the same.
    one = torch.ones(norm, dtype=torch.from_numpy(x).dtype) if tw is None else tw
    theirs = torch.ops.aten.native_layer_norm_backward(
        torch.from_numpy(dy),
        torch.from_numpy(x),
        norm,
        torch.from_numpy(mean),
        torch.from_numpy(rstd),
        one,
        one,
        [True] * 3,
    )
    got = pyln.layer_norm_backward(dy, x, norm, mean, rstd, weight, bias)
    for mine, other in zip(got, theirs, strict=True):
        close(mine, other.numpy(), 30 if norm != (1,) else 1000)


def test_defaults_and_the_forms_of_normalized_shape():
    x, _, weight, bias = arrays((4, 5, 6), 1)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(x), (6,)).numpy()
    for shape in (6, (6,), [6], np.int64(6), torch.Size([6])):
        close(pyln.layer_norm(x, shape), expected)
    close(pyln.layer_norm(x.tolist(), 6), pyln.layer_norm(x.astype("f8"), 6))
    np.testing.assert_array_equal(
        pyln.layer_norm(x, 6, weight, bias, 0.5), pyln.layer_norm(x, (6,), weight=weight, bias=bias, eps=0.5)
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, (0,), (1, 2), (0, 1), (-1, -2), (0, 1, 2), [1]])
def test_axis(axis, isa):
    x, dy, _, _ = arrays((4, 5, 6), 1, "float64")
    axes = tuple(a % 3 for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    shape = tuple(x.shape[a] for a in sorted(axes))
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal(shape), rng.standard_normal(shape)
    spread = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    y, mean, rstd = pyln.layer_norm(x, None, weight, bias, axis=axis, return_stats=True)
    m, r = x.mean(axes, keepdims=True), 1 / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - m) * r
    close(mean, m)
    close(rstd, r, 10)
    close(y, xhat * weight.reshape(spread) + bias.reshape(spread), 10)
    g = dy * weight.reshape(spread)
    dx = r * (g - g.mean(axes, keepdims=True) - xhat * (g * xhat).mean(axes, keepdims=True))
    others = tuple(a for a in range(3) if a not in axes)
    got = pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=axis)
    for mine, expected in zip(got, (dx, (dy * xhat).sum(others), dy.sum(others)), strict=True):
        close(mine, expected, 100)


def layouts(x):
    """The same numbers in other places."""
    wide = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    wide[..., x.shape[-1] : 2 * x.shape[-1]] = x
    yield "columns", wide[..., x.shape[-1] : 2 * x.shape[-1]]
    yield "reversed rows", np.ascontiguousarray(x[::-1])[::-1]
    yield "transposed lead", np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    yield "reversed elements", np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    gaps = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    gaps[..., ::2] = x
    yield "every other element", gaps[..., ::2]
    yield "Fortran order", np.asfortranarray(x)
    unaligned = np.frombuffer(bytearray(1) + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    yield "unaligned", unaligned
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def test_layouts_change_no_bit(isa):
    x, dy, weight, bias = arrays((6, 5, 40), 1)
    expected = pyln.layer_norm(x, 40, weight, bias, return_stats=True)
    grads = pyln.layer_norm_backward(dy, x, 40, *expected[1:], weight)
    for (name, a), (_, b) in zip(layouts(x), layouts(dy), strict=True):
        for got, want in zip(pyln.layer_norm(a, 40, weight, bias, return_stats=True), expected, strict=True):
            np.testing.assert_array_equal(got, want, name)
        for got, want in zip(pyln.layer_norm_backward(b, a, 40, *expected[1:], weight), grads, strict=True):
            np.testing.assert_array_equal(got, want, name)


def test_broadcast_rows():
    row = arrays((1, 40), 1)[0]
    x = np.broadcast_to(row, (3, 7, 40))
    y, mean, rstd = pyln.layer_norm(x, 40, return_stats=True)
    np.testing.assert_array_equal(y, np.broadcast_to(pyln.layer_norm(row, 40), x.shape))
    dy = np.broadcast_to(np.float32(1), x.shape)
    for got, want in zip(
        pyln.layer_norm_backward(dy, x, 40, mean, rstd),
        pyln.layer_norm_backward(dy.copy(), x.copy(), 40, mean, rstd),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


def test_out_of_any_layout(isa):
    x, dy, weight, bias = arrays((6, 5, 40), 1)
    expected, mean, rstd = pyln.layer_norm(x, 40, weight, bias, return_stats=True)
    grads = pyln.layer_norm_backward(dy, x, 40, mean, rstd, weight)
    for name, out in layouts(np.zeros_like(x)):
        if name in ("unaligned", "read-only"):
            continue
        assert pyln.layer_norm(x, 40, weight, bias, out=out) is out
        np.testing.assert_array_equal(out, expected, name)
        for g in (np.zeros(40, "f4"), np.zeros(80, "f4")[::2]):
            got = pyln.layer_norm_backward(dy, x, 40, mean, rstd, weight, out=(out, g, None))
            assert got[0] is out and got[1] is g
            for a, b in zip(got, grads, strict=True):
                np.testing.assert_array_equal(a, b, name)


def test_in_place(isa):
    x, dy, weight, bias = arrays((9, 70), 1)
    expected, mean, rstd = pyln.layer_norm(x, 70, weight, bias, return_stats=True)
    grads = pyln.layer_norm_backward(dy, x, 70, mean, rstd, weight)
    for target in ("grad_out", "input"):
        a, b = x.copy(), dy.copy()
        pyln.layer_norm_backward(b, a, 70, mean, rstd, weight, out=(b if target == "grad_out" else a, None, None))
        np.testing.assert_array_equal(b if target == "grad_out" else a, grads[0])
    pyln.layer_norm(x, 70, weight, bias, out=x)
    np.testing.assert_array_equal(x, expected)
    matrix = arrays((9, 70), 1)[0]
    pyln.layer_norm(matrix[:, :35], 35, out=matrix[:, 35:])  # columns of one matrix do not overlap
    np.testing.assert_array_equal(matrix[:, 35:], pyln.layer_norm(matrix[:, :35].copy(), 35))


def test_output_mask(isa):
    x, dy, weight, _ = arrays((20, 33), 1)
    _, mean, rstd = pyln.layer_norm(x, 33, return_stats=True)
    every = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight)
    for bits in range(8):
        mask = [bool(bits >> i & 1) for i in range(3)]
        got = pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight, None, mask)
        for wanted, mine, full in zip(mask, got, every, strict=True):
            assert (mine is None) if not wanted else np.array_equal(mine, full)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 0), (0,)])
def test_nothing(shape, isa):
    x = np.zeros(shape, "f4")
    cols = shape[-1]
    y, mean, rstd = pyln.layer_norm(x, cols, np.ones(cols, "f4"), np.ones(cols, "f4"), return_stats=True)
    assert y.shape == shape and mean.shape == rstd.shape == (*shape[:-1], 1)
    assert cols or np.isnan(mean).all()
    dx, dgamma, dbeta = pyln.layer_norm_backward(x, x, cols, mean, rstd)
    assert dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(cols))
    np.testing.assert_array_equal(dbeta, np.zeros(cols))


def test_one_column(isa):
    x, dy, weight, bias = arrays((5, 1), 1)
    y, mean, rstd = pyln.layer_norm(x, 1, weight, bias, return_stats=True)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
    _, dgamma, _ = pyln.layer_norm_backward(dy, x, 1, mean, rstd, weight)
    np.testing.assert_array_equal(dgamma, [0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_stays_in_its_row(bad, isa):
    for cols in (3, 64, 1100):
        x, _, weight, bias = arrays((5, cols), 1)
        expected = pyln.layer_norm(x, cols, weight, bias)
        x[2, cols // 2] = bad
        y = pyln.layer_norm(x, cols, weight, bias)
        assert np.isnan(y[2]).all()
        np.testing.assert_array_equal(np.delete(y, 2, 0), np.delete(expected, 2, 0))


def test_inputs_are_not_changed(isa):
    given = arrays((20, 33), 1)
    before = [a.copy() for a in given]
    x, dy, weight, bias = given
    _, mean, rstd = pyln.layer_norm(x, 33, weight, bias, return_stats=True)
    pyln.layer_norm_backward(dy, x, 33, mean, rstd, weight, bias)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_by_finite_differences(isa):
    x, dy, weight, bias = arrays((3, 11), 1, "float64")
    _, mean, rstd = pyln.layer_norm(x, 11, weight, bias, return_stats=True)
    grads = pyln.layer_norm_backward(dy, x, 11, mean, rstd, weight)
    h = 1e-6
    for argument, grad in zip((x, weight, bias), grads, strict=True):
        for index in np.ndindex(argument.shape):
            kept = argument[index]
            argument[index] = kept + h
            up = (dy * pyln.layer_norm(x, 11, weight, bias)).sum()
            argument[index] = kept - h
            down = (dy * pyln.layer_norm(x, 11, weight, bias)).sum()
            argument[index] = kept
            assert abs((up - down) / (2 * h) - grad[index]) < 1e-7


def test_a_row_does_not_depend_on_its_neighbours(isa):
    x = arrays((40, 129), 1)[0]
    whole = pyln.layer_norm(x, 129)
    for row in range(40):
        np.testing.assert_array_equal(pyln.layer_norm(x[row : row + 1], 129), whole[row : row + 1])


def test_all_instruction_sets_give_the_same_bits():
    for cols in (1, 5, 16, 31, 64, 100, 301, 768, 1030):
        for dtype in TOLERANCE:
            x, dy, weight, bias = arrays((21, cols), 1, dtype, seed=cols)
            results = []
            for name in pyln.available_isas():
                with pyln.use_isa(name):
                    y, mean, rstd = pyln.layer_norm(x, cols, weight, bias, return_stats=True)
                    grads = pyln.layer_norm_backward(dy, x, cols, mean, rstd, weight)
                results.append([a.tobytes() for a in (y, mean, rstd, *grads)])
            assert all(r == results[0] for r in results), cols
