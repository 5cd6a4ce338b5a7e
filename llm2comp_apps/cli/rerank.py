"""``llm2comp rerank``: order a file of candidates by a query, without an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples, k_option
from llm2comp_apps.cli.options.reading import with_reading
from llm2comp_apps.cli.ui.console import print_json
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_apps.retrieval.rerank import Reranker

__all__ = ["register"]

_MEMORY = "memory"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "rerank",
        epilog=examples(
            'llm2comp rerank "how do cells divide" candidates.jsonl -k 5',
            'llm2comp rerank "do cells divide" candidates.jsonl --model cross-encoder/ms-marco-MiniLM-L6-v2 --json',
        ),
    )(rerank)


@with_reading
def rerank(
    query: Annotated[str, typer.Argument(help="Query.")],
    candidates: Annotated[str, typer.Argument(help="Documents, in any corpus format; - for standard input.")],
    k: Annotated[int | None, k_option("Number of documents to print. [default: all]")] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", help="Model: memory (MaxSim), or a cross-encoder's name or directory."
        ),
    ] = _MEMORY,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Order documents by a query, reading each one closely.

    With memory, query and documents are compared by all their memory vectors; a cross-encoder reads them together.
    """
    from llm2comp_apps.cli.ui.hits import print_hits
    from llm2comp_apps.cli.ui.reading import describe_reading
    from llm2comp_apps.corpus import ReadReport, read_corpus
    from llm2comp_apps.encoder import load_encoder
    from llm2comp_apps.retrieval.query_text import check_query
    from llm2comp_apps.retrieval.rerank import CrossEncoderReranker, MemoryReranker
    from llm2comp_apps.retrieval.search import rerank_documents

    check_query(query)
    if k is not None and k < 1:
        raise UsageError(f"must be at least 1, not {k}", field="k")
    report = ReadReport()
    documents = list(read_corpus([candidates], reading, report))
    describe_reading(report)
    reranker: Reranker
    if model == _MEMORY:
        reranker = MemoryReranker(load_encoder(encoder or "default", device=device))
    else:
        reranker = CrossEncoderReranker(model, device)
    hits = rerank_documents(query, documents, reranker)[:k]
    if as_json:
        print_json({"query": query, "model": model, "hits": [hit.to_dict() for hit in hits]})
    else:
        print_hits(hits)
