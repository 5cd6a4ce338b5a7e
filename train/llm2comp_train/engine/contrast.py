"""Stages whose loss compares the texts of a batch with one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.pooling import pool
from llm2comp_train.engine.gradcache import LossOf, contrastive_backward
from llm2comp_train.engine.work import Outcome, Work

if TYPE_CHECKING:
    from llm2comp_train.stages import Bench

__all__ = ["ContrastiveWork"]


class ContrastiveWork(Work):
    """Base: embeds token rows under the token budget and pushes the loss of all of them back."""

    def __init__(self, bench: Bench) -> None:
        self._settings, self._network, self._store = bench.settings, bench.network, bench.store
        self._pad_id, self._processes = bench.pad_id, bench.processes

    def learn(self, texts: Sequence[int], loss_of: LossOf, rows: list[int], *, late: LossOf | None = None) -> Outcome:
        """Accumulate gradients.

        Args:
            texts: numbers of N texts of the store.
            loss_of: ``(N, d)`` embeddings, in that order, to the loss.
            rows: of the store, for messages.
            late: ``(N, k, d)`` memory vectors, in that order, to the loss of late interaction, which is added with the
                weight that the settings give it.
        """
        weight = self._settings.maxsim_weight if late else 0.0

        def embed(batch: list[list[int]]) -> Tensor:
            memory = self._memory(batch)
            return memory if weight else pool(memory)

        def loss_of_all(found: Tensor) -> Tensor:
            return loss_of(pool(found)) + weight * late(found) if late and weight else loss_of(found)

        ids = [self._store.ids(text) for text in texts]
        loss = contrastive_backward(
            ids,
            embed,
            loss_of_all,
            self._processes,
            tokens_per_pass=self._settings.tokens_per_pass,
            tokens_kept=self._settings.tokens_kept,
            extra_tokens=self._network.extra_tokens,
        )
        return Outcome(loss / self._processes.world, sum(map(len, ids)) + len(ids) * self._network.extra_tokens, rows)

    def _memory(self, rows: list[list[int]]) -> Tensor:
        ids, mask = left_pad(rows, self._pad_id, self._network.memory_tokens.device)
        if mask is None and self._settings.compile:
            mask = torch.ones_like(ids)  # with and without a mask would be two compiled forms of every layer
        with self._network.autocast():
            return self._network.memory(ids, mask)
