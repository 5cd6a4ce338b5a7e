"""The search of a collection as a row of an evaluation: texts and queries in, scores of documents out.

    from llm2comp_apps.evaluation import compare
    from llm2comp_apps.retrieval.judged import search_rows

    compare(["default"], tasks, Path("out"), searches=search_rows(["dense", "hybrid"]))

A row indexes the corpus of each task in a temporary folder and asks it every query, with the defaults of a search. An
index that holds the corpus already is searched as it is.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.search import Mode, SearchOptions

__all__ = ["JudgedSearch", "SearchRanker", "search_rows"]

RANKING_VERSION = 1
"""Raised when searches rank in another way, so that kept scores are computed again."""

DEPTH = 200
"""Hits of a query that are scored. A search for ten hits joins as many candidates of either side, so that a deeper
ranking would be of another fusion than the one that people see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSearch:
    """A way of searching that can be a row.

    Attributes:
        mode: ``dense``, ``lexical`` or ``hybrid``.
        collection: what is searched; ``None`` for an index of each task's corpus.
    """

    mode: Mode
    collection: Collection | None = None

    @property
    def needs_encoder(self) -> bool:
        """Whether every encoder makes a row of its own; words, and an index that is there, need none."""
        return self.collection is None and self.mode != "lexical"

    def ranker(self, encoder: TextEncoder | None = None) -> SearchRanker:
        """What ranks the documents of a task."""
        return SearchRanker(self.mode, encoder, self.collection)


def search_rows(
    modes: Sequence[str], *, index: Path | None = None, device: str | None = None
) -> dict[str, JudgedSearch]:
    """Rows by their labels; each encoder puts its own in front of those that need one.

    Args:
        modes: any of ``dense``, ``lexical`` and ``hybrid``; none for hybrid if there is an index.
        index: an index of the corpus, whose ids are those of the task; its own encoder is loaded when it is needed.
        device: where that runs; ``None`` for the best there is.

    Raises:
        UsageError: an unknown mode, or no such index.
        IndexStoreError: it is no index, or a damaged one.
    """
    for mode in modes:
        if mode not in get_args(Mode):
            raise UsageError(f"must be one of {', '.join(get_args(Mode))}, not {mode!r}", field="search")
    if index is None:
        return {f"{mode} search": JudgedSearch(mode=mode) for mode in get_args(Mode) if mode in modes}
    library = Collection.open(index, device=device)
    chosen = modes or ("hybrid",)
    return {
        f"{library.path.name} {mode} search": JudgedSearch(mode=mode, collection=library)
        for mode in get_args(Mode)
        if mode in chosen
    }


class SearchRanker:
    """Ranks the documents of a task as a search for them would.

    Args:
        mode: of the search.
        encoder: of documents and queries, with its own prompts; ``None`` for a search by words, or in a collection.
        collection: what is searched; ``None`` for a temporary one of the corpus.
    """

    def __init__(self, mode: Mode, encoder: TextEncoder | None = None, collection: Collection | None = None) -> None:
        self.name = f"{mode} search"
        self._mode: Mode = mode
        self._encoder = encoder or _Wordless()
        self._collection = collection
        about: dict[str, object] = {"ranking": RANKING_VERSION, "mode": mode, "tantivy": version("tantivy")}
        if collection is None:
            about |= {"encoder": self._encoder.fingerprint, "prompts": self._encoder.prompts}
        else:
            info = collection.info()
            made = (collection.path / "store.db").stat().st_ctime_ns
            about |= {"index": [str(collection.path.resolve()), made, info.generation, info.encoder]}
        self.fingerprint = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def search(self, corpus: Mapping[str, str], queries: Mapping[str, str], top_k: int) -> dict[str, dict[str, float]]:
        """The best documents of each query, at most :data:`DEPTH`; an empty query finds none.

        Raises:
            EvaluationError: the collection holds other documents than the task.
        """
        asked = {identifier: text for identifier, text in queries.items() if text.strip()}
        options = SearchOptions(k=min(top_k, DEPTH), mode=self._mode)
        with self._searched(corpus) as library:
            rankings = library.searcher(self._mode).rank(list(asked.values()), options)
        return {
            identifier: {hit.id: hit.score for hit in ranking}
            for identifier, ranking in zip(asked, rankings, strict=True)
        }

    @contextmanager
    def _searched(self, corpus: Mapping[str, str]) -> Iterator[Collection]:
        if self._collection is not None:
            _check_same(self._collection, corpus)
            yield self._collection
            return
        kind = "flat" if isinstance(self._encoder, _Wordless) else "auto"
        with (
            tempfile.TemporaryDirectory() as folder,
            Collection.create(Path(folder) / "task.index", encoder=self._encoder, kind=kind) as library,
        ):
            library.update(Document(identifier, text) for identifier, text in corpus.items())
            yield library


class _Wordless:
    """Gives every text the same vector: an index that is searched by words alone needs some, and reads none."""

    name = "none"
    fingerprint = "none"
    dimension = 1

    def __init__(self) -> None:
        self.prompts: dict[str, str] = {}

    def encode(self, texts: Sequence[str], **_: object) -> FloatArray:
        return np.ones((len(texts), 1), dtype=np.float32)

    def encode_stream(self, texts: Iterable[str], **_: object) -> Iterator[FloatArray]:
        yield self.encode(list(texts))


def _check_same(library: Collection, corpus: Mapping[str, str]) -> None:
    """Scores over another corpus say nothing of a task: more documents are harder, fewer are easier."""
    held = set(library.index.ids())
    lacking, more = corpus.keys() - held, held - corpus.keys()
    if lacking:
        raise EvaluationError(f"{library.path} lacks {len(lacking)} of {len(corpus)} documents, such as {min(lacking)}")
    if more:
        reason = f"{library.path} holds {len(more)} documents that the task has not, such as {min(more)}"
        raise EvaluationError(f"{reason}; a sampled suite has a part of a corpus only")
