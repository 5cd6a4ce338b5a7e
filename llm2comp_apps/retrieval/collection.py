"""The front door: documents, their vectors and the encoder that makes them, in one folder.

    from llm2comp_apps import Collection, read_corpus

    with Collection.create("library.index", chunk=256) as library:
        report = library.update(read_corpus(["notes/"]), on_progress=print)
        hits = library.search("how do cells divide", k=5, where="year >= 2020")
        near = library.similar(hits[0].id, k=5)

Every rule lives in a file of its own beside this one. Settings have the same names in all of them, and a wrong one
raises :class:`~llm2comp_apps.errors.UsageError` with that name as its ``field``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from llm2comp_indexes import export_index

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.build import BuildProgress, CommitRule, UpdateReport, fill_index
from llm2comp_apps.retrieval.creation import NewIndex, remove_unfilled
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.hits import SearchHit
from llm2comp_apps.retrieval.models import Models
from llm2comp_apps.retrieval.options import Mode, SearchOptions, SearchSettings
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.query_text import check_query
from llm2comp_apps.retrieval.removal import DeleteReport, delete_documents
from llm2comp_apps.retrieval.rerank import Reranker
from llm2comp_apps.retrieval.search import Searcher
from llm2comp_apps.retrieval.settings import IndexSettings, changed_policy
from llm2comp_apps.retrieval.similar import similar_documents

if TYPE_CHECKING:
    from llm2comp_indexes import Damage, IndexInfo

__all__ = ["Collection"]


class Collection:
    """Documents to search by meaning and by words, and to keep up to date.

    Make one with :meth:`create` or :meth:`open`. A collection sees one state of its index: its own changes at once,
    those of another program after ``index.refresh()``. One program at a time can write.

    Attributes:
        index: the :class:`llm2comp_indexes.Index` underneath.
        stopwatch: adds up where the time of loading and searching goes.
    """

    def __init__(self, models: Models) -> None:
        """Join an open index and its models; :meth:`create` and :meth:`open` do that."""
        self.index = models.index
        self.stopwatch = models.stopwatch
        self._models = models

    def __reduce__(self) -> tuple[type[Collection], tuple[Models]]:
        return type(self), (self._models,)  # whoever loads or copies it opens the folder again

    __copy__ = deepcopy  # a shallow one would close the folder for both

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        encoder: str | Path | TextEncoder = "default",
        chunk: int | None = None,
        overlap: int = 0,
        memory: bool = False,
        language: str = "english",
        kind: str = "auto",
        target_recall: float = 0.95,
        max_ram: int | None = None,
        device: str | None = None,
    ) -> Collection:
        """Make an empty collection in a folder that does not exist, or is empty.

        A ``with`` block that fails before anything was added leaves no folder, so that another try finds its place.

        ``encoder`` is a name (:mod:`llm2comp_apps.encoder.names`) or a loaded encoder; the collection remembers a name
        only. ``device`` is where it runs: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``None`` for the best there is.
        :class:`~llm2comp_apps.retrieval.settings.IndexSettings` describes the other settings.

        Raises:
            UsageError: a setting makes no sense, or not with this encoder.
            EncoderError: the encoder cannot be found or loaded.
            IndexStoreError: the path is taken, or FAISS cannot make the kind.
        """
        settings = IndexSettings(
            chunk=chunk, overlap=overlap, memory=memory, language=language,
            kind=kind, target_recall=target_recall, max_ram=max_ram,
        )  # fmt: skip
        new = NewIndex.prepare(path, settings, encoder=encoder, device=device)
        return cls(Models.of_new(new, encoder, device))

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        encoder: str | Path | TextEncoder | None = None,
        query_encoder: str | Path | TextEncoder | None = None,
        device: str | None = None,
    ) -> Collection:
        """Open a collection.

        Args:
            path: its folder; ``None`` for ``$LLM2COMP_INDEX``, else the one ``*.index`` in the working directory.
            encoder: where its encoder lies now, or the loaded encoder; ``None`` for the one it remembers. It is loaded
                when it is needed first: a search by words never loads it.
            query_encoder: another one for the queries, such as a small one that was aligned to the first, which is then
                loaded for new documents only (and for reranking by memory).
            device: as for :meth:`create`.

        Raises:
            UsageError: there is no such folder, or it is not clear which is meant; or an encoder is none.
            IndexStoreError: it is no index, or a damaged one.
        """
        return cls(Models.opened(path, encoder, query_encoder, device))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.index.path

    @property
    def encoder(self) -> TextEncoder:
        """The encoder, loaded at the first call; raises what :func:`.index_encoder.load_index_encoder` does."""
        return self._models.encoder

    @property
    def query_encoder(self) -> TextEncoder:
        """What encodes queries, loaded at the first call; raises what :func:`.load_query_encoder` does."""
        return self._models.query_encoder

    @property
    def plan(self) -> EmbeddingPlan:
        """How a document becomes vectors."""
        return EmbeddingPlan.from_settings(self.index.settings)

    def __len__(self) -> int:
        return len(self.index)

    def update(
        self,
        documents: Iterable[Document],
        *,
        on_progress: Callable[[BuildProgress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        rule: CommitRule | None = None,
    ) -> UpdateReport:
        """Add what is new and replace what has changed; documents that the collection holds unchanged are skipped.

        Documents are streamed and committed as they come, see :func:`llm2comp_apps.retrieval.build.fill_index`.
        """
        return fill_index(
            self.index, self.encoder, documents, self.plan,
            rule=rule, device=index_device(self._models.device), on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip

    def delete(
        self, ids: Iterable[str] | None = None, *, where: str | None = None, allow_most: bool = False
    ) -> DeleteReport:
        """Delete documents; see :func:`llm2comp_apps.retrieval.removal.delete_documents`."""
        return delete_documents(self.index, ids, where=where, allow_most=allow_most)

    def search(
        self, query: str, *, rerank: str | Reranker | None = None, **settings: Unpack[SearchSettings]
    ) -> list[SearchHit]:
        """The best hits for a query, best first.

        ``rerank`` scores the best candidates again: with ``"ltr"``, ``"words"``, ``"tokens"``, ``"memory"``, a
        cross-encoder's name or directory, or any :class:`~llm2comp_apps.retrieval.rerank.Reranker`.
        :class:`~llm2comp_apps.retrieval.options.SearchOptions` describes the settings (``k``, ``mode``, ``where`` and
        others), and what is wrong with them.
        """
        options = SearchOptions(**settings)
        return self.searcher(options.mode, rerank).search(query, options)

    def search_batch(
        self, queries: Sequence[str], *, rerank: str | Reranker | None = None, **settings: Unpack[SearchSettings]
    ) -> list[list[SearchHit]]:
        """The best hits of each query, which are encoded together; the settings are those of :meth:`search`."""
        options = SearchOptions(**settings)
        return self.searcher(options.mode, rerank).search_batch(queries, options)

    def searcher(self, mode: Mode = "hybrid", rerank: str | Reranker | None = None) -> Searcher:
        """Load what searches of a mode need, and nothing else; for many searches with the same settings."""
        reranker = None if rerank is None else self._models.reranker(rerank)  # its name may be wrong: first
        encoder = self.query_encoder if mode != "lexical" else None
        name = rerank if isinstance(rerank, str) else None
        return Searcher(self.index, encoder, reranker=reranker, reranker_name=name, stopwatch=self.stopwatch)

    def similar(self, id: str, *, k: int = 10, where: str | None = None) -> list[SearchHit]:  # noqa: A002 - the word
        """The nearest documents of a document; see :func:`llm2comp_apps.retrieval.similar.similar_documents`."""
        return similar_documents(self.index, id, k=k, where=where)

    def encode_query(self, text: str) -> FloatArray:
        """The vector ``(d,)`` by which a search for ``text`` compares documents."""
        check_query(text)
        return self.query_encoder.encode([text], prompt=self.query_encoder.prompts.get("query"))[0]

    def documents(self, where: str | None = None) -> Iterator[Document]:
        """Stream the documents, or those that meet a condition; :meth:`update` sorts what it adds by length."""
        with self.index.pinned() as index:  # other threads may commit and refresh meanwhile
            for found in map(index.get, batched(index.ids(where=where), 256)):
                yield from (Document(one.id, one.text, one.title, one.metadata) for one in found)

    def info(self) -> IndexInfo:
        """Documents, encoder, settings, kind, size."""
        return self.index.info()

    def compact(
        self, *, kind: str | None = None, target_recall: float | None = None, max_ram: int | None = None
    ) -> IndexInfo:
        """Merge segments, drop what was deleted, change how vectors are searched; ``KindError`` refuses a kind."""
        policy = changed_policy(self.index, kind=kind, target_recall=target_recall, max_ram=max_ram)
        self.index.compact(policy, index_device(self._models.device))
        return self.info()

    def verify(self) -> list[Damage]:
        """Compare every byte with what was committed; empty if all is well."""
        return self.index.verify()

    def export(self, path: str | Path) -> int:
        """Write all vectors to a ``.parquet`` (documents too), ``.npy`` or ``.faiss`` file; returns how many."""
        return export_index(self.index, path)

    def close(self) -> None:
        """Let go of the files."""
        self.index.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None and self._models.is_new:
            remove_unfilled(self.index)
        self.close()
