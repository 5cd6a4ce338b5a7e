"""Several indexes as one: the same hits and scores as one index of all their documents.

Vectors are compared one with another, so the best of all are among the best of each. Words are worth what all documents
make them (see `statistics`). Equal scores are in the order of the indexes, and in each in the order in which the
documents were added: that of one index into which they were put one after another.

Two limits. Where an index has an approximate FAISS index, each shard has one of its own, and what is missed differs.
And deleted documents count in the statistics of words until they are merged away, which happens to each index at
another time; after `compact` they agree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.dense.kinds import Policy
from llm2comp_indexes.errors import InputError
from llm2comp_indexes.index import Index
from llm2comp_indexes.operators import Clause
from llm2comp_indexes.statistics import LexicalStatistics
from llm2comp_indexes.storage.fields import (
    MOST_DOCUMENTS,
    FieldSummary,
    PredicateCount,
    Values,
    joined,
    joined_values,
)
from llm2comp_indexes.types import Damage, Float32Array, Hit, IndexedDocument, IndexInfo, Listing, QueryWords

__all__ = ["WORDS_ROUNDING", "Question", "ShardedIndex", "merged"]

WORDS_ROUNDING = 5e-7
"""By how much BM25 of two indexes differs for the same words: a few roundings of float32."""
_SAME = ("metric", "language")  # settings without which scores cannot be compared
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A call of one of the methods by which an index is read.

    Attributes:
        method: of `Index`.
        args: of the call, without the index.
        named: of the call.
    """

    method: Callable[..., Any]
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


