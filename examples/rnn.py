"""A recurrent net whose hidden states are normalized: however strong its recurrence, they do not explode.

One layer norm serves every time step. Its mean and variance are those of one sequence's 20 hidden units at one step, so
they need no other sequence of the batch and no other step: the reason why recurrent nets take layer norm and not batch
norm. (Ba, Kiros and Hinton, Layer Normalization, 2016, section 3.1, normalize the sum before the nonlinearity; here it
is the state itself.)
"""

import numpy as np

import pyln

BATCH, STEPS, INPUT, HIDDEN = 32, 20, 10, 20


def rnn(x: np.ndarray, w_in: np.ndarray, w_rec: np.ndarray, norm: pyln.LayerNorm | None = None) -> np.ndarray:
    """Hidden states (batch, steps, hidden) for x (batch, steps, input): batch first."""
    h = np.zeros((len(x), len(w_rec)), dtype=x.dtype)
    states = []
    for t in range(x.shape[1]):
        h = np.maximum(x[:, t] @ w_in + h @ w_rec, 0)
        if norm:
            h = norm(h)
        states.append(h)
    return np.stack(states, axis=1)


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, STEPS, INPUT), dtype=np.float32)
    w_in = rng.standard_normal((INPUT, HIDDEN), dtype=np.float32) / np.float32(np.sqrt(INPUT))
    w_rec = rng.standard_normal((HIDDEN, HIDDEN), dtype=np.float32) / np.float32(np.sqrt(HIDDEN))
    norm = pyln.LayerNorm(HIDDEN)

    print(f"x {x.shape} -> hidden states {rnn(x, w_in, w_rec, norm).shape}\n")
    print("standard deviation of the hidden states, averaged over the batch")
    print(f"{'recurrence':>12} {'norm':>10} {'step 1':>10} {'step 5':>10} {'step 10':>10} {'step 20':>10}")
    for strength in np.array([0.5, 1, 2, 4], np.float32):
        plain = rnn(x, w_in, strength * w_rec)
        normalized = rnn(x, w_in, strength * w_rec, norm)
        for name, states in ("none", plain), ("LayerNorm", normalized):
            std = states.std(axis=-1).mean(axis=0)
            print(f"{f'x {strength:g}':>12} {name:>10}" + "".join(f" {std[t - 1]:10.3g}" for t in (1, 5, 10, 20)))

        assert normalized.shape == (BATCH, STEPS, HIDDEN)
        assert np.abs(normalized.mean(axis=-1)).max() < 1e-6
        assert np.abs(normalized.var(axis=-1) - 1).max() < 1e-3  # eps takes a little from small variances
    assert plain[:, -1].std() > 1e6, "without the norm the strongest recurrence explodes"
    print("\nevery normalized state has mean 0 and variance 1")


if __name__ == "__main__":
    main()
