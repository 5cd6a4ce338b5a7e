"""``llm2comp search``: one query, a prompt, or a file of queries."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples, output_option
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.search import SEARCH
from llm2comp_apps.cli.options.unused import refuse_given
from llm2comp_apps.cli.ui.console import note, print_json, stdout_is_unicode, warn
from llm2comp_apps.cli.ui.gpus import describe_index_device
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.errors import LLM2CompError, UsageError

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.search import Searcher, SearchOptions

__all__ = ["register"]

_FEW = 10  # hits that nobody wonders at: the default


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "search",
        epilog=examples(
            'llm2comp search "how do cells divide" -k 5',
            'llm2comp search "flu vaccine" --mode lexical --where "year >= 2020 and lang = \'en\'" --json',
            'llm2comp search "flu vaccine" --query-encoder runs/align/encoder',
            "llm2comp search --queries queries.jsonl -k 100 --format trec -o run.trec",
            "llm2comp search                       (a prompt; an empty line or ctrl-D leaves it)",
        ),
    )(search)


@with_groups(options=SEARCH)
def search(
    ctx: typer.Context,
    query: Annotated[str | None, typer.Argument(help="Query; without one, a prompt asks for some.")] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="DIR", help="Index to search. [default: $LLM2COMP_INDEX, else the one *.index here]"
        ),
    ] = None,
    *,
    options: SearchOptions,
    rerank: Annotated[
        str | None,
        typer.Option(
            "--rerank", metavar="MODEL", help="Score the best hits again: memory, or a cross-encoder's name or folder."
        ),
    ] = None,
    as_json: JsonOption = False,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Many queries: _id and text (or qid and query) in any corpus format, .txt with one a line, or the "
            "queries.jsonl of a BEIR folder.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the name of the setting
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Format of a run over --queries: trec or json (lines)."),
    ] = None,
    output: Annotated[Path | None, output_option("FILE", "Output file of the run. [default: stdout]")] = None,
    encoder: EncoderOption = None,
    query_encoder: Annotated[
        str | None,
        typer.Option("--query-encoder", metavar="NAME", help="Encoder of the queries: one aligned to the index's own."),
    ] = None,
    device: DeviceOption = None,
    timings: Annotated[bool, typer.Option("--timings", help="Print on stderr where the time went.")] = False,
) -> None:
    """Search an index.

    The encoder is the one that built the index. Lexical search loads none, and starts in a moment.
    """
    from llm2comp_apps.cli.ui.timings import report_timings
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.query_file import read_queries

    _check_call(query, queries, format, output)
    if rerank is None:
        refuse_given(ctx, ["rerank_depth"], "nothing is scored again without --rerank")
    if device is not None and options.mode == "lexical" and rerank is None:
        note(f"--device {device}: lexical search loads no model, so it makes no difference")
        device = None
    questions = read_queries(queries) if queries is not None else None  # a broken file is reported right here
    describe_index_device(device)
    library = Collection.open(index, encoder=encoder, query_encoder=query_encoder, device=device)
    _report_oddities(library, options, rerank)
    searcher = library.searcher(options.mode, rerank)
    if questions is not None:
        _write_run(searcher, options, questions, format or ("json" if as_json else "trec"), output)
    elif query is not None:
        _answer(searcher, options, query, as_json=as_json)
    else:
        _prompt(searcher, options)
    if timings:
        report_timings(library.stopwatch)


def _check_call(query: str | None, queries: Path | None, run_format: str | None, output: Path | None) -> None:
    """Refuse combinations that mean nothing, before anything is loaded."""
    from llm2comp_apps.retrieval.query_text import check_query
    from llm2comp_apps.retrieval.runs import check_run

    if queries is not None and query is not None:
        raise UsageError("give a query or --queries FILE, not both")
    if queries is None and (run_format is not None or output is not None):
        raise UsageError("--format and -o belong to --queries FILE; for one query take --json")
    check_run(run_format or "trec", output)
    if query is not None:
        check_query(query)
    if query is None and queries is None and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise UsageError("no query: give one, or --queries FILE (the prompt needs a terminal)")


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _report_oddities(library: Collection, options: SearchOptions, rerank: str | None) -> None:
    """Say what is no error and most likely not meant."""
    from llm2comp_apps.retrieval.conditions import unknown_field_lines
    from llm2comp_apps.retrieval.rerank import MEMORY

    for line in unknown_field_lines(library.index, options.where) if options.where is not None else ():
        warn(f"--where: {line}")
    if options.k > max(len(library), _FEW):
        which = "all of them" if options.mode != "lexical" and options.where is None else "all that match"
        note(f"{len(library)} documents in the index; -k {options.k} gives {which}")
    if rerank == MEMORY and not library.index.memory_tokens:
        warn(f"{library.path} stores no memory vectors: those of the best hits are made now (index build --memory)")


def _write_run(
    searcher: Searcher, options: SearchOptions, queries: Sequence[Document], run_format: str, output: Path | None
) -> None:
    from llm2comp_apps.retrieval.runs import write_run

    ascii_only = output is None and not stdout_is_unicode()
    with _opened(output) as file, ProgressDisplay("searching", "queries", len(queries)) as progress:
        write_run(
            file,
            searcher,
            options,
            queries,
            format=run_format,  # type: ignore[arg-type]  # checked before
            ascii_only=ascii_only,
            on_progress=progress.update,
        )
    note(f"{len(queries)} queries answered" + (f", run written to {output}" if output is not None else ""))


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """The file to write to, which appears when all is written; stdout where none is named."""
    from llm2comp_apps.files import replaced_file

    if output is None:
        yield sys.stdout
        return
    with replaced_file(output) as path, path.open("w", encoding="utf-8") as file:
        yield file


def _answer(searcher: Searcher, options: SearchOptions, query: str, *, as_json: bool) -> None:
    from llm2comp_apps.cli.ui.hits import print_hits

    hits = searcher.search(query, options)
    if as_json:
        print_json({"query": query, "mode": options.mode, "hits": [hit.to_dict() for hit in hits]})
    elif hits:
        print_hits(hits)
    else:
        note("No hits.")


def _prompt(searcher: Searcher, options: SearchOptions) -> None:
    """Ask for queries until an empty line or the end of input; the line editor keeps a history.

    An error ends its query only: what has been loaded is worth more than that.
    """
    from llm2comp_indexes import IndexStoreError

    with contextlib.suppress(ImportError):  # Windows has no readline, and its console edits lines by itself
        import readline  # noqa: F401 - its import gives input() line editing and a history
    note("Type a query; an empty line or ctrl-D leaves.")
    while query := _ask():
        try:
            _answer(searcher, options, query, as_json=False)
        except (LLM2CompError, IndexStoreError, OSError, RuntimeError) as error:  # RuntimeError: torch, out of memory
            note(f"Error: {error}")


def _ask() -> str:
    """The next query; empty when there is none."""
    try:
        return input("query> ").strip()
    except EOFError:
        note("")
    except UnicodeDecodeError:
        note("Error: that is not valid UTF-8; type it again")
        return _ask()
    return ""
