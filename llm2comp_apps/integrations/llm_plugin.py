"""The ``llm`` command: our encoders as its embedding models, found by the entry point ``llm``.

    llm embed -m llm2comp -c "how do cells divide"
    llm embed-multi notes notes.csv -m llm2comp

``llm2comp`` is the default encoder, or the one that the environment variable ``LLM2COMP_ENCODER`` names. Extra ``llm``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import llm

from llm2comp_apps import load_encoder

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["LLM2CompEmbeddingModel", "register_embedding_models"]

ENVIRONMENT = "LLM2COMP_ENCODER"


class LLM2CompEmbeddingModel(llm.EmbeddingModel):
    """An encoder, loaded when it is needed first.

    Args:
        model_id: what ``llm`` calls it.
        encoder: a name (:mod:`llm2comp_apps.encoder.names`); ``None`` for the environment's, else the default.
    """

    batch_size = 256

    def __init__(self, model_id: str = "llm2comp", encoder: str | None = None) -> None:
        self.model_id = model_id
        self._name = encoder
        self._encoder: TextEncoder | None = None

    def embed_batch(self, items: Iterable[str | bytes]) -> Iterator[list[float]]:
        """Unit vectors of texts, as documents."""
        if self._encoder is None:
            self._encoder = load_encoder(self._name or os.environ.get(ENVIRONMENT) or "default")
        texts = [item.decode() if isinstance(item, bytes) else item for item in items]
        yield from self._encoder.encode(texts, prompt=self._encoder.prompts.get("document")).tolist()


@llm.hookimpl
def register_embedding_models(register: Callable[..., None]) -> None:
    """Tell ``llm``."""
    register(LLM2CompEmbeddingModel())
