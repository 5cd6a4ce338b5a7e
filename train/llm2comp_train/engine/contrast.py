"""Stages whose loss compares the texts of a batch with one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.packing import PACKED, PackedTexts, pack, pack_rows
from llm2comp_apps.encoder.pooling import pool
from llm2comp_apps.encoder.readout import DEFAULT_READOUT
from llm2comp_apps.errors import UsageError
from llm2comp_train.engine.gradcache import LossOf, contrastive_backward
from llm2comp_train.engine.work import Outcome, Work

if TYPE_CHECKING:
    from llm2comp_train.settings import Settings
    from llm2comp_train.stages import Bench

__all__ = ["ContrastiveWork"]


class ContrastiveWork(Work):
    """Base: embeds token rows under the token budget and pushes the loss of all of them back."""

    def __init__(self, bench: Bench) -> None:
        """Take a stage's parts.

        Raises:
            UsageError: texts are to be packed, and the network does not read them so.
        """
        self._settings, self._network, self._store = bench.settings, bench.network, bench.store
        self._pad_id, self._processes = bench.pad_id, bench.processes
        if self._settings.attention == PACKED:
            _require_packable(bench.network)
        self._spans: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def packed(self, texts: Sequence[int]) -> PackedTexts | None:
        """Texts of the store in one row, for :meth:`learn`, where they may be read so; safe in another thread."""
        settings = self._settings
        if settings.attention != PACKED or self._processes.world > 1:
            return None
        if self._spans is None:
            self._spans = self._store.spans()
        starts, lengths = (of_all[np.asarray(texts)] for of_all in self._spans)
        if int(lengths.sum()) + len(texts) * self._network.k > min(settings.tokens_per_pass, settings.tokens_kept):
            return None
        before = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
        cuda = self._processes.device.startswith("cuda")  # elsewhere rows of any size go through compiled layers
        found = pack(
            self._store.tokens(places),
            lengths,
            self._network.k,
            self._pad_id,
            settings.max_length,
            least=_most_tokens(settings) if settings.compile and cuda else 0,
        )
        return found.pinned() if cuda else found

    def learn(
        self,
        texts: Sequence[int],
        loss_of: LossOf,
        rows: list[int],
        *,
        late: LossOf | None = None,
        ready: PackedTexts | None = None,
    ) -> Outcome:
        """Accumulate gradients.

        Args:
            texts: numbers of N texts of the store.
            loss_of: ``(N, d)`` embeddings, in that order, to the loss.
            rows: of the store, for messages.
            late: ``(N, k, d)`` memory vectors, in that order, to the loss of late interaction, which is added with the
                weight that the settings give it.
            ready: these texts as :meth:`packed` has made them, if they are all to be read at once.
        """
        weight = self._settings.maxsim_weight if late else 0.0

        def found_in(memory: Tensor) -> Tensor:
            return memory if weight else pool(memory)

        def embed(batch: list[list[int]]) -> Tensor:
            return found_in(self._memory(batch))

        def loss_of_all(found: Tensor) -> Tensor:
            return loss_of(pool(found)) + weight * late(found) if late and weight else loss_of(found)

        if ready is not None:
            whole = loss_of_all(found_in(self._packed_memory(ready)))
            whole.backward()
            return Outcome(float(whole.detach()), ready.tokens, rows)
        ids = [self._store.ids(text) for text in texts]
        loss = contrastive_backward(
            ids,
            embed,
            loss_of_all,
            self._processes,
            tokens_per_pass=self._settings.tokens_per_pass,
            tokens_kept=self._settings.tokens_kept,
            extra_tokens=self._network.extra_tokens,
            packed=self._settings.attention == PACKED,
        )
        return Outcome(loss / self._processes.world, sum(map(len, ids)) + len(ids) * self._network.extra_tokens, rows)

    def _memory(self, rows: list[list[int]]) -> Tensor:
        if self._settings.attention == PACKED:
            return self._packed_memory(pack_rows(rows, self._network.k, self._pad_id, self._settings.max_length))
        ids, mask = left_pad(rows, self._pad_id, self._network.memory_tokens.device)
        if mask is None and self._settings.compile:
            mask = torch.ones_like(ids)  # with and without a mask would be two compiled forms of every layer
        with self._network.autocast():
            return self._network.memory(ids, mask)

    def _packed_memory(self, texts: PackedTexts) -> Tensor:
        with self._network.autocast():
            return self._network.packed_memory(texts.to(self._network.memory_tokens.device))


def _most_tokens(settings: Settings) -> int:
    """Of nearly every batch: they have about ``batch_tokens``, by a text more or less, and windows differ a little."""
    return round(1.03 * settings.batch_tokens) + settings.max_length


def _require_packable(network: CompressionNetwork) -> None:
    """Raises UsageError: see :meth:`CompressionNetwork.packed_memory`."""
    if network.readout is not DEFAULT_READOUT or network.text_layers is not None:
        kind = f"is read by {network.readout.name!r}" if network.text_layers is None else "stops texts behind a layer"
        raise UsageError(f"cannot be packed: the encoder {kind}", field="attention")
