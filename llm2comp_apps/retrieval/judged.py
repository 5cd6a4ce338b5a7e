"""The search of a collection as a row of an evaluation: texts and queries in, scores of documents out.

    from llm2comp_apps.evaluation import compare
    from llm2comp_apps.retrieval.judged import search_rows

    compare(["default"], tasks, Path("out"), searches=search_rows(["dense", "hybrid"]))

A row indexes the corpus of each task in a temporary folder and asks it every query, with the defaults of a search. An
index that holds the corpus already is searched as it is. The row ``rerank`` has the best hits of a hybrid search
scored again by a reranker, and the others below them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.progress import EncodingProgress, watch_encoding, watcher
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.hits import Ranked, followed_by
from llm2comp_apps.retrieval.models import Models
from llm2comp_apps.retrieval.options import RERANK_DEPTH, Mode, SearchOptions
from llm2comp_apps.retrieval.rerank import LIKELIHOOD, LTR, MEMORY, TOKENS, UPR, WORDS, Reranker, load_joint_reranker
from llm2comp_apps.retrieval.rerank.own import files_sha256_of

__all__ = ["RERANK", "WAYS", "JudgedSearch", "RerankModel", "SearchRanker", "search_rows"]

RERANK = "rerank"
"""The way of searching that reranks the hits of a hybrid search."""

RANKING_VERSION = 2
"""Raised when searches rank in another way, so that kept scores are computed again."""

DEPTH = 200
"""Hits of a query that are scored. A search for ten hits joins as many candidates of either side, so that a deeper
ranking would be of another fusion than the one that people see."""


RERANKED = 50
"""Hits of a query that a reranker scores again, one by one."""

WAYS = (*get_args(Mode), RERANK)
"""Ways of searching that can be rows."""


@dataclass(slots=True, kw_only=True)
class RerankModel:
    """A reranker by name, loaded when it is needed first.

    Attributes:
        name: ``memory``, ``tokens``, ``ltr``, ``words``, ``likelihood``, ``upr``, or one of
            :func:`.load_joint_reranker`.
        device: where it runs; ``None`` for the best there is.
    """

    name: str
    device: str | None = None
    _joint: Reranker | None = field(default=None, repr=False)

    @property
    def reads_stored(self) -> bool:
        """Whether it reads memory vectors that an index can hold."""
        return self.name in (MEMORY, LIKELIHOOD)

    @property
    def depth(self) -> int:
        """Hits of a query that it scores again: those of a search where it compares them with each other."""
        return RERANK_DEPTH if self.name in (LTR, WORDS) else RERANKED

    @property
    def identity(self) -> dict[str, str]:
        """What decides its scores, beside the encoder of the index."""
        return {"name": self.name, "files": files_sha256_of(self.name)}

    def load(self, library: Collection, source: str | None) -> Reranker:
        """The reranker of the hits of a collection.

        Args:
            library: with its encoder.
            source: loads that encoder again, by name; ``None`` for what the collection remembers.

        Raises:
            EncoderError: it cannot be found or loaded.
            UsageError: the encoder has no memory vectors.
        """
        if self.name in (MEMORY, TOKENS, LTR, WORDS, LIKELIHOOD, UPR):
            return Models(library.index, library.encoder, device=self.device).encoder_reranker(self.name, source)
        if self._joint is None:
            self._joint = load_joint_reranker(self.name, self.device)
        return self._joint


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSearch:
    """A way of searching that can be a row.

    Attributes:
        mode: ``dense``, ``lexical`` or ``hybrid``.
        collection: what is searched; ``None`` for an index of each task's corpus.
        reranker: scores the best hits again.
    """

    mode: Mode
    collection: Collection | None = None
    reranker: RerankModel | None = None

    @property
    def needs_encoder(self) -> bool:
        """Whether every encoder makes a row of its own; words, and an index that is there, need none."""
        return self.collection is None and self.mode != "lexical"

    def ranker(self, encoder: TextEncoder | None = None, source: str | None = None) -> SearchRanker:
        """What ranks the documents of a task; ``source`` is the name of the encoder, by which it can be loaded."""
        return SearchRanker(self.mode, encoder, self.collection, reranker=self.reranker, source=source)


def search_rows(
    modes: Sequence[str],
    *,
    rerank: Sequence[str] = (),
    index: Path | None = None,
    device: str | None = None,
) -> dict[str, JudgedSearch]:
    """Rows by their labels; each encoder puts its own in front of those that need one.

    Args:
        modes: any of ``dense``, ``lexical``, ``hybrid`` and ``rerank``; none for hybrid if there is an index.
        rerank: rerankers by name, a row each; by memory vectors if ``rerank`` is among the modes and none is named.
        index: an index of the corpus, whose ids are those of the task; its own encoder is loaded when it is needed.
        device: where that and rerankers run; ``None`` for the best there is.

    Raises:
        UsageError: an unknown mode, or no such index.
        IndexStoreError: it is no index, or a damaged one.
    """
    for mode in modes:
        if mode not in WAYS:
            raise UsageError(f"must be one of {', '.join(WAYS)}, not {mode!r}", field="search")
    library = None if index is None else Collection.open(index, device=device)
    start = "" if library is None else f"{library.path.name} "
    models = dict.fromkeys(rerank or ((MEMORY,) if RERANK in modes else ()))
    chosen = modes or (("hybrid",) if library and not models else ())
    rows = {
        f"{start}{mode} search": JudgedSearch(mode=mode, collection=library)
        for mode in get_args(Mode)
        if mode in chosen
    }
    for name in models:
        model = RerankModel(name=name, device=device)
        rows[f"{start}rerank search ({name})"] = JudgedSearch(mode="hybrid", collection=library, reranker=model)
    return rows


class SearchRanker:
    """Ranks the documents of a task as a search for them would.

    Args:
        mode: of the search.
        encoder: of documents and queries, with its own prompts; ``None`` for a search by words, or in a collection.
        collection: what is searched; ``None`` for a temporary one of the corpus.
        reranker: scores the best hits again.
        source: the name of the encoder, for rerankers that load it in another form.
    """

    def __init__(
        self,
        mode: Mode,
        encoder: TextEncoder | None = None,
        collection: Collection | None = None,
        *,
        reranker: RerankModel | None = None,
        source: str | None = None,
    ) -> None:
        self.name = f"{mode} search" if reranker is None else f"{RERANK} search ({reranker.name})"
        self._mode: Mode = mode
        self._encoder = encoder or _Wordless()
        self._collection = collection
        self._reranker = reranker
        self._source = source
        about: dict[str, object] = {"ranking": RANKING_VERSION, "mode": mode, "tantivy": version("tantivy")}
        if collection is None:
            about |= {"encoder": self._encoder.fingerprint, "prompts": self._encoder.prompts}
        else:
            info = collection.info()
            made = (collection.path / "store.db").stat().st_ctime_ns
            about |= {"index": [str(collection.path.resolve()), made, info.generation, info.encoder]}
        if reranker is not None:
            about |= {"rerank": [reranker.identity, reranker.depth]}
        self.fingerprint = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def search(
        self, corpus: Mapping[str, str], queries: Mapping[str, str], top_k: int, titles: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query, at most :data:`DEPTH`; an empty query finds none.

        Raises:
            EvaluationError: the collection holds other documents than the task.
            EncoderError: the reranker cannot be found or loaded.
            UsageError: the encoder has no memory vectors that the reranker could read.
        """
        asked = {identifier: text for identifier, text in queries.items() if text.strip()}
        options = SearchOptions(k=min(top_k, DEPTH), mode=self._mode)
        with self._searched(corpus, titles or {}) as library:
            rankings = self._rank(library, list(asked.values()), options)
        return {
            identifier: {hit.id: hit.score for hit in ranking}
            for identifier, ranking in zip(asked, rankings, strict=True)
        }

    def _rank(self, library: Collection, queries: Sequence[str], options: SearchOptions) -> list[list[Ranked]]:
        if self._reranker is None:
            return library.searcher(self._mode).rank(queries, options)
        reranker = self._reranker.load(library, self._source)  # its name may be wrong: first
        rankings = library.searcher(self._mode).rank(queries, options)
        few = min(options.k, self._reranker.depth)
        reads = library.searcher(self._mode, reranker)
        heads = []
        with _reporting("reranking", "queries", len(queries)) as report:
            for done, query in enumerate(queries):
                report(done, done / len(queries))
                heads += reads.rank([query], replace(options, k=few, rerank_depth=few))
        return [_with_rest(*each) for each in zip(heads, rankings, strict=True)]

    @contextmanager
    def _searched(self, corpus: Mapping[str, str], titles: Mapping[str, str]) -> Iterator[Collection]:
        if self._collection is not None:
            _check_same(self._collection, corpus)
            yield self._collection
            return
        kind = "flat" if isinstance(self._encoder, _Wordless) else "auto"
        memory = self._reranker is not None and self._reranker.reads_stored
        with (
            tempfile.TemporaryDirectory() as folder,
            Collection.create(Path(folder) / "task.index", encoder=self._encoder, kind=kind, memory=memory) as library,
        ):
            whole = max(sum(map(len, corpus.values())), 1)
            with _reporting("indexing", "documents", len(corpus)) as report:
                report(0, 0.0)
                library.update(
                    (_document(identifier, text, titles.get(identifier, "")) for identifier, text in corpus.items()),
                    on_progress=lambda progress: report(progress.documents, progress.characters / whole),
                )
            yield library


def _document(identifier: str, content: str, title: str) -> Document:
    """What has this content, whose beginning is its title."""
    return Document(identifier, content[len(title) :].removeprefix(" "), title)


@contextmanager
def _reporting(step: str, unit: str, total: int) -> Iterator[Callable[[int, float], None]]:
    """Tell who watches how far a step is, in place of the many small calls of encoders inside."""
    told = watcher()

    def report(done: int, fraction: float) -> None:
        if told is not None:
            told(EncodingProgress(done=done, total=total, fraction=min(fraction, 1.0), step=step, unit=unit))

    with watch_encoding(None):
        yield report


def _with_rest(head: Sequence[Ranked], ranking: Sequence[Ranked]) -> list[Ranked]:
    read = {found.id for found in head}
    return followed_by(head, (found for found in ranking if found.id not in read))


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
