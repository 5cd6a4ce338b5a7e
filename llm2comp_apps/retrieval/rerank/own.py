"""Our own rerankers: a backbone that reads query and passage together, see :mod:`llm2comp_apps.encoder.pairs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm2comp_apps.encoder.cache import directory_sha256
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.settings import SETTINGS
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["OwnReranker", "files_sha256_of", "is_own"]

_FILES = ("*.safetensors", "*.bin", "*.json")


def is_own(name: str) -> bool:
    """Whether a name is the folder of a checkpoint of ours; whether it is a reranker's is seen when it is loaded."""
    return (Path(name).expanduser() / SETTINGS).is_file()


def files_sha256_of(name: str) -> str:
    """What tells the reranker in a folder from one that takes its place; empty for names that are no folders."""
    folder = Path(name).expanduser()
    return directory_sha256(folder, _FILES) if folder.is_dir() else ""


class OwnReranker:
    """A reranker made by the stage ``rerank`` of training; on a CPU it runs without torch.

    Args:
        name: its folder.
        device: where it runs; ``None`` for the best there is.

    Attributes:
        files_sha256: see :func:`files_sha256_of`; as they were when it was loaded.

    Raises:
        EncoderError: it is an encoder, damaged, or made for another backbone.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        from llm2comp_apps.encoder.backends.onnx_pairs import load_pair_scorer

        self.files_sha256 = files_sha256_of(name)
        self._scorer = load_pair_scorer(name, device)

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`."""
        if not passages:
            return np.zeros(0, np.float32)
        return self._scorer.score(query, [passage.content for passage in passages])
