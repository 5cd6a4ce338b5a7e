"""Groups for ``rerank``: a query, its positive and its negatives, and the token rows of their pairs.

Token rows are put together by array operations alone, many pairs at a time: a GPU reads some hundred thousand tokens a
second, and a loop over rows in Python could not feed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm2comp_apps.errors import TrainingError
from llm2comp_train.data.batches import LengthBatches, can_be_told_apart, generator_for
from llm2comp_train.data.store import TokenStore
from llm2comp_train.settings import Settings

__all__ = ["Group", "GroupBatches", "PairRows"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """A query with its documents, the positive first: numbers of texts of the store."""

    row: int
    query: int
    documents: tuple[int, ...]


class PairRows:
    """Token rows of pairs as :func:`llm2comp_apps.encoder.pairs.pair_row` defines them."""

    def __init__(self, store: TokenStore, separator: Sequence[int], limit: int, first: int | None) -> None:
        """Prepare for pairs of the store's texts.

        Args:
            store: queries, with their prompts, and documents.
            separator: token ids.
            limit: most tokens of a row.
            first: id that the tokenizer puts in front of every text, if it does.
        """
        self._store, self._separator = store, np.asarray(separator, dtype=np.int64)
        self._starts, self._lengths = store.spans()
        self._room, self._first = limit - len(self._separator), first

    def _parts(self, queries: Numbers, documents: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Tokens of each query, where its document's tokens start, and how many of them are read."""
        asked = np.minimum(self._lengths[queries], self._room // 2)
        starts, read = self._starts[documents], self._lengths[documents]
        if self._first is not None:
            led = (read > 0) & (self._store.tokens(np.where(read > 0, starts, 0)) == self._first)
            starts, read = starts + led, read - led
        return asked, starts, np.minimum(read, self._room - asked)

    def lengths(self, queries: Numbers, documents: Numbers) -> Numbers:
        """Tokens of each pair's row, ``(n,)``."""
        asked, _, read = self._parts(queries, documents)
        return asked + len(self._separator) + read

    def rows(self, queries: Numbers, documents: Numbers, pad_id: int) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """Left-padded token ids ``(n, T)`` of n pairs, and where they are no padding."""
        asked, starts, read = self._parts(queries, documents)
        behind = asked + len(self._separator)
        lengths = behind + read
        width = int(lengths.max())
        place = np.arange(width)[None, :] - (width - lengths)[:, None]  # of each column in its row
        real, in_query, in_document = place >= 0, place < asked[:, None], place >= behind[:, None]
        in_separator = ~in_query & ~in_document
        source = np.where(in_query, self._starts[queries][:, None] + place, (starts - behind)[:, None] + place)
        ids = self._store.tokens(np.where(real & ~in_separator, source, 0))
        ids[in_separator] = self._separator[(place - asked[:, None])[in_separator]]
        ids[~real] = pad_id
        return ids, real


class GroupBatches:
    """Batches of groups of similar size, a pure function of (seed, step); see :class:`.batches.LengthBatches`.

    A group with fewer negatives than ``settings.negatives`` gets positives of other queries of its batch as well. A
    negative that is the query, the positive or another negative again does not count.
    """

    def __init__(self, store: TokenStore, settings: Settings, pairs: PairRows, extra_tokens: int) -> None:
        """Hold out ``settings.validation_texts`` rows and shuffle the others.

        Args:
            store: rows of a query, a positive and negatives.
            settings: of the stage.
            pairs: rows of its pairs.
            extra_tokens: that the network adds to a pair.

        Raises:
            TrainingError: too few rows, or none whose answer could be told from another text.
        """
        self._store, self._settings = store, settings
        counts = np.array([len(store.texts(row)) - 1 for row in range(len(store))])
        ends = np.cumsum(counts)
        firsts = np.array([store.texts(row).start for row in range(len(store))])
        documents = np.arange(int(ends[-1])) + np.repeat(np.arange(len(store)) + 1, counts)
        lengths = pairs.lengths(np.repeat(firsts, counts), documents) + extra_tokens
        if len(store) < settings.validation_texts + 2:
            raise TrainingError(
                f"the data hold {len(store)} queries, and {settings.validation_texts} are held out for validation. "
                "Give more data, or lower `validation_texts`."
            )
        if not can_be_told_apart(store, np.arange(len(store))):
            raise TrainingError(
                f"there is nothing to tell an answer from: no two of the {len(store)} pairs differ in both texts, and "
                "none has a hard negative. Give more pairs, or negatives."
            )
        without_topics = replace(settings, topics=0)
        self._batches = LengthBatches(store, without_topics, 0, np.add.reduceat(lengths, ends - counts))

    def batch(self, step: int) -> list[Group]:
        """The groups of a step."""
        return self._filled(self._batches.batch(step), step)

    def held_out(self) -> list[Group]:
        """Groups that are never trained on, the same ones at every call."""
        return self._filled(self._batches.held_out(), -1)

    def _filled(self, rows: list[int], step: int) -> list[Group]:
        texts = [self._store.texts(row) for row in rows]
        generator, digests = generator_for(self._settings.seed, step), self._store.digests
        asked = [int(digests[own[0]]) for own in texts]
        groups = []
        for row, own, query in zip(rows, texts, asked, strict=True):
            documents, there = [own[1]], {query, int(digests[own[1]])}
            for text in own[2:]:  # data that were mined elsewhere may name the answer itself among its negatives
                if int(digests[text]) not in there:
                    documents.append(text)
                    there.add(int(digests[text]))
            missing = 1 + self._settings.negatives - len(documents)
            if missing > 0:
                for other in generator.permutation(len(texts)):
                    candidate = texts[int(other)][1]
                    answers = asked[int(other)] == query  # a further answer to the same query is no negative
                    if missing and not answers and int(digests[candidate]) not in there:
                        documents.append(candidate)
                        there.add(int(digests[candidate]))
                        missing -= 1
            groups.append(Group(row, own[0], tuple(documents)))
        return groups
