"""Haystack: embedders, a document store over a collection, and its retriever.

    from llm2comp_apps.integrations.haystack import LLM2CompDocumentStore, LLM2CompRetriever

    store = LLM2CompDocumentStore("library.index")
    pipeline.add_component("retriever", LLM2CompRetriever(store, top_k=5))

Extra ``haystack``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from haystack import Document as HaystackDocument
from haystack import component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

from llm2comp_apps import Collection, Document, UsageError, load_encoder
from llm2comp_apps.integrations.where import EVERYTHING, NOTHING, all_of, any_of, compared, listed
from llm2comp_apps.integrations.writing import one_at_a_time

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["LLM2CompDocumentEmbedder", "LLM2CompDocumentStore", "LLM2CompRetriever", "LLM2CompTextEmbedder"]

Mode = Literal["dense", "lexical", "hybrid"]
_COMPARISONS = {"==": "=", "!=": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_ORDERED = (">", ">=", "<", "<=")
_NOT_FILTERED = {each.name for each in fields(HaystackDocument)} - {"id"}
"""Fields of a document beside its metadata, which no condition reaches."""


class _Embedder:
    """What both embedders are: an encoder by its name, loaded when it is needed first."""

    def __init__(self, encoder: str = "default", device: str | None = None) -> None:
        self.encoder = encoder
        self.device = device
        self._loaded: TextEncoder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it down."""
        written: dict[str, Any] = default_to_dict(self, encoder=self.encoder, device=self.device)
        return written

    def warm_up(self) -> None:
        """Load the encoder."""
        if self._loaded is None:
            self._loaded = load_encoder(self.encoder, device=self.device)

    def _embed(self, texts: list[str], role: str) -> list[list[float]]:
        self.warm_up()
        assert self._loaded is not None
        found: list[list[float]] = self._loaded.encode(texts, prompt=self._loaded.prompts.get(role)).tolist()
        return found


@component
class LLM2CompTextEmbedder(_Embedder):
    """The vector of a query, for retrievers of other stores.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`).
        device: where it runs.
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query."""
        if not isinstance(text, str):
            raise TypeError("text must be a string; documents are for LLM2CompDocumentEmbedder")
        return {"embedding": self._embed([text], "query")[0]}


@component
class LLM2CompDocumentEmbedder(_Embedder):
    """The vectors of documents, for other stores; a collection makes its own.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`).
        device: where it runs.
    """

    @component.output_types(documents=list[HaystackDocument])
    def run(self, documents: list[HaystackDocument]) -> dict[str, Any]:
        """Embed documents; those that come in stay as they are."""
        if not isinstance(documents, list) or any(not isinstance(one, HaystackDocument) for one in documents):
            raise TypeError("documents must be a list of Documents; a query is for LLM2CompTextEmbedder")
        vectors = self._embed([one.content or "" for one in documents], "document") if documents else []
        return {"documents": [replace(one, embedding=own) for one, own in zip(documents, vectors, strict=True)]}


