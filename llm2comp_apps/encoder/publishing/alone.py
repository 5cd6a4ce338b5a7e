"""Encode texts with an exported folder as a stranger would: run as a file, in a process without this package.

    python -P alone.py FOLDER KIND TEXTS.json VECTORS.npy

``KIND`` is ``sentence-transformers``, ``multi-vector`` or ``onnx``.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np


def vectors_of(folder: str, kind: str, texts: list[str]) -> np.ndarray:
    """``(n, d)`` float32, or ``(n, k, d)`` of a multi-vector folder."""
    if kind == "onnx":
        return np.asarray(runpy.run_path(str(Path(folder) / "example.py"))["encode"](texts))
    import sentence_transformers

    if kind == "multi-vector":
        several = sentence_transformers.MultiVectorEncoder(folder, device="cpu").encode(texts, convert_to_numpy=True)
        return np.stack([np.asarray(one) for one in several])
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    return np.asarray(model.encode(texts, batch_size=8, show_progress_bar=False))


def main() -> None:
    """See the module."""
    folder, kind, texts, output = sys.argv[1:]
    vectors = vectors_of(folder, kind, json.loads(Path(texts).read_text("utf-8")))
    assert not any(name.startswith("llm2comp") for name in sys.modules), "this package took part"
    np.save(output, vectors.astype(np.float32))


if __name__ == "__main__":
    main()
