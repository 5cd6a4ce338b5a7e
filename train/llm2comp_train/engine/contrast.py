"""Stages whose loss compares the texts of a batch with one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.pooling import pool
from llm2comp_train.engine.gradcache import contrastive_backward
from llm2comp_train.engine.work import Outcome, Work

if TYPE_CHECKING:
    from llm2comp_train.stages import Bench

__all__ = ["ContrastiveWork"]


class ContrastiveWork(Work):
    """Base: embeds token rows under the token budget and pushes the loss of all of them back."""

    def __init__(self, bench: Bench) -> None:
        self._settings, self._network, self._store = bench.settings, bench.network, bench.store
        self._pad_id, self._processes = bench.pad_id, bench.processes

    def learn(self, texts: Sequence[int], loss_of: Callable[[Tensor], Tensor], rows: list[int]) -> Outcome:
        """Accumulate gradients.

        Args:
            texts: numbers of N texts of the store.
            loss_of: ``(N, d)`` embeddings, in that order, to the loss.
            rows: of the store, for messages.
        """
        ids = [self._store.ids(text) for text in texts]
        loss = contrastive_backward(
            ids,
            self._embed,
            loss_of,
            self._processes,
            tokens_per_pass=self._settings.tokens_per_pass,
            tokens_kept=self._settings.tokens_kept,
            extra_tokens=self._network.extra_tokens,
        )
        return Outcome(loss / self._processes.world, sum(map(len, ids)) + len(ids) * self._network.extra_tokens, rows)

    def _embed(self, rows: list[list[int]]) -> Tensor:
        ids, mask = left_pad(rows, self._pad_id, self._network.memory_tokens.device)
        if mask is None and self._settings.compile:
            mask = torch.ones_like(ids)  # with and without a mask would be two compiled forms of every layer
        with self._network.autocast():
            return pool(self._network.memory(ids, mask))
