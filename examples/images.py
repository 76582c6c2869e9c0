"""Images (N, C, H, W), normalized three ways: over (C, H, W), over (H, W), and over C alone.

Elements that are normalized together lose their common level and keep their differences. The pictures here differ in
brightness, have a colour cast (more red than blue), and have light and shade; the table shows what each way leaves.
"""

import numpy as np

import pyln

N, C, H, W = 4, 3, 32, 48
EPS = 1e-5


def pictures(rng: np.random.Generator) -> np.ndarray:
    """Smooth random pictures, each brighter than the one before, with much more of channel 0 than of channel 2."""
    rows, columns = np.linspace(0, 2 * np.pi, H)[:, None], np.linspace(0, 2 * np.pi, W)
    phase = rng.uniform(0, 2 * np.pi, (N, C, 1, 1))
    pattern = np.sin(2 * rows + phase) + np.cos(3 * columns - phase)
    brightness = np.linspace(0, 6, N)[:, None, None, None]
    cast = np.array([2, 1, 0])[:, None, None]
    return (pattern + brightness + cast).astype(np.float32)


def parameters(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias as they are before training."""
    return np.ones(shape, np.float32), np.zeros(shape, np.float32)


def report(way: str, weight_shape: str, means_shape: str, x: np.ndarray) -> None:
    brightness = np.ptp(x.mean(axis=(1, 2, 3)))
    cast = np.ptp(x.mean(axis=(0, 2, 3)))
    shade = x.mean(axis=1).std(axis=(1, 2)).mean()
    print(f"{way:>15} {weight_shape:>13} {means_shape:>15} {brightness:10.2f} {cast:6.2f} {shade:6.2f}")


def main() -> None:
    x = pictures(np.random.default_rng(0))

    # Each picture is one row. Light, shade and cast stay; brightness goes.
    weight, bias = parameters(C, H, W)
    over_chw = pyln.layer_norm(x, (C, H, W), weight, bias, EPS, return_stats=True)

    # Each channel of each picture is one row. The cast goes too.
    weight, bias = parameters(H, W)
    over_hw = pyln.layer_norm(x, (H, W), weight, bias, EPS, return_stats=True)

    # Each pixel is one row, its channels H * W apart in memory (as in ConvNeXt). Light and shade go, the cast stays.
    weight, bias = parameters(C)
    over_c = pyln.layer_norm(x, None, weight, bias, EPS, axis=1, return_stats=True)

    print(f"{'normalized over':>15} {'weight':>13} {'means':>15} {'brightness':>10} {'cast':>6} {'shade':>6}")
    report("nothing", "", "", x)
    report("(C, H, W)", str((C, H, W)), str(over_chw[1].shape), over_chw[0])
    report("(H, W)", str((H, W)), str(over_hw[1].shape), over_hw[0])
    report("C, by axis=1", str((C,)), str(over_c[1].shape), over_c[0])

    for axes, (y, mean, rstd) in ((1, 2, 3), over_chw), ((2, 3), over_hw), (1, over_c):
        var = x.var(axis=axes, keepdims=True, dtype=np.float64)
        assert np.allclose(mean, x.mean(axis=axes, keepdims=True, dtype=np.float64), atol=1e-6)
        assert np.allclose(rstd, 1 / np.sqrt(var + EPS), rtol=1e-5)
        assert np.abs(y.mean(axis=axes)).max() < 1e-5
        assert np.allclose(y.var(axis=axes, keepdims=True), var / (var + EPS), atol=1e-5)

    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    assert np.array_equal(over_c[0], pyln.layer_norm(channels_last, C, weight, bias, EPS).transpose(0, 3, 1, 2))
    print("\naxis=1 gives what the channels-last pictures give over their last axis")


if __name__ == "__main__":
    main()
