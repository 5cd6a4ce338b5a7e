"""``llm2comp index tune``: weights of meaning, words and a reranker, learned from queries with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command
from llm2comp_apps.cli.options.index_settings import ExistingIndex
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.cli.ui.spelling import in_options

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    command = "llm2comp index tune corpus.index train-queries.jsonl train-qrels.tsv"
    add_command(group, tune, command, f"{command} --rerank runs/rerank/encoder")


def tune(
    index: ExistingIndex,
    queries: Annotated[Path, typer.Argument(metavar="QUERIES", help="Queries to learn from, in any corpus format.")],
    qrels: Annotated[Path, typer.Argument(metavar="QRELS", help="Judgements in TREC's or BEIR's form.")],
    rerank: Annotated[
        str | None, typer.Option("--rerank", metavar="MODEL", help="Reranker whose weight is learned; ltr: itself.")
    ] = None,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn how to weigh meaning, words and a reranker in an index, for search --fusion learned.

    Half of the queries choose the weights, and the other half must confirm them, else the index stays as it is. The
    measure is nDCG@10. Never take the queries of a test.
    """
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.query_file import read_queries
    from llm2comp_apps.tuning import tune_index

    asked, library = read_queries(queries), Collection.open(index, encoder=encoder, device=device)
    with ProgressDisplay("searching", "queries", len(asked)) as progress:
        report = tune_index(library, asked, qrels, rerank=rerank, on_progress=progress.update, on_warning=warn)
    if as_json:
        print_json({"index": str(library.path), **report.record()})
    for line in () if as_json else report.lines():
        typer.echo(in_options(line))
    note(f"{library.path}: {'the weights are stored' if report.kept else 'nothing has changed'}")
