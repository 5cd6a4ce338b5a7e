"""LLM2Comp: text embeddings by context compression, and search, reranking and clustering on top of them.

    from llm2comp_apps import Collection, read_corpus

    with Collection.create("library.index") as library:
        library.update(read_corpus(["notes/"]))
        hits = library.search("how do cells divide")

Every name below is loaded when it is used first, so that ``import llm2comp_apps`` and the help of ``llm2comp`` stay
fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_apps.clustering.topic_model import TopicModel
    from llm2comp_apps.corpus.document import Document
    from llm2comp_apps.corpus.options import CorpusOptions
    from llm2comp_apps.corpus.reader import read_corpus
    from llm2comp_apps.corpus.report import ReadReport
    from llm2comp_apps.corpus.slices import CorpusFile, CorpusSlice, cut_corpus, read_slices
    from llm2comp_apps.encoder.model import LLM2Comp
    from llm2comp_apps.encoder.names import identity_of, load_encoder
    from llm2comp_apps.encoder.publishing.export import export_model
    from llm2comp_apps.errors import (
        ClusteringError,
        CorpusError,
        EncoderError,
        EvaluationError,
        LLM2CompError,
        TrainingError,
        TrainingStoppedError,
        UsageError,
    )
    from llm2comp_apps.evaluation.mteb_bridge import MtebEncoder
    from llm2comp_apps.retrieval.blueprint import IndexBlueprint
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.creation import draw_blueprint
    from llm2comp_apps.retrieval.hits import SearchHit
    from llm2comp_apps.retrieval.parts import import_parts, read_part, write_part
    from llm2comp_apps.retrieval.rerank import load_reranker
    from llm2comp_apps.retrieval.rerank.memory import max_sim, memory_scores
    from llm2comp_apps.retrieval.search import rerank_documents
    from llm2comp_apps.retrieval.shards import open_shards
    from llm2comp_apps.retrieval.watching import FolderWatch
    from llm2comp_apps.tuning import tune_index

# OpenMP's threads spin while they wait for one another, and on a busy machine that costs two to four times the time and
# the processors. OpenMP reads this once, when torch or FAISS loads it; who sets it keeps the word.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = [
    "ClusteringError",
    "Collection",
    "CorpusError",
    "CorpusFile",
    "CorpusOptions",
    "CorpusSlice",
    "Document",
    "EncoderError",
    "EvaluationError",
    "FolderWatch",
    "IndexBlueprint",
    "LLM2Comp",
    "LLM2CompError",
    "MtebEncoder",
    "ReadReport",
    "SearchHit",
    "TopicModel",
    "TrainingError",
    "TrainingStoppedError",
    "UsageError",
    "__version__",
    "cut_corpus",
    "draw_blueprint",
    "export_model",
    "identity_of",
    "import_parts",
    "load_encoder",
    "load_reranker",
    "max_sim",
    "memory_scores",
    "open_shards",
    "read_corpus",
    "read_part",
    "read_slices",
    "rerank_documents",
    "tune_index",
    "write_part",
]

_HOME = {
    "Collection": "retrieval.collection",
    "CorpusFile": "corpus.slices",
    "CorpusOptions": "corpus.options",
    "CorpusSlice": "corpus.slices",
    "Document": "corpus.document",
    "FolderWatch": "retrieval.watching",
    "IndexBlueprint": "retrieval.blueprint",
    "LLM2Comp": "encoder.model",
    "MtebEncoder": "evaluation.mteb_bridge",
    "ReadReport": "corpus.report",
    "SearchHit": "retrieval.hits",
    "TopicModel": "clustering.topic_model",
    "cut_corpus": "corpus.slices",
    "draw_blueprint": "retrieval.creation",
    "export_model": "encoder.publishing.export",
    "identity_of": "encoder.names",
    "import_parts": "retrieval.parts",
    "load_encoder": "encoder.names",
    "load_reranker": "retrieval.rerank",
    "max_sim": "retrieval.rerank.memory",
    "memory_scores": "retrieval.rerank.memory",
    "open_shards": "retrieval.shards",
    "read_corpus": "corpus.reader",
    "read_part": "retrieval.parts",
    "read_slices": "corpus.slices",
    "rerank_documents": "retrieval.search",
    "tune_index": "tuning",
    "write_part": "retrieval.parts",
}
"""Where each name lives; the errors live in ``errors``."""


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
