"""One optimiser step of each kind of stage: draw the batch, accumulate the gradients, say what happened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.pooling import pool
from llm2comp_train.data.batches import CompressionBatches, PairBatches, SentenceBatches, Split, collate
from llm2comp_train.data.store import TokenStore
from llm2comp_train.data.teacher import Teacher
from llm2comp_train.engine.gradcache import contrastive_backward
from llm2comp_train.engine.processes import Processes
from llm2comp_train.losses.decoding import SplitBatch
from llm2comp_train.losses.ebar import ebar_loss
from llm2comp_train.losses.kl import kl_loss
from llm2comp_train.losses.mntp import mntp_loss
from llm2comp_train.losses.nll import nll_loss
from llm2comp_train.losses.rc import rc_loss
from llm2comp_train.losses.scl import scl_loss
from llm2comp_train.losses.similarity import similarity_loss
from llm2comp_train.losses.ucl import ucl_loss
from llm2comp_train.recipes import Settings

__all__ = [
    "COMPRESSION_LOSSES",
    "Compression",
    "MaskedPrediction",
    "Outcome",
    "Supervised",
    "TextWork",
    "Unsupervised",
    "Work",
]

WASTE = 0.1
"""Share of a pass that may be padding."""
COMPRESSION_LOSSES: dict[str, Callable[..., Tensor]] = {
    "rc": rc_loss,
    "nll": nll_loss,
    "kl": kl_loss,
    "ebar": ebar_loss,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did.

    Attributes:
        loss: this process' share of the batch's loss; the shares add up to it.
        tokens: of the batch that went through the encoder, memory tokens included, padding not.
        rows: of the store, for messages.
    """

    loss: float
    tokens: int
    rows: list[int]


class Work(Protocol):
    """A stage as the loop sees it."""

    def backward(self, step: int) -> Outcome:
        """Accumulate this process' share of a step's gradients in the network's parameters."""
        ...


