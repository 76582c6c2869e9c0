"""What a call of pyln.jax costs, beside other ways to the same result: the shortest of many, calls taking turns.

python bench/jax_calls.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pyln
import pyln.jax

COLS = 768


def formula(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    centered = x - x.mean(-1, keepdims=True)
    var = (centered * centered).mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt(var + 1e-5) * weight + bias


def on_the_host(x: Any, weight: Any, bias: Any) -> Any:
    return pyln.layer_norm(np.asarray(x), COLS, np.asarray(weight), np.asarray(bias))


def callback(x: jax.Array, weight: jax.Array, bias: jax.Array) -> Any:
    return jax.pure_callback(on_the_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, weight, bias)


def compare(rows: int) -> None:
    """Print microseconds."""
    x = np.random.default_rng(0).standard_normal((rows, COLS), dtype=np.float32)
    weight, bias, y = np.ones(COLS, np.float32), np.zeros(COLS, np.float32), np.empty_like(x)
    args = [jnp.asarray(a) for a in (x, weight, bias)]
    functions: dict[str, Callable[..., Any]] = {
        "jit(pyln.jax.layer_norm)": jax.jit(pyln.jax.layer_norm),
        "pyln.jax.layer_norm": pyln.jax.layer_norm,
        "jit(the formula)": jax.jit(formula),
        "jit(x + 1)": jax.jit(lambda x, weight, bias: x + 1),
        "jit(jax.pure_callback)": jax.jit(callback),
    }
    calls = {name: (lambda f=f: f(*args).block_until_ready()) for name, f in functions.items()}
    calls["pyln.layer_norm(out=y)"] = lambda: pyln.layer_norm(x, COLS, weight, bias, out=y)
    shortest = dict.fromkeys(calls, float("inf"))
    for _ in range(max(40, 2000 // rows)):
        for name, call in calls.items():
            for _ in range(3):
                start = time.perf_counter()
                call()
                shortest[name] = min(shortest[name], time.perf_counter() - start)
    for name, seconds in shortest.items():
        print(f"{rows:5} x {COLS}  {name:26} {seconds * 1e6:9.1f} us")


if __name__ == "__main__":
    for rows in (1, 32, 1024, 8192):
        compare(rows)
