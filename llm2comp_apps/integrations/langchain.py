"""LangChain: embeddings, a vector store over a collection, its retriever, and a document compressor.

    from llm2comp_apps.integrations.langchain import LLM2CompVectorStore

    store = LLM2CompVectorStore.open("library.index")
    retriever = store.as_retriever(search_kwargs={"k": 5, "where": "year >= 2020"})

Extra ``langchain``.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from pydantic import ConfigDict, Field, PrivateAttr

from llm2comp_apps import Collection, Document, UsageError, load_encoder, load_reranker, rerank_documents
from llm2comp_apps.integrations.where import EVERYTHING, all_of, equal, listed
from llm2comp_apps.integrations.writing import one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks

    from llm2comp_apps import SearchHit
    from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder

__all__ = ["LLM2CompEmbeddings", "LLM2CompReranker", "LLM2CompRetriever", "LLM2CompVectorStore"]

Mode = Literal["dense", "lexical", "hybrid"]
_QUERY = "(as a query)"
_BOUNDED = ("ltr", "words", "tokens", "memory")
"""Rerankers whose scores are at most 1."""


class LLM2CompEmbeddings(Embeddings):
    """An encoder as LangChain's embeddings: queries get the query's prompt, documents theirs.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`) or a loaded encoder.
        device: where one that is loaded here runs.
    """

    def __init__(self, encoder: str | TextEncoder = "default", *, device: str | None = None) -> None:
        self.encoder = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        self._named, self._device = (encoder if isinstance(encoder, str) else None), device

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Unit vectors of documents."""
        found: list[list[float]] = self.encoder.encode(texts, prompt=self.encoder.prompts.get("document")).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a query."""
        found: list[float] = self.encoder.encode([text], prompt=self.encoder.prompts.get("query"))[0].tolist()
        return found


class LLM2CompVectorStore(VectorStore):
    """A collection as LangChain's vector store: durable, searched by meaning and by words.

    Documents are embedded by the collection's own encoder. A ``title`` of the metadata that is a text is searched, too.

    Args:
        collection: an open one.
        mode: how searches go unless they say otherwise: ``hybrid``, ``dense`` or ``lexical``.
    """

    def __init__(self, collection: Collection, *, mode: Mode = "hybrid") -> None:
        self.collection = collection
        self.mode = mode

    @classmethod
    def open(cls, path: str | Path | None = None, *, mode: Mode = "hybrid", **settings: Any) -> LLM2CompVectorStore:
        """Open a collection.

        Args:
            path: see :meth:`llm2comp_apps.Collection.open`, which describes the settings, too.
            mode: see the class.
            settings: among them ``encoder``, which may also be the embeddings that filled the collection.
        """
        for name in ("encoder", "query_encoder"):
            if isinstance(settings.get(name), Embeddings):
                settings[name] = _encoder_of(settings[name])
        return cls(Collection.open(path, **settings), mode=mode)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path | None = None,
        mode: Mode = "hybrid",
        **settings: Any,
    ) -> LLM2CompVectorStore:
        """Make a collection of texts.

        Args:
            texts: its documents.
            embedding: what embeds them, of this file or any other of LangChain's. The collection remembers an encoder
                of this file that was given by its name; :meth:`open` needs the others again.
            metadatas: of each text.
            ids: of each text.
            path: its folder; by default one that goes when the program ends.
            mode: see the class.
            settings: of :meth:`llm2comp_apps.Collection.create`.
        """
        encoder: str | TextEncoder = _encoder_of(embedding)
        if path is not None and isinstance(embedding, LLM2CompEmbeddings) and embedding._named is not None:
            encoder = embedding._named  # a collection remembers names only, and this one is opened again
            settings = {"device": embedding._device, **settings}
        scratch = None if path is not None else tempfile.TemporaryDirectory(prefix="llm2comp-")
        place = Path(scratch.name) / "store.index" if scratch else Path(path or "")
        with ExitStack() as undone:  # a collection without its texts would be in the way of another try
            made = undone.enter_context(Collection.create(place, encoder=encoder, **settings))
            store = cls(made, mode=mode)
            store._scratch = scratch
            store.add_texts(texts, metadatas, ids=ids)
            undone.pop_all()
        return store

    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self._scratch is not None:
            reason = "must be given for a store that is pickled: a temporary folder goes when its program ends"
            raise UsageError(reason, field="path")
        return dict(vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> LLM2CompVectorStore:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, collection=copy.deepcopy(self.collection, memo))
        return copied  # it holds the temporary folder, too

    @property
    def embeddings(self) -> Embeddings:
        """What embeds queries and documents."""
        return LLM2CompEmbeddings(self.collection.encoder)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,  # noqa: ARG002 - LangChain's signature
    ) -> list[str]:
        """Add texts, or replace those whose ids are there; returns their ids, new ones where none are given.

        Raises:
            UsageError: one text in place of a list, lists that do not belong together, or metadata that are neither a
                dictionary nor ``None``.
            CorpusError: a text or an id is no text, or metadata cannot be stored.
        """
        for name, value in (("texts", texts), ("ids", ids)):
            if isinstance(value, str):
                raise UsageError(f"must be a list, not one text; write [{value[:60]!r}]", field=name)
        held = list(texts)
        known: Sequence[str | None] = ids if ids is not None else [None] * len(held)
        metadata: Sequence[dict[str, Any] | None] = metadatas if metadatas is not None else [None] * len(held)
        if not len(held) == len(known) == len(metadata):
            raise UsageError(
                f"{len(held)} texts, {len(metadata)} metadatas and {len(known)} ids do not belong together"
            )
        named = [str(uuid.uuid4()) if id_ is None or id_ == "" else id_ for id_ in known]
        documents = (_from_langchain(id_, text, own) for id_, text, own in zip(named, held, metadata, strict=True))
        with one_at_a_time(self.collection.path):
            self.collection.update(documents)
        return named

    def delete(
        self,
        ids: list[str] | None = None,
        *,
        where: str | None = None,
        filter: dict[str, Any] | str | None = None,  # noqa: A002 - LangChain's word
        allow_most: bool = False,
        **kwargs: Any,
    ) -> bool:
        """Delete documents by their ids, by a condition, or, where neither is given, all of them.

        Args:
            ids: of documents.
            where: a condition; what meets it goes, too.
            filter: see :meth:`similarity_search_with_score`.
            allow_most: delete what meets the condition even if that is more than half of the documents.
            kwargs: none.

        Raises:
            UsageError: an argument that is unknown. Nothing is deleted.
        """
        for unknown in kwargs:
            raise UsageError("is unknown; nothing was deleted", field=unknown)
        condition = _condition(filter, where)
        if ids is None and where is None and filter is None:
            condition, allow_most = EVERYTHING, True
        if ids or condition is not None:
            with one_at_a_time(self.collection.path):
                self.collection.delete(ids, where=condition, allow_most=allow_most)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """The documents with these ids that are there, in their order."""
        index = self.collection.index
        there = set(index.ids(where=listed("_id", ids)))
        found = index.get([id_ for id_ in dict.fromkeys(ids) if id_ in there])
        return [_to_langchain(one.id, one.text, one.title, one.metadata) for one in found]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        """The best documents for a query; arguments as for :meth:`similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: dict[str, Any] | str | None = None,  # noqa: A002 - LangChain's word
        where: str | None = None,
        mode: Mode | None = None,
        rerank: str | None = None,
    ) -> list[tuple[LangChainDocument, float]]:
        """The best documents for a query and their scores, larger being better.

        Args:
            query: a text.
            k: how many.
            filter: values that fields must have; or the same as ``where``.
            where: a condition, such as ``year >= 2020``; with ``filter``, both must be met.
            mode: ``hybrid``, ``dense`` or ``lexical``.
            rerank: ``ltr``, ``words``, ``tokens``, ``memory``, or the name of a cross-encoder.
        """
        condition = _condition(filter, where)
        hits = self.collection.search(query, k=k, mode=mode or self.mode, where=condition, rerank=rerank)
        return [(_of_hit(hit), hit.score) for hit in hits]

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: dict[str, Any] | str | None = None,  # noqa: A002 - LangChain's word
        where: str | None = None,
    ) -> list[LangChainDocument]:
        """The documents nearest to a vector ``(d,)`` such as :attr:`embeddings` makes, by its cosine alone.

        Args:
            embedding: the vector.
            k: how many documents.
            filter: see :meth:`similarity_search_with_score`; ``where``, too.
            where: a condition.

        Raises:
            UsageError: a vector of another width, or of numbers that are not finite.
        """
        searcher = self.collection.searcher("dense")
        found = searcher.page("", vector=embedding, k=k, mode="dense", where=_condition(filter, where))
        return [_of_hit(hit) for hit in found.hits]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[LangChainDocument]:
        """Documents that are near the query and far from each other, out of the ``fetch_k`` best ones."""
        found = self.similarity_search(query, fetch_k, **kwargs)
        return self._far_apart(found, self.collection.encode_query(query), k, lambda_mult) if found else []

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[LangChainDocument]:
        """The same for a vector; further arguments as for :meth:`similarity_search_by_vector`."""
        found = self.similarity_search_by_vector(embedding, fetch_k, **kwargs)
        return self._far_apart(found, np.asarray(embedding, np.float32), k, lambda_mult) if found else []

    def _far_apart(
        self, found: Sequence[LangChainDocument], asked: FloatArray, k: int, lambda_mult: float
    ) -> list[LangChainDocument]:
        """Some of the documents, each compared by its stored vector, or by that of the chunk nearest to ``asked``."""
        ids = [str(document.id) for document in found]
        with self.collection.index.pinned() as index:
            rows, ends = index.vectors(ids), np.cumsum([document.rows for document in index.get(ids)])
        cosines = rows @ asked / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
        nearest = [end - len(own) + int(own.argmax()) for end, own in zip(ends, np.split(cosines, ends), strict=False)]
        chosen = maximal_marginal_relevance(asked, list(rows[nearest]), lambda_mult=lambda_mult, k=k)
        return [found[place] for place in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance(self.mode, None)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        relevance = _relevance(kwargs.get("mode") or self.mode, kwargs.get("rerank"))  # of this search
        return [(found, relevance(score)) for found, score in self.similarity_search_with_score(query, k, **kwargs)]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        relevance = _relevance(kwargs.get("mode") or self.mode, kwargs.get("rerank"))
        scored = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(found, relevance(score)) for found, score in scored]