class TextWork(ABC):
    """Stages that learn from plain texts: the batch is cut into as many passes as the token budget needs."""

    def __init__(
        self,
        settings: Settings,
        network: CompressionNetwork,
        batches: CompressionBatches,
        pad_id: int,
        processes: Processes,
    ) -> None:
        self._settings, self._network, self._batches = settings, network, batches
        self._pad_id, self._processes = pad_id, processes

    @abstractmethod
    def losses(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
        """Loss of each text ``(B,)`` and the memory vectors ``(B, k, d)`` it comes from."""

    def backward(self, step: int) -> Outcome:
        """See :meth:`Work.backward`."""
        splits = self._batches.batch(step)
        total, losses = torch.zeros_like(self._network.memory_tokens), 0.0
        parts = self.passes(self._processes.share(splits))
        idle = self._processes.idle_passes(len(parts))
        for part in parts:
            found, memory = self.losses(part)
            loss = found.sum() / len(splits)
            loss.backward()
            losses += float(loss.detach())
            total = total + memory.detach().float().sum(0)
        for _ in range(idle):
            (0.0 * self.losses(splits[:1])[0].sum()).backward()
        (total,) = self._processes.added(total.detach())
        self._network.track(total, len(splits))
        tokens = sum(len(split.context) + self._network.extra_tokens for split in splits)
        return Outcome(losses, tokens, [split.row for split in splits])

    def passes(self, splits: Sequence[Split]) -> list[list[Split]]:
        """Cut texts, in the order of their lengths, into runs under the token budget and with little padding.

        A run that fills a quarter of the budget ends where a further text would leave over :data:`WASTE` of it padding.
        """
        runs: list[list[Split]] = []
        real = 0
        for split in splits:
            length = len(split.context) + len(split.target) + self._network.extra_tokens
            padded = self._padded([*runs[-1], split]) if runs else 0
            wasteful = padded > self._settings.tokens_per_pass // 4 and real + length < (1 - WASTE) * padded
            if not runs or padded > self._settings.tokens_per_pass or wasteful:
                runs.append([])
                real = 0
            runs[-1].append(split)
            real += length
        return runs

    def _padded(self, splits: Sequence[Split]) -> int:
        width = max(len(split.context) for split in splits) + max(len(split.target) for split in splits)
        return len(splits) * (width + self._network.extra_tokens)

    def _collate(self, splits: Sequence[Split]) -> SplitBatch:
        return collate(splits, self._pad_id, self._network.memory_tokens.device)


class Compression(TextWork):
    """``rc``, ``nll``, ``kl``, ``ebar``: the loss comes from the memory vectors alone."""

    def __init__(self, stage: str, settings: Settings, network: CompressionNetwork, *others: Any) -> None:
        super().__init__(settings, network, *others)
        self._loss = COMPRESSION_LOSSES[stage]

    def losses(self, splits: Sequence[Split], memory_of: Sequence[Split] | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`TextWork`; with ``memory_of``, the texts are given the memory of these others."""
        batch = self._collate(splits)
        read = batch if memory_of is None else self._collate(memory_of)
        with self._network.autocast():
            memory = self._network.memory(read.context, read.context_mask)
            return self._loss(self._network, batch, memory, chunk=self._settings.head_chunk), memory


class MaskedPrediction(TextWork):
    """``mntp``: there is no memory, its vectors are none: ``(B, 0, d)``."""

    def losses(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
        """See :class:`TextWork`."""
        batch = self._collate(splits)
        with self._network.autocast():
            loss = mntp_loss(self._network, batch, chunk=self._settings.head_chunk)
        return loss, self._network.memory_tokens.detach().expand(len(splits), -1, -1)


class _Contrastive:
    """What ``ucl`` and ``scl`` share: embedding token rows under the token budget."""

    def __init__(
        self, settings: Settings, network: CompressionNetwork, store: TokenStore, pad_id: int, processes: Processes
    ) -> None:
        self._settings, self._network, self._store = settings, network, store
        self._pad_id, self._processes = pad_id, processes

    def _backward(self, texts: Sequence[int], loss_of: Callable[[Tensor], Tensor], rows: list[int]) -> Outcome:
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


class Supervised(_Contrastive):
    """``scl``, with a teacher's similarities beside if there is one."""

    def __init__(
        self,
        settings: Settings,
        network: CompressionNetwork,
        store: TokenStore,
        pad_id: int,
        processes: Processes,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(settings, network, store, pad_id, processes)
        self._batches, self._teacher = PairBatches(store, settings), teacher
        self._symmetric = [settings.is_symmetric(name) for name in store.names]

    def backward(self, step: int) -> Outcome:
        """See :meth:`Work.backward`."""
        batch = self._batches.batch(step)
        count = len(batch.rows)
        same = batch.same.to(self._network.memory_tokens.device)
        graded = self._teacher.vectors(batch).to(same.device) if self._teacher else None
        share = self._settings.teacher_weight

        def loss_of(vectors: Tensor) -> Tensor:
            own = scl_loss(
                vectors[:count],
                vectors[count:],
                temperature=self._settings.temperature,
                same=same,
                symmetric=self._symmetric[batch.file],
            )
            if graded is None:
                return own
            learned = similarity_loss(
                vectors,
                graded,
                temperature=self._settings.temperature,
                level_weight=self._settings.teacher_level,
            )
            return (1 - share) * own + share * learned

        return self._backward(batch.texts, loss_of, batch.rows)


class Unsupervised(_Contrastive):
    """``ucl``: every sentence goes through twice, with different dropout."""

    def __init__(
        self, settings: Settings, network: CompressionNetwork, store: TokenStore, pad_id: int, processes: Processes
    ) -> None:
        super().__init__(settings, network, store, pad_id, processes)
        self._batches = SentenceBatches(store, settings)

    def backward(self, step: int) -> Outcome:
        """See :meth:`Work.backward`."""
        rows = self._batches.batch(step)
        texts = [self._store.texts(row)[0] for row in rows]

        def loss_of(vectors: Tensor) -> Tensor:
            return ucl_loss(*vectors.split(len(rows)), temperature=self._settings.temperature)

        return self._backward([*texts, *texts], loss_of, rows)
