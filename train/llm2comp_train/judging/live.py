"""The network in training as an encoder that can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llm2comp_apps.encoder.base import BatchedEncoder, fingerprint_of
from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.pooling import pool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm2comp_train.settings import Settings

__all__ = ["LiveEncoder", "mean_cosine"]


def mean_cosine(embeddings: Tensor) -> float:
    """Mean cosine between different rows of ``(n, d)``; near 1, all texts look alike."""
    unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    count = len(unit)
    return float((unit.sum(0).square().sum() - count) / (count * (count - 1)))


class LiveEncoder(BatchedEncoder):
    """The network in training, its adapter not merged, as an encoder that the evaluation understands."""

    def __init__(self, network: CompressionNetwork, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.prompts = {"query": settings.query_prompt} if settings.query_prompt else {}
        self.max_length = settings.encoder_length
        self.device = str(network.memory_tokens.device)
        self.dimension = network.memory_tokens.shape[1]
        self.name = "training"
        self.fingerprint = fingerprint_of({"live": id(network)})
        self._extra_tokens = network.extra_tokens
        self._of_text = network.readout.of_text
        self._budget = settings.tokens_per_pass

    def embed_ids(self, rows: Sequence[list[int]]) -> Tensor:
        """Embeddings ``(n, d)`` of token rows, in as many passes as the token budget needs."""
        lengths = [len(row) + self._extra_tokens for row in rows]
        found = torch.empty(len(rows), self.dimension, device=self.device)
        with torch.inference_mode():
            for part in length_batches(lengths, self._budget):
                batch = left_pad([rows[index] for index in part], self._pad_id, self.device)
                found[part] = self._forward([], *batch).float()
        return found

    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        return self._tokenise([prompt + text for text in texts], self.max_length)

    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002 - signature
        with self.network.autocast():
            return pool(self.network.memory(ids, mask))
