"""Runs: the rankings of a whole file of queries, for evaluation tools and programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from llm2comp_apps.cli.ui.console import note, stdout_is_unicode
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.runs import trec_lines

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval.hits import Ranked
    from llm2comp_apps.retrieval.search import Searcher, SearchOptions

__all__ = ["write_run"]

#: Queries that are answered between two looks at the progress line; bounds memory too.
_BLOCK = 64


def write_run(
    searcher: Searcher, options: SearchOptions, queries: Sequence[Document], run_format: str, output: Path | None
) -> None:
    """Answer many queries.

    Args:
        searcher: ready to search.
        options: for all queries.
        queries: see :func:`llm2comp_apps.retrieval.query_file.read_queries`.
        run_format: ``trec``, or ``json`` for one JSON object a line with ``query_id`` and ``hits``.
        output: written whole or not at all; ``None`` for stdout.

    Raises:
        UsageError: an id cannot be written in TREC form.
    """
    count = 0
    escaped = output is None and not stdout_is_unicode()
    with _opened(output) as file, ProgressDisplay("searching", "queries", len(queries)) as progress:
        for block in batched(queries, _BLOCK):
            rankings = searcher.rank([query.content for query in block], options)
            for query, ranking in zip(block, rankings, strict=True):
                for line in _lines(query.id, ranking, run_format, options, escaped=escaped):
                    file.write(line + "\n")
            count += len(block)
            progress.update(count)
    note(f"{count} queries answered" + (f", run written to {output}" if output is not None else ""))


def _lines(
    query_id: str, ranking: list[Ranked], run_format: str, options: SearchOptions, *, escaped: bool
) -> Iterator[str]:
    if run_format == "trec":
        pairs = [(ranked.id, ranked.score) for ranked in ranking]
        yield from trec_lines(query_id, pairs, tag=f"llm2comp-{options.mode}")
    else:
        hits = [{"id": ranked.id, "score": ranked.score} for ranked in ranking]
        yield json.dumps({"query_id": query_id, "hits": hits}, ensure_ascii=escaped)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """The file to write to: stdout, or a temporary neighbour that takes its name when all is written."""
    if output is None:
        yield sys.stdout
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
