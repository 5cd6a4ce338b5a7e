"""A reranker made from a backbone: it reads a query and a document together and gives them one score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.loading import LoadedNetwork, load_network
from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.pairs import PairReader
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.settings import RERANK

__all__ = ["PairScorer"]

_TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536, "mps": 16384}


class PairScorer:
    """What the stage ``rerank`` of training makes; see :mod:`.pairs` for how it reads.

    Attributes:
        name: for people.
        max_length: tokens of query and document together.
    """

    def __init__(self, loaded: LoadedNetwork) -> None:
        settings = loaded.settings
        self.name, self.max_length = settings.name, settings.max_length
        self._network, self._tokenizer = loaded.network, loaded.tokenizer
        self._device = str(loaded.network.memory_tokens.device)
        self._reader = PairReader.of(
            settings.prompts,
            settings.max_length,
            tokens=lambda texts: first_ids(self._tokenizer, texts, self.max_length)[0],
            bare=lambda text: list(self._tokenizer(text, add_special_tokens=False)["input_ids"]),
            first=self._tokenizer.bos_token_id,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        backbone: str | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        max_length: int | None = None,
    ) -> PairScorer:
        """Load a reranker.

        Args:
            name: a directory or a Hugging Face id.
            backbone: where its backbone lies now, if not where the checkpoint says.
            device: ``None`` for the best there is.
            dtype: of the matrix products; by default bfloat16 where the hardware has it, else float32.
            max_length: instead of the checkpoint's own, in tokens.

        Raises:
            EncoderError: it is missing, damaged, an encoder, or not made for this backbone.
        """
        return cls(
            load_network(name, backbone=backbone, device=device, dtype=dtype, max_length=max_length, task=RERANK)
        )

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Scores ``(n,)`` float32 of n documents for a query: larger is better, comparable within the query only."""
        rows = self.rows(query, documents)
        scores = np.zeros(len(rows), dtype=np.float32)
        lengths = [len(row) + self._network.extra_tokens for row in rows]
        budget = _TOKENS_PER_BATCH.get(self._device.split(":")[0], 2048)
        pad_id = int(self._tokenizer.pad_token_id or 0)
        with torch.inference_mode(), self._network.autocast():
            for batch in length_batches(lengths, budget) if rows else ():
                held = left_pad([rows[index] for index in batch], pad_id, self._device)
                scores[batch] = self._network.score(*held).cpu().numpy()
        return scores

    def rows(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """Token ids of each pair, without memory tokens."""
        return self._reader.rows(query, documents)