class ShardedIndex:
    """Reads several indexes as one. Each document is in one of them only; write to them one by one.

    Attributes:
        shards: the indexes.
    """

    def __init__(self, shards: Sequence[Index]) -> None:
        """Join open indexes, which are closed with this one.

        Raises:
            InputError: there is none, or they do not fit each other.
        """
        if not shards:
            raise InputError("needs at least one index", field="shards")
        first = shards[0]
        for shard in shards[1:]:
            ours, theirs = _identity(first), _identity(shard)
            if wrong := [name for name in ours if ours[name] != theirs[name]]:
                both = f"{theirs[wrong[0]]!r}, and {first.path} has {ours[wrong[0]]!r}"
                raise InputError(f"{shard.path}: cannot be searched together, its {wrong[0]} is {both}")
        self.shards = list(shards)

    @classmethod
    def open(cls, paths: Sequence[str | Path], *, device: str = "cpu") -> ShardedIndex:
        """Open several indexes; raises what `Index.open` does, or `InputError`.

        Together they keep as much in memory as one index does.
        """
        with ExitStack() as stack:
            shards = [stack.enter_context(Index.open(path, device=device, share=len(paths))) for path in paths]
            made = cls(shards)
            stack.pop_all()
        return made

    def _answers(self, questions: Mapping[int, Question]) -> dict[int, Any]:
        """What indexes answer, by their numbers: the one way in which they are read.

        Another class may ask them in another way, over a network for instance, and leave out those that do not answer.
        """
        return {
            number: question.method(self.shards[number], *question.args, **question.named)
            for number, question in questions.items()
        }

    def _ask(self, method: Callable[Concatenate[Index, P], T], *args: P.args, **named: P.kwargs) -> list[T]:
        """What each index answers, in their order."""
        question = Question(method, args, named)
        return list(self._answers(dict.fromkeys(self._numbers, question)).values())

    @property
    def _numbers(self) -> range:
        return range(len(self.shards))

    def search(
        self,
        vectors: npt.ArrayLike,
        k: int,
        *,
        where: str | None = None,
        exact: bool = False,
        clauses: Sequence[Clause] = (),
    ) -> list[list[Hit]]:
        """The k nearest documents of each query vector; see `Index.search`."""
        found = self._ask(Index.search, vectors, k, where=where, exact=exact, clauses=clauses)
        return [merged(hits, k) for hits in zip(*found, strict=True)]

    def lexical_statistics(self, query: str) -> LexicalStatistics:
        """Those of all documents."""
        return LexicalStatistics.total(self._ask(Index.lexical_statistics, query))

    def search_lexical(
        self,
        query: str,
        k: int,
        *,
        where: str | None = None,
        clauses: Sequence[Clause] = (),
        statistics: LexicalStatistics | None = None,
    ) -> list[Hit]:
        """The k best documents by BM25; see `Index.search_lexical`."""
        known = self.lexical_statistics(query) if statistics is None else statistics
        found = self._ask(Index.search_lexical, query, k, where=where, clauses=clauses, statistics=known)
        return merged(found, k, rounding=WORDS_ROUNDING)

    def query_words(self, query: str) -> QueryWords:
        """What a query asks of the words of all documents; see `Index.query_words`."""
        known = self.lexical_statistics(query)
        return max(self._ask(Index.query_words, query, statistics=known))  # one without words has none

    def get(self, ids: Sequence[str]) -> list[IndexedDocument]:
        """The documents of ``ids``, in that order.

        Raises:
            KeyError: an id is in none of the indexes.
        """
        held = self._held(ids)
        answers = self._answers({number: Question(Index.get, (there,)) for number, there in held.items()})
        found = {document.id: document for documents in answers.values() for document in documents}
        return [found[id_] for id_ in ids]

    def _held(self, ids: Sequence[str]) -> dict[int, list[str]]:
        """The ids that each index has, by its number.

        Raises:
            KeyError: an id is in none of them.
        """
        question = Question(Index.hashes, (list(ids),))
        hashes: dict[int, dict[str, str]] = self._answers(dict.fromkeys(self._numbers, question))
        holder = {id_: number for number in reversed(hashes) for id_ in hashes[number]}
        held: dict[int, list[str]] = {}
        for id_ in dict.fromkeys(ids):
            held.setdefault(holder[id_], []).append(id_)
        return held

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hash of each of ``ids`` that is in one of the indexes."""
        return {id_: hash_ for found in self._ask(Index.hashes, ids) for id_, hash_ in found.items()}

    def ids(self, *, where: str | None = None) -> Iterator[str]:
        """Every id, or those whose document satisfies ``where``, one index after another."""
        for shard in self.shards:
            yield from shard.ids(where=where)

    def listing(self, *, where: str | None = None, offset: int = 0, limit: int, fields: Sequence[str] = ()) -> Listing:
        """A page of the documents, one index after another; see `Index.listing`."""
        ids: list[str] = []
        before = 0  # documents of the indexes that come first
        parts = self._ask(Index.listing, where=where, limit=offset + limit, fields=fields)
        for part in parts:
            ids += part.ids[max(0, offset - before) : max(0, offset + limit - before)]
            before += part.total
        return Listing(before, ids, {name: joined_values([part.counts[name] for part in parts]) for name in fields})

    def value_counts(self, field: str, ids: Sequence[str]) -> Values:
        """How many documents of ``ids`` have each value of a field; see `Index.value_counts`."""
        return joined_values(self._ask(Index.value_counts, field, ids))

    def predicate_counts(self, where: str) -> list[PredicateCount]:
        """How many documents of all indexes meet each predicate of ``where`` alone; see `Index.predicate_counts`."""
        total: dict[str, PredicateCount] = {}
        for counts in self._ask(Index.predicate_counts, where):
            for count in counts:
                before = total.get(count.text)
                total[count.text] = replace(count, documents=count.documents + (before.documents if before else 0))
        return list(total.values())

    def field(self, *names: str) -> FieldSummary:
        """What a metadata field holds in all indexes; see `Index.field`."""
        return joined(self._ask(Index.field, *names))

    def fields(self) -> list[FieldSummary]:
        """What all metadata fields hold, sorted by name; see `Index.fields`, which looks at some documents of each."""
        parts: dict[str, list[FieldSummary]] = {}
        looked_at = 0
        found = self._answers(dict.fromkeys(self._numbers, Question(Index.fields)))
        for each in found.values():
            looked_at += each[0].looked_at if each else 0
            for part in each:
                parts.setdefault(part.name, []).append(part)
        # An index without any field has looked at documents, too, but no field says at how many.
        asked = Question(Index.listing, named={"where": None, "limit": 0, "fields": ()})
        silent = {number: asked for number, each in found.items() if not each}
        if parts and silent:
            looked_at += sum(min(page.total, MOST_DOCUMENTS) for page in self._answers(silent).values())
        return [replace(joined(parts[name]), looked_at=looked_at) for name in sorted(parts)]

    def unknown_fields(self, where: str) -> dict[str, list[str]]:
        """The fields that ``where`` names and no document of any index has; see `Index.unknown_fields`."""
        found = self._ask(Index.unknown_fields, where)
        common = set(found[0]).intersection(*found[1:])
        return {name: sorted({each for one in found for each in one[name]}) for name in found[0] if name in common}

    def vectors(self, ids: Sequence[str]) -> Float32Array:
        """The vectors of documents, all rows of each in turn.

        Raises:
            KeyError: an id is in none of the indexes.
        """
        rows: dict[str, Float32Array] = {}
        held = self._held(ids)
        found = self._answers({number: Question(Index.vectors, (there,)) for number, there in held.items()})
        chunked = [number for number, there in held.items() if len(found[number]) != len(there)]
        # How many rows each document has is asked only where it is not one.
        known = self._answers({number: Question(Index.get, (held[number],)) for number in chunked})
        for number, there in held.items():
            counts = [document.rows for document in known[number]] if number in known else [1] * len(there)
            rows |= zip(there, np.split(found[number], np.cumsum(counts)[:-1]), strict=True)
        return np.concatenate([rows[id_] for id_ in ids]) if ids else np.empty((0, self.dimension), dtype=np.float32)

    def memory(self, ids: Sequence[str], spans: Sequence[tuple[int, int] | None] | None = None) -> Float32Array:
        """Stored memory vectors; see `Index.memory`."""
        wanted = spans or [None] * len(ids)
        places: dict[int, list[int]] = {}
        for number, held in self._held(ids).items():
            there = set(held)
            places[number] = [place for place, id_ in enumerate(ids) if id_ in there]
        answers = self._answers(
            {
                number: Question(Index.memory, ([ids[place] for place in some], [wanted[place] for place in some]))
                for number, some in places.items()
            }
        )
        gathered = np.empty((len(ids), self.memory_tokens, self.dimension), dtype=np.float32)
        for number, some in places.items():
            gathered[some] = answers[number]
        return gathered

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents, index by index; returns how many there were. Ids that are in none are passed over."""
        count = 0
        for shard in self.shards:
            if held := list(shard.hashes(ids)):
                with shard.writer() as writer:
                    count += writer.delete(held)
                    writer.commit()
        return count

    def writer(self, device: str = "cpu") -> NoReturn:  # noqa: ARG002 - as of `Index.writer`
        """There is none: which index a new document belongs to is not known here.

        Raises:
            InputError: says so.
        """
        raise InputError(f"{self.path} and others are read as one; write to them one by one")

    def compact(self, policy: Policy | None = None, device: str = "cpu") -> NoReturn:
        """Refused as :meth:`writer` is: each index has settings of its own."""
        del policy
        self.writer(device)

    def verify(self) -> list[Damage]:
        """What is damaged in any of them; see `Index.verify`."""
        return [damage for shard in self.shards for damage in shard.verify()]

    def info(self) -> IndexInfo:
        """What the indexes say of themselves: sums, and the rest of the first."""
        known = [shard.info() for shard in self.shards]
        counts = ("generation", "documents", "vectors", "deleted", "segments", "bytes")
        return replace(known[0], **{name: sum(getattr(one, name) for one in known) for name in counts})

    def refresh(self) -> bool:
        """Move on to the newest generation of each; returns whether there was a newer one."""
        moved = [shard.refresh() for shard in self.shards]
        return any(moved)

    def pinned(self) -> ShardedIndex:
        """These generations as a reader of its own; see `Index.pinned`."""
        pinned = copy.copy(self)
        pinned.shards = [shard.pinned() for shard in self.shards]
        return pinned

    @property
    def path(self) -> Path:
        """The folder of the first; for messages."""
        return self.shards[0].path

    @property
    def generation(self) -> int:
        """Grows with each commit that this reader sees."""
        return sum(shard.generation for shard in self.shards)

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return self.shards[0].dimension

    @property
    def memory_tokens(self) -> int:
        """Memory vectors kept per row; 0 = none."""
        return self.shards[0].memory_tokens

    @property
    def encoder(self) -> dict[str, str]:
        """What made the vectors."""
        return self.shards[0].encoder

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first."""
        return self.shards[0].settings

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def close(self) -> None:
        """Let go of the files."""
        for shard in self.shards:
            shard.close()

    def __enter__(self) -> ShardedIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def merged(rankings: Sequence[Sequence[Hit]], k: int, *, rounding: float = 0.0) -> list[Hit]:
    """The k best hits of several rankings; the earlier ranking comes first among equals.

    Args:
        rankings: best first. Of an id that is in two of them the better hit counts.
        k: hits wanted.
        rounding: scores that differ by no more, relative to the score, are taken for equal: one index would have them
            so, and each of several rounds in another way.
    """
    every = sorted((hit for ranking in rankings for hit in ranking), key=lambda hit: -hit.score)  # stable
    order = {id(hit): place for place, hit in enumerate(hit for ranking in rankings for hit in ranking)}
    best: dict[str, Hit] = {}
    start = 0
    while start < len(every) and len(best) < k:
        first, stop = every[start].score, start + 1
        while stop < len(every) and first - every[stop].score <= rounding * abs(first):
            stop += 1
        for hit in sorted(every[start:stop], key=lambda hit: order[id(hit)]):
            best.setdefault(hit.id, hit._replace(score=first))
        start = stop
    return list(best.values())[:k]


def _identity(index: Index) -> dict[str, Any]:
    """What must be the same in all indexes that are searched together."""
    settings = {name: index.settings.get(name) for name in _SAME}
    known = {"dimension": index.dimension, "memory_tokens": index.memory_tokens, **settings}
    return {**known, "encoder": index.encoder.get("fingerprint")}
