"""LlamaIndex: an embedding, a vector store over a collection, and a node postprocessor.

    from llama_index.core import StorageContext, VectorStoreIndex
    from llm2comp_apps.integrations.llama_index import LLM2CompEmbedding, LLM2CompVectorStore

    store = LLM2CompVectorStore.create("library.index")
    index = VectorStoreIndex.from_vector_store(store, embed_model=LLM2CompEmbedding())

Extra ``llama-index``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from llm2comp_indexes import IndexedDocument

from llm2comp_apps import Collection, Document, UsageError, load_encoder, load_reranker, rerank_documents
from llm2comp_apps.integrations.where import EVERYTHING, all_of, any_of, compared, field, listed
from llm2comp_apps.integrations.writing import one_at_a_time

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode, QueryBundle

    from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["LLM2CompEmbedding", "LLM2CompReranker", "LLM2CompVectorStore"]

_MODES = {
    VectorStoreQueryMode.DEFAULT: "dense",
    VectorStoreQueryMode.MMR: "dense",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.SPARSE: "lexical",
}
_PREFETCHED = 4
"""Times as many nodes are looked at as are wanted, where these are to differ: LlamaIndex's own number."""
_COMPARISONS = {
    FilterOperator.EQ: "=",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.TEXT_MATCH: "contains",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "contains",
    FilterOperator.CONTAINS: "=",  # an element that equals the value is enough where a field holds a list
}
_OF_LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)


