"""Scores of groups, a query's documents each read together with it, under the token budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.pairs import SEPARATOR
from llm2comp_train.data.groups import Group, PairRows

if TYPE_CHECKING:
    from llm2comp_train.stages import Bench

__all__ = ["GroupScorer", "pair_rows_of"]


def pair_rows_of(bench: Bench) -> PairRows:
    """The rows of pairs of a run's texts."""
    tokenizer = bench.backbone.tokenizer
    separator = tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    # The store's texts have what the tokenizer puts in front of every text; most have nothing.
    leads = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return PairRows(bench.store, separator, bench.settings.max_length, tokenizer.bos_token_id if leads else None)


class GroupScorer:
    """The network in training, and how it reads groups."""

    def __init__(self, bench: Bench, pairs: PairRows) -> None:
        self._network, self._settings, self._pairs = bench.network, bench.settings, pairs
        self._pad_id, self._device = bench.pad_id, bench.network.memory_tokens.device

    def tokens(self, groups: Sequence[Group]) -> int:
        """Tokens of the groups' rows, memory tokens included, padding not."""
        return sum(self._lengths(groups))

    def parts(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Cut groups into parts whose activations may be kept at once; a single larger group is a part of its own."""
        parts: list[list[Group]] = []
        held = 0
        for group in groups:
            size = sum(self._lengths([group]))
            if not parts or held + size > self._settings.tokens_kept:
                parts.append([])
                held = 0
            parts[-1].append(group)
            held += size
        return parts

    def passes(self, groups: Sequence[Group]) -> int:
        """Passes that :meth:`scores` takes."""
        return len(self._batches(groups))

    def scores(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
        """Scores ``(G, D)`` float32, each query's positive first, and where a query has a document, bool."""
        queries, documents = _pairs(groups)
        batches = self._batches(groups)
        pieces = [self._pass(queries[batch], documents[batch]) for batch in batches]
        order = torch.from_numpy(np.argsort(np.concatenate(batches))).to(self._device)
        counts = np.array([len(group.documents) for group in groups])
        there = np.arange(counts.max())[None, :] < counts[:, None]
        place = np.zeros(there.shape, dtype=np.int64)
        place[there] = np.arange(len(queries))
        scores = torch.cat(pieces)[order][torch.from_numpy(place).to(self._device)]
        return scores, torch.from_numpy(there).to(self._device)

    def one(self, group: Group) -> Tensor:
        """The score of a group's positive, ``()``."""
        return self._pass(np.array([group.query]), np.array(group.documents[:1])).sum()

    def _pass(self, queries: np.ndarray, documents: np.ndarray) -> Tensor:
        rows, real = self._pairs.rows(queries, documents, self._pad_id)
        ids = torch.from_numpy(rows).to(self._device)
        mask = None
        if self._settings.compile or not real.all():  # with and without a mask would be two forms to compile
            mask = torch.from_numpy(real.astype(np.int64)).to(self._device)
        with self._network.autocast():
            return self._network.score(ids, mask)

    def _lengths(self, groups: Sequence[Group]) -> list[int]:
        lengths: list[int] = (self._pairs.lengths(*_pairs(groups)) + self._network.extra_tokens).tolist()
        return lengths

    def _batches(self, groups: Sequence[Group]) -> list[list[int]]:
        return length_batches(self._lengths(groups), self._settings.tokens_per_pass)


def _pairs(groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    """Queries and documents of all pairs, group by group."""
    queries = np.repeat([group.query for group in groups], [len(group.documents) for group in groups])
    return queries, np.array([text for group in groups for text in group.documents])
