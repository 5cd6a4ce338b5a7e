"""``llm2comp rerank``: order a file of candidates by a query, without an index."""

from __future__ import annotations

from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, k_option
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.ui.hits import show_hits
from llm2comp_apps.cli.ui.reading import documents_of
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]

_MODEL = option(
    "model",
    str,
    "memory",
    "MODEL",
    "Model: a reranker's folder or name; memory, tokens, words, likelihood, upr.",
)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        rerank,
        'llm2comp rerank "how do cells divide" candidates.jsonl -k 5',
        'llm2comp rerank "do cells divide" candidates.jsonl --model cross-encoder/ms-marco-MiniLM-L6-v2 --json',
    )


@with_groups(_MODEL, reading=READING)
def rerank(
    query: Annotated[str, typer.Argument(help="Query.")],
    candidates: Annotated[str, typer.Argument(help="Documents, in any corpus format; - for standard input.")],
    k: Annotated[int | None, k_option("Number of documents to print. [default: all]")] = None,
    model: str = "memory",
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Order documents by a query, reading each one closely.

    With memory, tokens or words, query and documents are read apart and compared; another one reads them together.
    """
    from llm2comp_apps.retrieval.query_text import check_query
    from llm2comp_apps.retrieval.rerank import load_reranker
    from llm2comp_apps.retrieval.search import rerank_documents

    check_query(query, k)
    documents = list(documents_of([candidates], reading))
    hits = rerank_documents(query, documents, load_reranker(model, encoder=encoder, device=device))[:k]
    show_hits(hits, as_json=as_json, query=query, model=model)
