"""Largest error of layer normalization against the offset of its rows, for pyln, PyTorch and NumPy, all in float32.

The error is in u = 2**-24, relative to max(abs(xhat), 1) * abs(weight) + abs(bias), and that of grad_input relative to
the largest gradient of the row; the reference is computed in float64, from the same float32 input.

    python bench/accuracy.py
"""

from __future__ import annotations

import numpy as np
import torch

import pyln

ROWS, COLS = 256, 768
U = 2.0**-24
EPS = 2.0**-17  # about 1e-5, and the same number in float32


def numpy_layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Apply the formula, operation by operation."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + np.float32(eps)) * weight + bias


def exact(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return y, xhat and grad_input in float64."""
    x, weight, bias, dy = (a.astype(np.float64) for a in (x, weight, bias, dy))
    centred = x - x.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    xhat, g = centred * rstd, dy * weight
    grad = rstd * (g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True))
    return xhat * weight + bias, xhat, grad


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    weight, bias = (rng.standard_normal(COLS).astype(np.float32) for _ in range(2))
    dy = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    print("mean/std    forward: pyln   PyTorch     NumPy    backward: pyln   PyTorch")
    for offset in (0, 1, 100, 1e4, 1e6):
        x = (rng.standard_normal((ROWS, COLS)) + offset).astype(np.float32)
        y, xhat, grad = exact(x, weight, bias, dy)
        allowed = (np.maximum(abs(xhat), 1) * abs(weight) + abs(bias)) * U
        largest = abs(grad).max(axis=1, keepdims=True) * U

        mine, mean, rstd = pyln.layer_norm(x, COLS, weight, bias, EPS, return_stats=True)
        my_grad, _, _ = pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight)
        leaf = torch.from_numpy(x).requires_grad_()
        theirs = torch.nn.functional.layer_norm(leaf, (COLS,), torch.from_numpy(weight), torch.from_numpy(bias), EPS)
        theirs.backward(torch.from_numpy(dy))
        errors = [
            (abs(a - y) / allowed).max()
            for a in (mine, theirs.detach().numpy(), numpy_layer_norm(x, weight, bias, EPS))
        ]
        errors += [(abs(a - grad) / largest).max() for a in (my_grad, leaf.grad.numpy())]
        print(
            f"{offset:8g}    {errors[0]:13.1f}{errors[1]:10.3g}{errors[2]:10.3g}    {errors[3]:14.1f}{errors[4]:10.3g}"
        )


if __name__ == "__main__":
    main()