class LLM2CompEmbedding(BaseEmbedding):
    """An encoder as LlamaIndex's embedding: queries get the query's prompt, texts the document's.

    LlamaIndex writes the name of the encoder down, and its fingerprint, by which it knows texts that it has embedded.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`) or a loaded encoder.
        device: where one that is loaded here runs.
        settings: of LlamaIndex, such as ``embed_batch_size``.

    Raises:
        UsageError: what LlamaIndex wrote down names no encoder, since a loaded one was given.
    """

    encoder: str | None = None
    device: str | None = None
    fingerprint: str = ""
    _encoder: Any = PrivateAttr()

    def __init__(
        self, encoder: str | TextEncoder | None = "default", *, device: str | None = None, **settings: Any
    ) -> None:
        if encoder is None:
            raise UsageError(
                "was a loaded encoder, which cannot be written down; give its name instead", field="encoder"
            )
        loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        known = {"encoder": encoder if isinstance(encoder, str) else None, "fingerprint": loaded.fingerprint}
        super().__init__(**{"model_name": loaded.name, "embed_batch_size": 64, **settings, **known, "device": device})
        self._encoder = loaded

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # by the encoder's name, or else what was pickled, which may lack the encoder
        if "_encoder" not in (self.__pydantic_private__ or {}):
            raise UsageError(
                "cannot be loaded, nor was it pickled; give the name of one that is there in every process",
                field="encoder",
            )

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it in its records."""
        return "LLM2CompEmbedding"

    def _embed(self, texts: list[str], role: str) -> list[list[float]]:
        found: list[list[float]] = self._encoder.encode(texts, prompt=self._encoder.prompts.get(role)).tolist()
        return found

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([query], "query")[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text], "document")[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts, "document")


class LLM2CompVectorStore(BasePydanticVectorStore):
    """A collection as LlamaIndex's vector store.

    Nodes come with vectors, which LlamaIndex made by its embedding; those are kept, so that embedding must be of the
    collection's own encoder. Nodes without a vector are embedded by it.

    Args:
        collection: an open one.
    """

    stores_text: bool = True
    flat_metadata: bool = False
    _collection: Collection = PrivateAttr()

    def __init__(self, collection: Collection) -> None:
        super().__init__(stores_text=True)
        self._collection = collection

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # LlamaIndex leaves out what cannot be pickled, and only logs it
        if "_collection" not in (self.__pydantic_private__ or {}):
            reason = "was not pickled, since its encoder cannot be; open the collection with the encoder's name"
            raise UsageError(reason, field="collection")

    @classmethod
    def create(cls, path: str | Path, **settings: Any) -> LLM2CompVectorStore:
        """Make a collection; :meth:`llm2comp_apps.Collection.create` describes the settings."""
        return cls(Collection.create(path, **settings))

    @classmethod
    def open(cls, path: str | Path | None = None, **settings: Any) -> LLM2CompVectorStore:
        """Open a collection; :meth:`llm2comp_apps.Collection.open` describes the settings."""
        return cls(Collection.open(path, **settings))

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it in its records."""
        return "LLM2CompVectorStore"

    @property
    def client(self) -> Collection:
        """The collection."""
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ARG002 - LlamaIndex's signature
        """Add nodes, or replace those whose ids are there."""
        bare = [node for node in nodes if node.embedding is None]
        ready = [node for node in nodes if node.embedding is not None]
        for node in ready:
            self._check(node.get_embedding())
        if ready and self._collection.index.memory_tokens:
            reason = "stores memory vectors, which LlamaIndex does not make; make the collection without"
            raise UsageError(reason, field="memory")
        with one_at_a_time(self._collection.path):
            if bare:
                self._collection.update(
                    Document(one.id, one.text, metadata=one.metadata) for one in map(_document, bare)
                )
            if ready:
                vectors = np.asarray([node.embedding for node in ready], np.float32)
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
                with self._collection.index.writer() as writer:
                    writer.add([_document(node) for node in ready], vectors)
                    writer.commit()
        return [node.node_id for node in nodes]

    def _check(self, vector: Sequence[float]) -> None:
        dimension = self._collection.index.dimension
        if len(vector) != dimension:
            raise UsageError(
                f"the nodes' vectors have {len(vector)} numbers, and this collection's {dimension}: let "
                "LlamaIndex embed with LLM2CompEmbedding of the collection's encoder"
            )

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ARG002 - LlamaIndex's signature
        """Delete the nodes of a document."""
        self._delete(compared("ref_doc_id", "=", ref_doc_id))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ARG002 - LlamaIndex's signature
    ) -> None:
        """Delete nodes by their ids, and of these, where filters are given, those that meet them."""
        self._delete(_condition(node_ids, filters))

    def clear(self) -> None:
        """Delete all nodes."""
        self._delete(EVERYTHING)

    def _delete(self, where: str | None) -> None:
        with one_at_a_time(self._collection.path):
            found = list(self._collection.index.ids(where=where)) if where else []
            if found:
                self._collection.delete(found)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes by their ids, by filters, or all."""
        found = self._collection.documents(where=_condition(node_ids, filters))
        return [_node(one.id, one.metadata, one.text) for one in found]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nearest nodes: by the vector, by the words, or by both, as the mode says.

        Args:
            query: what is asked. With the mode ``mmr``, nodes that are near it and far from each other.
            kwargs: for that mode, ``mmr_threshold`` from 0 (far from each other) to 1 (near the query), and
                ``mmr_prefetch_k`` or ``mmr_prefetch_factor``, how many of the nearest nodes are looked at.

        Raises:
            UsageError: another mode, a filter that cannot be read, or a search by meaning without a vector.
        """
        if query.mode not in _MODES:
            modes = ", ".join(mode.value for mode in _MODES)
            raise UsageError(f"must be one of {modes}, not {query.mode.value}", field="mode")
        mode: Any = _MODES[query.mode]
        conditions = [_condition(query.node_ids or None, query.filters)]  # LlamaIndex says [] for any node
        conditions += [listed("ref_doc_id", query.doc_ids)] if query.doc_ids else []
        where = all_of(each for each in conditions if each) or None
        k = query.similarity_top_k if mode == "dense" else query.hybrid_top_k or query.similarity_top_k
        if mode == "dense":
            if query.query_embedding is None:
                raise UsageError("is missing: a search by meaning needs the query's vector", field="query_embedding")
            self._check(query.query_embedding)
            asked = np.asarray([query.query_embedding], np.float32)
            asked /= max(float(np.linalg.norm(asked)), 1e-12)
            apart = query.mode == VectorStoreQueryMode.MMR
            depth = kwargs.get("mmr_prefetch_k") or int(kwargs.get("mmr_prefetch_factor", _PREFETCHED) * k)
            (hits,) = self._collection.index.search(asked, k=max(k, depth) if apart else k, where=where)
            if apart and hits:
                vectors = self._collection.index.vectors([hit.id for hit in hits]).tolist()
                threshold = kwargs.get("mmr_threshold", query.mmr_threshold)  # a retriever passes it on as it is
                _, places = get_top_k_mmr_embeddings(
                    query.query_embedding, vectors, similarity_top_k=k, mmr_threshold=threshold
                )
                hits = [hits[place] for place in places]
            documents = {one.id: one for one in self._collection.index.get([hit.id for hit in hits])}
            found = [(hit.id, hit.score, documents[hit.id].metadata, documents[hit.id].text) for hit in hits]
        else:
            alpha = query.alpha if mode == "hybrid" else None
            best = self._collection.search(query.query_str or "", k=k, mode=mode, where=where, alpha=alpha)
            found = [(hit.id, hit.score, hit.metadata, hit.text) for hit in best]
        return VectorStoreQueryResult(
            nodes=[_node(id_, metadata, text) for id_, _, metadata, text in found],
            similarities=[score for _, score, _, _ in found],
            ids=[id_ for id_, _, _, _ in found],
        )


