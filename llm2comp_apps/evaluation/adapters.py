"""What can be a row of the table: an encoder, or a ranker that embeds nothing.

| name | what |
|---|---|
| ``bm25``, ``bm25:stem`` | the lexical baseline without and with stemming, retrieval only |
| any other | an encoder, see :mod:`llm2comp_apps.encoder.names` |
"""

from __future__ import annotations

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.evaluation.tasks import Ranker

__all__ = ["RANKERS", "load_system"]

RANKERS = ("bm25", "bm25:stem")
"""What ranks documents by itself and has no embeddings."""


def load_system(name: str, *, backbone: str | None = None, device: str | None = None) -> TextEncoder | Ranker:
    """Load what ``name`` stands for (table above).

    Args:
        name: see the module.
        backbone: see :func:`llm2comp_apps.encoder.load_encoder`.
        device: ``cpu``, ``cuda``...; ``None`` chooses.

    Raises:
        UsageError: the name is malformed, or there is no such device here.
        EncoderError: the encoder cannot be found or loaded.
    """
    if name in RANKERS:
        from llm2comp_apps.evaluation.bm25 import Bm25Ranker

        return Bm25Ranker(stem=name == "bm25:stem")
    from llm2comp_apps.encoder import load_encoder

    return load_encoder(name, backbone=backbone, device=device)
