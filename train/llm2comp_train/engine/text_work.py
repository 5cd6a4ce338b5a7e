"""Stages that learn from plain texts: one batch, as many passes as the token budget needs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llm2comp_train.data.batches import CompressionBatches, Split, collate
from llm2comp_train.engine.work import Outcome, Work
from llm2comp_train.judging.live import mean_cosine

if TYPE_CHECKING:
    from llm2comp_train.losses.decoding import SplitBatch
    from llm2comp_train.stages import Bench

__all__ = ["CompressionWork", "TextWork"]

WASTE = 0.1
"""Share of a pass that may be padding."""


class TextWork(Work):
    """Base: the batch is cut into as many passes as the token budget needs."""

    def __init__(self, bench: Bench, batches: CompressionBatches) -> None:
        self._bench, self._batches = bench, batches
        self._settings, self._network, self._processes = bench.settings, bench.network, bench.processes

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

    def collate(self, splits: Sequence[Split]) -> SplitBatch:
        """Tensors of split texts, on the network's device."""
        return collate(splits, self._bench.pad_id, self._network.memory_tokens.device)

    def read_part(self, split: Split) -> list[int]:
        """The tokens of a text whose embedding is looked at."""
        return split.context

    def figures(self) -> dict[str, float]:
        """See :meth:`~.work.Work.figures`: the loss of held-out texts, and how alike their embeddings are."""
        held_out = self._batches.validation()
        embeddings = self._bench.live.embed_ids([self.read_part(split) for split in held_out])
        return {**self.validate(held_out), "cosine": mean_cosine(embeddings)}

    @torch.no_grad()
    def validate(self, splits: Sequence[Split]) -> dict[str, float]:
        """Mean loss of held-out texts, as ``validation_loss``; the network is in ``eval()``."""
        total = sum(float(self.losses(part)[0].sum()) for part in self.passes(splits))
        return {"validation_loss": total / len(splits)}


class CompressionWork(TextWork):
    """The loss comes from the memory vectors alone."""

    def __init__(self, bench: Bench, batches: CompressionBatches, loss: Callable[..., Tensor]) -> None:
        super().__init__(bench, batches)
        self._loss = loss

    def losses(self, splits: Sequence[Split], memory_of: Sequence[Split] | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`TextWork`; with ``memory_of``, the texts are given the memory of these others."""
        batch = self.collate(splits)
        read = batch if memory_of is None else self.collate(memory_of)
        with self._network.autocast():
            memory = self._network.memory(read.context, read.context_mask)
            return self._loss(self._network, batch, memory, chunk=self._settings.head_chunk), memory

    @torch.no_grad()
    def validate(self, splits: Sequence[Split]) -> dict[str, float]:
        """What the memory is worth: the loss with another text's memory minus the loss with the text's own.

        A falling training loss alone proves nothing: memory vectors that say the same for every text lower it too, as
        any fixed prompt would. Such a run has a gain near zero.

        Args:
            splits: held-out texts, two at least.

        Returns:
            ``validation_loss`` and ``gain``, in nats per position.
        """
        own = super().validate(splits)
        before = iter([splits[-1], *splits[:-1]])  # neighbours in the order of lengths, so about as long
        other = 0.0
        for part in self.passes(splits):
            other += float(self.losses(part, memory_of=list(islice(before, len(part))))[0].sum())
        return {**own, "gain": other / len(splits) - own["validation_loss"]}
