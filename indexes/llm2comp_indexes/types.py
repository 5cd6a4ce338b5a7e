"""What goes into an index and what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Damage",
    "Float16Array",
    "Float32Array",
    "Hit",
    "IndexInfo",
    "IndexedDocument",
    "Int64Array",
    "Listing",
    "QueryWords",
]

Float16Array = npt.NDArray[np.float16]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document as an index stores it.

    Attributes:
        id: unique in the index; adding it again replaces the document.
        text: the body.
        title: may be empty.
        metadata: JSON-shaped; what ``where`` expressions filter on.
        spans: character spans of the chunks of ``text``, one vector each; empty = one vector for the whole document.
        content_hash: of text, encoder and prompt, by the caller; an equal hash means that nothing changed.
    """

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    spans: tuple[tuple[int, int], ...] = ()
    content_hash: str = ""

    @property
    def rows(self) -> int:
        """How many vectors belong to it."""
        return max(1, len(self.spans))


class Hit(NamedTuple):
    """One found document.

    Attributes:
        id: the document's.
        score: cosine or inner product of its best chunk, or BM25; higher is better.
        span: of the best chunk; None where the document is one piece, and in lexical search.
    """

    id: str
    score: float
    span: tuple[int, int] | None = None


class Listing(NamedTuple):
    """Documents without a query.

    Attributes:
        total: documents that meet the condition.
        ids: of those on the page, in the order in which they were added.
        counts: for each field how many of all have each value, the most frequent first.
    """

    total: int
    ids: list[str]
    counts: dict[str, tuple[tuple[str | float, int], ...]]


class QueryWords(NamedTuple):
    """What a query asks of the words of an index.

    Attributes:
        most: what BM25 gives to no document for it, however well it fits: its score divided by this is the share of the
            query that a document covers.
        content: different words in it that are no function words.
    """

    most: float
    content: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of an index that is not what was committed.

    Attributes:
        file: path relative to the index.
        reason: what is wrong with it.
    """

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index says of itself.

    Attributes:
        path: of the directory.
        format: version of the directory format.
        generation: number of the last commit.
        documents: live documents.
        vectors: stored rows, deleted ones included until they are merged away.
        deleted: rows that wait to be merged away.
        dimension: of a vector.
        memory_tokens: memory vectors per row kept for reranking; 0 = none.
        encoder: name and fingerprint of what made the vectors.
        settings: as given at creation.
        kind: how vectors are searched, ``flat`` or a FAISS factory string.
        segments: number of vector segments.
        bytes: on disk, everything together, once nobody has it open: changes that still wait beside ``store.db`` do not
            count twice.
        reason: why ``kind`` is ``flat`` although the settings ask for another; None if it is as they ask.
        recall: measured recall@10 of ``kind`` against exact search; None for ``flat``, which is exact.
        queries_per_second: measured beside ``recall``.
    """

    path: str
    format: int
    generation: int
    documents: int
    vectors: int
    deleted: int
    dimension: int
    memory_tokens: int
    encoder: dict[str, str]
    settings: dict[str, Any]
    kind: str
    segments: int
    bytes: int
    reason: str | None = None
    recall: float | None = None
    queries_per_second: float | None = None

    def lines(self) -> list[str]:
        """What is known, a line each, for people."""
        lines = []
        for name, value in asdict(self).items():
            if value is not None:
                first, *others = _readable(name, value)
                lines += [f"{name.replace('_', ' '):<20}{first}", *(" " * 20 + line for line in others)]
        return lines


def _readable(name: str, value: Any) -> list[str]:
    if isinstance(value, float):
        return [f"{value:,.0f}" if value >= 100 else f"{value:.4g}"]
    if name == "bytes":
        return [f"{value:,} ({value / 2**20:.1f} MiB)"]
    if isinstance(value, dict):
        return [f"{key}: {_in_short(part)}" for key, part in value.items() if part not in (None, "")] or ["-"]
    return [f"{value:,}" if isinstance(value, int) else str(value)]


def _in_short(part: Any) -> str:
    """A setting on one line; of what was learned only the single values, since a network has hundreds of others."""
    if not isinstance(part, dict):
        return str(part)
    single = {key: each for key, each in part.items() if not isinstance(each, list | dict)}
    said = [f"{key} {each}" for key, each in single.items() if each not in (None, "")]
    return ", ".join(said if len(single) == len(part) else [*said, "..."])
