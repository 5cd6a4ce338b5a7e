"""Runs: the rankings of a whole file of queries, for evaluation tools and programs.

``trec`` is what trec_eval, pytrec_eval and ranx read: ``query Q0 document rank score tag``. ``json`` is one object a
line, with ``query_id`` and ``hits``; of passages, each hit has its ``span``, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias, get_args

from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import check_writable, replaced_file
from llm2comp_apps.retrieval.batched import batched

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval.hits import Ranked
    from llm2comp_apps.retrieval.options import SearchOptions
    from llm2comp_apps.retrieval.search import Searcher

__all__ = ["RunFormat", "check_run", "opened_run", "trec_lines", "write_run"]

RunFormat: TypeAlias = Literal["trec", "json"]

#: Queries that are answered between two reports; bounds memory too.
_BLOCK = 64


def check_run(format: str, output: Path | None, *, passages: bool = False) -> None:  # noqa: A002 - the setting
    """Refuse a run that could not be written, before anything is loaded for it.

    Raises:
        UsageError: an unknown format, one that cannot hold passages, or a file that cannot be there.
        OSError: nothing can be written there.
    """
    if format not in get_args(RunFormat):
        raise UsageError(f"must be one of {', '.join(get_args(RunFormat))}, not {format!r}", field="format")
    if passages and format == "trec":
        raise UsageError("needs `format=json`: a TREC run has each document once", field="passages")
    if output is not None and output.is_dir():
        raise UsageError(f"{output} is a folder; name a file in it", field="output")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}", field="output")
    if output is not None:
        check_writable(output)


@contextmanager
def opened_run(output: Path) -> Iterator[TextIO]:
    """The file to write a run to, which appears when all is written."""
    with replaced_file(output) as path, path.open("w", encoding="utf-8") as file:
        yield file


def write_run(
    file: TextIO,
    searcher: Searcher,
    options: SearchOptions,
    queries: Sequence[Document],
    *,
    format: RunFormat = "trec",  # noqa: A002 - the name of the setting
    ascii_only: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Answer many queries.

    Args:
        file: open for writing.
        searcher: ready to search.
        options: for all queries.
        queries: see :func:`llm2comp_apps.retrieval.query_file.read_queries`.
        format: how it is written.
        ascii_only: escape all other characters in JSON.
        on_progress: called now and then with the number of queries answered.

    Raises:
        UsageError: an id cannot be written in TREC form.
    """
    count, tag = 0, _tag(searcher, options)
    for block in batched(queries, _BLOCK):
        rankings = searcher.rank([query.content for query in block], options)
        for query, ranking in zip(block, rankings, strict=True):
            if format == "trec":
                pairs = [(ranked.id, ranked.score) for ranked in ranking]
                file.writelines(f"{line}\n" for line in trec_lines(query.id, pairs, tag=tag))
            else:
                file.write(_json_line(query.id, ranking, passages=options.passages, ascii_only=ascii_only))
        count += len(block)
        if on_progress is not None:
            on_progress(count)


def _tag(searcher: Searcher, options: SearchOptions) -> str:
    """What tells a run from others in the same table: no blanks, which part the columns of a run."""
    parts = ["llm2comp", options.mode]
    if searcher.reranker is not None:
        parts.append("-".join(Path(searcher.reranker_name or "reranked").name.split()))
    return "-".join(parts)


def _json_line(query_id: str, ranking: Sequence[Ranked], *, passages: bool, ascii_only: bool) -> str:
    hits = [
        {"id": ranked.id, "score": ranked.score, **({"span": ranked.span} if passages else {})} for ranked in ranking
    ]
    return json.dumps({"query_id": query_id, "hits": hits}, ensure_ascii=ascii_only) + "\n"


def trec_lines(query_id: str, ranking: Sequence[tuple[str, float]], tag: str = "llm2comp") -> Iterator[str]:
    """The lines of one query, best first, without line ends.

    trec_eval orders by score and ignores the rank column, so scores are written with the nine digits that tell any
    two float32 apart.

    Args:
        query_id: the query's id.
        ranking: ``(document id, score)``, best first.
        tag: the run's name, the last column.

    Raises:
        UsageError: an id is empty or holds white space, which the form has no way to write.
    """
    _check(query_id, "query")
    for rank, (document_id, score) in enumerate(ranking, start=1):
        _check(document_id, "document")
        yield f"{query_id} Q0 {document_id} {rank} {score:.9g} {tag}"


def _check(identifier: str, kind: str) -> None:
    if not identifier or any(character.isspace() for character in identifier):
        raise UsageError(
            f"{kind} id {identifier!r} is empty or has white space, which a TREC run cannot hold; use `format=json`"
        )