class LLM2CompRetriever(BaseRetriever):
    """A collection as LangChain's retriever.

    Attributes:
        collection: an open one.
        k: how many documents.
        mode: ``hybrid``, ``dense`` or ``lexical``.
        where: a condition that documents must meet.
        rerank: ``ltr``, ``words``, ``tokens``, ``memory``, or the name of a cross-encoder.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    collection: Collection
    k: int = 4
    mode: Mode = "hybrid"
    where: str | None = None
    rerank: str | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain's
        **changes: Any,
    ) -> list[LangChainDocument]:
        settings = {"k": self.k, "mode": self.mode, "where": self.where, "rerank": self.rerank} | changes
        hits = self.collection.search(query, **settings)
        return [_of_hit(hit, score=True) for hit in hits]


class LLM2CompReranker(BaseDocumentCompressor):
    """Keeps the best documents for a query, read again by memory vectors or a cross-encoder.

    Attributes:
        model: ``words``, ``tokens``, ``memory``, the folder of a reranker, or a cross-encoder's name.
        encoder: makes memory vectors; ``None`` for the default.
        top_n: how many documents stay; ``None`` for all, in their new order.
        device: where it runs.
    """

    model: str = "memory"
    encoder: str | None = None
    top_n: int | None = Field(default=3, ge=0)
    device: str | None = None
    _loaded: Any = PrivateAttr(default=None)

    def compress_documents(
        self,
        documents: Sequence[LangChainDocument],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002
    ) -> list[LangChainDocument]:
        """The best documents, each with its score in the metadata as ``relevance_score``."""
        if not documents:
            return []
        if self._loaded is None:
            self._loaded = load_reranker(self.model, encoder=self.encoder, device=self.device)
        given = [
            Document(str(place), found.page_content, title=str(found.metadata.get("title") or ""))
            for place, found in enumerate(documents)
        ]
        kept = []
        for hit in rerank_documents(query, given, self._loaded)[: self.top_n]:
            source = documents[int(hit.id)]
            metadata = {**source.metadata, "relevance_score": hit.score}
            kept.append(LangChainDocument(page_content=source.page_content, metadata=metadata, id=source.id))
        return kept


class _EmbeddingsEncoder:
    """Any of LangChain's embeddings as an encoder, for collections that they fill."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        kind = f"{type(embeddings).__module__}.{type(embeddings).__qualname__}"
        model = str(getattr(embeddings, "model", None) or getattr(embeddings, "model_name", None) or "")
        self.dimension = len(embeddings.embed_query("dimension"))
        self.name = f"langchain:{type(embeddings).__name__}" + (f"({model})" if model else "")
        self.fingerprint = hashlib.sha256(f"{kind} {model} {self.dimension}".encode()).hexdigest()
        self.prompts = {"query": _QUERY}

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:  # noqa: ARG002
        """See :class:`llm2comp_apps.encoder.protocol.TextEncoder`; the query's prompt chooses ``embed_query``."""
        embed = self._embeddings
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        rows = [embed.embed_query(text) for text in texts] if prompt == _QUERY else embed.embed_documents(list(texts))
        vectors = np.asarray(rows, np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """One block of vectors."""
        yield self.encode(list(texts), prompt=prompt)


def _relevance(mode: Mode, rerank: str | None) -> Callable[[float], float]:
    """From the scores of a search to 0 for what is irrelevant and 1 for what is most relevant.

    Raises:
        UsageError: its scores have no bounds.
    """
    if mode == "lexical":
        reason = "cannot be lexical: BM25 has no upper bound; for scores from 0 to 1 take hybrid or dense"
        raise UsageError(reason, field="mode")
    if rerank not in (None, *_BOUNDED):
        reason = f"cannot be a model, whose scores have no bounds; for scores from 0 to 1 take {', '.join(_BOUNDED)}"
        raise UsageError(reason, field="rerank")
    if mode == "dense" and rerank is None:
        return lambda cosine: (1 + cosine) / 2
    return lambda score: min(max(score, 0.0), 1.0)  # a mean of cosine and coverage; below 0 is as irrelevant as 0


def _encoder_of(embeddings: Embeddings) -> TextEncoder:
    return embeddings.encoder if isinstance(embeddings, LLM2CompEmbeddings) else _EmbeddingsEncoder(embeddings)


def _condition(filter: dict[str, Any] | str | None, where: str | None) -> str | None:  # noqa: A002 - LangChain's word
    """What both ask for; ``None`` for everything."""
    if not isinstance(filter, dict | str | None):
        raise UsageError("must be a dictionary of fields or a condition", field="filter")
    asked = equal(filter) or None if isinstance(filter, dict) else filter
    if asked is None or where is None:
        return where if asked is None else asked
    return all_of([where, asked])


def _from_langchain(id_: str, text: str, metadata: dict[str, Any] | None) -> Document:
    if not isinstance(metadata, Mapping | None):
        raise UsageError(f"must be dictionaries or None, not {metadata!r:.60}", field="metadatas")
    own = dict(metadata or {})
    # What is no text stays a field, as the number that it is.
    title = own.pop("title") if isinstance(own.get("title"), str) and own["title"] else ""
    return Document(id_, text, title=title, metadata=own)


def _of_hit(hit: SearchHit, *, score: bool = False) -> LangChainDocument:
    found = _to_langchain(hit.id, hit.text, hit.title, hit.metadata)
    if score:
        found.metadata["score"] = hit.score
    return found


def _to_langchain(id_: str, text: str, title: str, metadata: dict[str, Any]) -> LangChainDocument:
    return LangChainDocument(page_content=text, metadata={**metadata, **({"title": title} if title else {})}, id=id_)