class LLM2CompDocumentStore:
    """A collection as Haystack's document store.

    The collection's encoder embeds what is written; a vector that a document brings along is not kept. A document
    needs some content.

    Args:
        path: its folder; made where there is none.
        encoder: of a new collection, by its name.
        settings: of a new collection, see :meth:`llm2comp_apps.Collection.create`.
    """

    def __init__(self, path: str | Path, encoder: str = "default", settings: dict[str, Any] | None = None) -> None:
        self.path = str(path)
        self.encoder = encoder
        self.settings = settings or {}
        self._collection: Collection | None = None

    @classmethod
    def of(cls, collection: Collection) -> LLM2CompDocumentStore:
        """The store of an open collection."""
        store = cls(collection.path)
        store._collection = collection
        return store

    @property
    def collection(self) -> Collection:
        """The collection, opened or made at the first use."""
        with one_at_a_time(self.path):
            if self._collection is None:
                folder = Path(self.path)
                if folder.is_dir() and any(folder.iterdir()):
                    self._collection = Collection.open(folder)
                else:
                    self._collection = Collection.create(folder, encoder=self.encoder, **self.settings)
            return self._collection

    def to_dict(self) -> dict[str, Any]:
        """The store as Haystack writes it down."""
        written: dict[str, Any] = default_to_dict(self, path=self.path, encoder=self.encoder, settings=self.settings)
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LLM2CompDocumentStore:
        """The inverse of :meth:`to_dict`."""
        store: LLM2CompDocumentStore = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """How many documents there are."""
        return len(self.collection)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """The documents that meet Haystack's filters.

        Raises:
            FilterError: malformed filters.
        """
        where = _translated(filters) if filters else None
        return [_to_haystack(one.id, one.text, one.title, one.metadata) for one in self.collection.documents(where)]

    def write_documents(self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents.

        Args:
            documents: with content.
            policy: what to do with ids that are there: ``OVERWRITE``, ``SKIP``, or ``FAIL``, which is the default.

        Returns:
            How many were written.

        Raises:
            ValueError: no list of documents, or one without content.
            DuplicateDocumentError: an id is there, or twice among the documents.
        """
        if not isinstance(documents, list) or any(not isinstance(one, HaystackDocument) for one in documents):
            raise ValueError("documents must be a list of Documents")
        if bare := [one.id for one in documents if not one.content]:
            raise ValueError(f"a document needs content to be found by; {bare[0]} has none ({len(bare)} have)")
        with one_at_a_time(self.path):  # what is there is still there when it is written
            return self._written(documents, policy)

    def _written(self, documents: list[HaystackDocument], policy: DuplicatePolicy) -> int:
        ids = [one.id for one in documents]
        if policy != DuplicatePolicy.OVERWRITE:
            there = set(self.collection.index.ids(where=listed("_id", ids))) if ids else set()
            if policy != DuplicatePolicy.SKIP and (there or len(set(ids)) < len(ids)):
                twice = next(id_ for place, id_ in enumerate(ids) if id_ in there or id_ in ids[:place])
                raise DuplicateDocumentError(f"the document {twice} is there already")
            documents = list({one.id: one for one in reversed(documents) if one.id not in there}.values())[::-1]
        self.collection.update(_from_haystack(one) for one in documents)
        return len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids that are not there are passed over."""
        if document_ids:
            with one_at_a_time(self.path):
                self.collection.delete(document_ids)


@component
class LLM2CompRetriever:
    """Finds documents of a :class:`LLM2CompDocumentStore` for a query, by meaning and by words.

    Args:
        document_store: where.
        top_k: how many.
        mode: ``hybrid``, ``dense`` or ``lexical``.
        filters: Haystack's filters, which those of a run replace.
        rerank: ``ltr``, ``words``, ``tokens``, ``memory``, or the name of a cross-encoder.
    """

    def __init__(
        self,
        document_store: LLM2CompDocumentStore,
        top_k: int = 10,
        mode: Mode = "hybrid",
        filters: dict[str, Any] | None = None,
        rerank: str | None = None,
    ) -> None:
        self.document_store = document_store
        self.top_k = top_k
        self.mode: Mode = mode
        self.filters = filters
        self.rerank = rerank

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it down."""
        written: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            top_k=self.top_k,
            mode=self.mode,
            filters=self.filters,
            rerank=self.rerank,
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LLM2CompRetriever:
        """The inverse of :meth:`to_dict`."""
        settings = dict(data["init_parameters"])
        settings["document_store"] = LLM2CompDocumentStore.from_dict(settings["document_store"])
        return cls(**settings)

    @component.output_types(documents=list[HaystackDocument])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[HaystackDocument]]:
        """The best documents, best first, each with its score."""
        filters = filters or self.filters
        hits = self.document_store.collection.search(
            query,
            k=self.top_k if top_k is None else top_k,
            mode=self.mode,
            where=_translated(filters) if filters else None,
            rerank=self.rerank,
        )
        found = [_to_haystack(hit.id, hit.text, hit.title, hit.metadata) for hit in hits]
        return {"documents": [replace(one, score=hit.score) for one, hit in zip(found, hits, strict=True)]}


def _from_haystack(document: HaystackDocument) -> Document:
    meta = dict(document.meta or {})
    title = meta.pop("title") if isinstance(meta.get("title"), str) and meta["title"] else ""
    return Document(document.id, document.content or "", title=title, metadata=meta)


def _to_haystack(id_: str, text: str, title: str, metadata: dict[str, Any]) -> HaystackDocument:
    return HaystackDocument(id=id_, content=text, meta={**metadata, **({"title": title} if title else {})})


def _translated(filters: dict[str, Any]) -> str:
    """Haystack's filters as a condition."""
    if not isinstance(filters, dict):
        raise FilterError(f"a filter is a dictionary, not {filters!r}")
    if "field" in filters:
        return _comparison(filters)
    if "operator" not in filters or "conditions" not in filters:
        raise FilterError(f"a filter has field, operator and value, or operator and conditions, not {filters}")
    if not isinstance(filters["conditions"], list | tuple):
        raise FilterError(f"conditions are a list of filters, not {filters['conditions']!r}")
    parts = [_translated(one) for one in filters["conditions"]]
    operator = filters["operator"]
    if operator == "AND":
        return all_of(parts) or EVERYTHING
    if operator == "OR":
        return any_of(parts) or NOTHING
    if operator == "NOT":
        return f"not ({all_of(parts) or EVERYTHING})"
    raise FilterError(f"the operator of several conditions is AND, OR or NOT, not {operator!r}")


def _comparison(filters: dict[str, Any]) -> str:
    if "operator" not in filters or "value" not in filters:
        raise FilterError(f"a comparison has field, operator and value, not {filters}")
    name, operator, value = filters["field"], filters["operator"], filters["value"]
    if not isinstance(name, str):
        raise FilterError(f"the field of a comparison is its name, not {name!r}")
    if name in _NOT_FILTERED:
        raise FilterError(f"a filter asks for id or a field of meta, such as meta.year, not for {name}")
    if name == "meta._id":
        raise FilterError("a filter cannot name meta._id, since _id is the document's own id; call the field otherwise")
    name = "_id" if name == "id" else name.removeprefix("meta.")
    try:
        if operator in ("in", "not in"):
            if not isinstance(value, list):
                raise FilterError(f"{operator!r} takes a list, not {value!r}")
            return listed(name, value, negated=operator == "not in")
        if operator not in _COMPARISONS:
            raise FilterError(f"the operator {operator!r} is unknown")
        if operator in _ORDERED:
            if value is None:
                return NOTHING  # nothing is smaller or larger than nothing
            _check_ordered(value)
        return compared(name, _COMPARISONS[operator], value)
    except UsageError as error:
        raise FilterError(str(error)) from error


def _check_ordered(value: Any) -> None:
    """Haystack orders numbers and dates, and no other strings."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise FilterError(
                f"strings are not smaller or larger than others, unless they are dates: {value!r}"
            ) from error