class LLM2CompReranker(BaseNodePostprocessor):
    """Keeps the best nodes for a query, read again by memory vectors or a cross-encoder.

    Attributes:
        model: ``words``, ``tokens``, ``memory``, the folder of a reranker, or a cross-encoder's name.
        encoder: makes memory vectors; ``None`` for the default.
        top_n: how many nodes stay; ``None`` for all, in their new order.
        device: where it runs.
    """

    model: str = "memory"
    encoder: str | None = None
    top_n: int | None = Field(default=3, ge=0)
    device: str | None = None
    _loaded: Any = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it in its records."""
        return "LLM2CompReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise UsageError("is missing: a reranker needs the query", field="query_bundle")
        if not nodes:
            return []
        if self._loaded is None:
            self._loaded = load_reranker(self.model, encoder=self.encoder, device=self.device)
        given = [
            Document(str(place), found.node.get_content(metadata_mode=MetadataMode.EMBED))
            for place, found in enumerate(nodes)
        ]
        hits = rerank_documents(query_bundle.query_str, given, self._loaded)[: self.top_n]
        return [NodeWithScore(node=nodes[int(hit.id)].node, score=hit.score) for hit in hits]


def _document(node: BaseNode) -> IndexedDocument:
    """A node as it is kept: its text, and all else in the metadata, by which it can be found and made again."""
    metadata = node_to_metadata_dict(node, remove_text=True)
    return IndexedDocument(node.node_id, node.get_content(metadata_mode=MetadataMode.NONE), metadata=metadata)


def _node(id_: str, metadata: dict[str, Any], text: str) -> BaseNode:
    if "_node_content" not in metadata:
        reason = f"holds the document {id_!r:.200}, which LlamaIndex did not write"
        raise UsageError(f"{reason}; read it by Collection, or by what there is for LangChain", field="collection")
    return metadata_dict_to_node(metadata, text=text)


def _condition(ids: Sequence[str] | None, filters: MetadataFilters | None) -> str | None:
    conditions = [] if ids is None else [listed("_id", ids)]
    if filters is not None and filters.filters:
        conditions.append(_translated(filters))
    return all_of(conditions) or None


def _translated(filters: MetadataFilters) -> str:
    parts = [_translated(one) if isinstance(one, MetadataFilters) else _one(one) for one in filters.filters]
    if not parts:  # LlamaIndex takes no filters for no condition, however they are joined
        return EVERYTHING
    if filters.condition == FilterCondition.NOT:
        return f"not ({any_of(parts)})"
    return any_of(parts) if filters.condition == FilterCondition.OR else all_of(parts)


def _one(filter: Any) -> str:  # noqa: A002 - the word
    name, operator, value = filter.key, filter.operator, filter.value
    if operator in _COMPARISONS:
        return compared(name, _COMPARISONS[operator], value)
    if operator in _OF_LISTS:
        if not isinstance(value, list | tuple | set):  # a string would count by its letters
            raise UsageError(f"must have a list for the operator {operator.value!r}, not {value!r}", field="filters")
        if operator == FilterOperator.ALL:
            return all_of(compared(name, "=", each) for each in value) or EVERYTHING
        return listed(name, value, negated=operator == FilterOperator.NIN)
    if operator == FilterOperator.IS_EMPTY:
        return f"{field(name)} is empty"
    raise UsageError(f"cannot have the operator {operator.value!r}, which is unknown", field="filters")
