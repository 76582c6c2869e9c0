"""Layer normalization with the signatures of Stanford's course CS231n: ``(N, D)`` inputs, a cache, gamma and beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln.functional import layer_norm, layer_norm_backward

Cache = tuple[Array, Array, Array, Array]


def layernorm_forward(x: Array, gamma: Array, beta: Array, ln_param: Mapping[str, Any]) -> tuple[Array, Cache]:
    """Normalize each of N examples over its D features.

    Parameters
    ----------
    x
        Array of shape (N, D), of a type that ``layer_norm`` takes.
    gamma, beta
        Scale and shift, each of shape (D,): one per feature, shared by all examples.
    ln_param
        May hold "eps", by default 1e-5.

    Returns
    -------
    (out, cache)
        out of shape (N, D), and what ``layernorm_backward`` needs.

    """
    gamma = arguments.tensor("gamma", gamma)
    if not isinstance(ln_param, Mapping):
        raise TypeError(f"ln_param: expected a mapping, got {type(ln_param).__name__}")
    out, mean, rstd = layer_norm(
        x, gamma.shape, weight=gamma, bias=beta, eps=ln_param.get("eps", 1e-5), return_stats=True
    )
    return out, (x, mean, rstd, gamma)


def layernorm_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta), of shapes (N, D), (D,) and (D,), from the gradient of out and forward's cache."""
    if not isinstance(cache, tuple) or len(cache) != 4:
        raise TypeError(f"cache: expected what layernorm_forward returned, got {arguments.shown(cache)}")
    x, mean, rstd, gamma = cache
    gamma = arguments.tensor("gamma", gamma)
    dx, dgamma, dbeta = layer_norm_backward(dout, x, gamma.shape, mean, rstd, weight=gamma)
    assert dx is not None and dgamma is not None and dbeta is not None
    return dx, dgamma, dbeta
