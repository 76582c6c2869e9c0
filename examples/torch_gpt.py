"""A small GPT trained twice from the same weights on the same text: with PyTorch's layer norms, and with pyln's.

Both models are torch.nn modules; the second one's norms are swapped by pyln.torch.convert before the first step. The
two loss curves agree to rounding.

    python examples/torch_gpt.py [steps]
"""

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pyln.torch

TEXT = Path(__file__).resolve().parent / "c" / "gpt" / "text.txt"
LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 2, 4, 64, 32, 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.token(characters) + self.position.weight[: characters.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def train(steps: int) -> tuple[list[float], list[float], pyln.torch.Conversion]:
    """Train both models step by step in turns; the loss of each step."""
    letters = sorted(set(TEXT.read_text(encoding="utf-8")))
    text = torch.tensor([letters.index(c) for c in TEXT.read_text(encoding="utf-8")])
    torch.manual_seed(0)
    models = [GPT(len(letters))]
    models.append(copy.deepcopy(models[0]))
    report = pyln.torch.convert(models[1])
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in models]
    losses: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        starts = torch.randint(len(text) - CONTEXT, (BATCH, 1))
        pieces = text[starts + torch.arange(CONTEXT + 1)]
        for model, optimizer, curve in zip(models, optimizers, losses, strict=True):
            loss = F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    return *losses, report


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    torch.set_num_threads(1)  # the matrices are small
    first, second, report = train(steps)
    print(report)
    print(f"{'step':>4} {'torch.nn':>10} {'pyln.torch':>10} difference")
    for step in sorted({*range(0, steps, max(1, steps // 10)), steps - 1}):
        print(f"{step + 1:4} {first[step]:10.6f} {second[step]:10.6f} {abs(first[step] - second[step]):10.1e}")
    difference = max(abs(a - b) for a, b in zip(first, second, strict=True))
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-3


if __name__ == "__main__":
    main()
