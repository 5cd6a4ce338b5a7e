"""``llm2comp search``: one query, a prompt, or a file of queries."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.search import CALL, SEARCH
from llm2comp_apps.cli.options.unused import refuse_given, refuse_needless
from llm2comp_apps.cli.ui.console import is_terminal, note, stdout_is_unicode, warn
from llm2comp_apps.cli.ui.hits import show_hits
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.errors import LLM2CompError, UsageError

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval.options import SearchOptions
    from llm2comp_apps.retrieval.search import Searcher

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        search,
        'llm2comp search "how do cells divide" -k 5',
        "llm2comp search 'title:vaccine \"side effects\" -mouse'",
        'llm2comp search "flu vaccine" --mode lexical --where "year >= 2020 and lang = \'en\'" --json',
        'llm2comp search "flu vaccine" --query-encoder runs/align/encoder',
        'llm2comp search "how do cells divide" --passages -k 5',
        "llm2comp search --like doc-17 --show year --show author.name",
        "llm2comp search --queries queries.jsonl -k 100 --format trec -o run.trec",
        "llm2comp search                       (a prompt; an empty line or ctrl-D leaves it)",
    )


@with_groups(*CALL, options=SEARCH)
def search(
    ctx: typer.Context,
    query: Annotated[str | None, typer.Argument(help="Query; without one, a prompt asks for some.")] = None,
    *,
    index: list[Path] | None,
    options: SearchOptions,
    rerank: str | None,
    as_json: JsonOption = False,
    queries: Path | None,
    format: str | None,  # noqa: A002 - the name of the setting
    output: Path | None,
    encoder: EncoderOption = None,
    query_encoder: str | None,
    show: list[str] | None,
    like: str | None,
    device: DeviceOption = None,
    timings: bool,
) -> None:
    """Search an index, or several as one.

    The encoder is the one that built the index. Lexical search loads none, and starts in a moment.
    """
    from llm2comp_apps.retrieval.advice import rerank_notes, search_notes, search_warnings, shown_warnings
    from llm2comp_apps.retrieval.query_file import read_queries
    from llm2comp_apps.retrieval.runs import check_run
    from llm2comp_apps.retrieval.shards import open_indexes

    if like is not None:
        _show_similar(ctx, index or (), like, options, as_json=as_json, shown=show or ())
        return
    _check_call(ctx, query, queries)
    run_format = format or ("json" if as_json or options.passages else "trec")
    check_run(run_format, output, passages=options.passages and queries is not None)
    _check_models(ctx, options.mode, rerank)
    if device is not None and options.mode == "lexical" and rerank in (None, "words"):
        note(f"--device {device}: lexical search loads no model, so it makes no difference")
        device = None
    questions = read_queries(queries) if queries is not None else None  # a broken file is reported right here
    describe_index_device(device)
    library = open_indexes(index or (), encoder=encoder, query_encoder=query_encoder, device=device)
    warn(*search_warnings(library.index, options, rerank), *shown_warnings(library.index, show or ()))
    advice = ["index build --memory stores them"] if rerank == "memory" and not library.index.memory_tokens else []
    note(*advice, *search_notes(library.index, options), *rerank_notes(library.index, rerank))
    searcher = library.searcher(options.mode, rerank)
    searcher.check(options)  # what no query can change is said once, and before the prompt asks for the first
    if questions is not None:
        _write_run(searcher, options, questions, run_format, output)
    elif query is not None:
        _answer(searcher, options, query, as_json=as_json, shown=show or ())
    else:
        _prompt(searcher, options, as_json=as_json, shown=show or ())
    note(*(["Timings:", *(f"  {line}" for line in library.stopwatch.lines())] if timings else ()))


def _show_similar(
    ctx: typer.Context, paths: Sequence[Path], like: str, options: SearchOptions, *, as_json: bool, shown: Sequence[str]
) -> None:
    """The nearest documents of a document, by the vectors that are stored: no encoder is loaded."""
    from llm2comp_apps.retrieval.advice import search_warnings, shown_warnings
    from llm2comp_apps.retrieval.shards import open_indexes

    others = [name for name in ctx.params if name not in ("index", "k", "where", "like", "as_json", "show")]
    refuse_given(ctx, others, "--like compares the vectors of documents; it takes -k, --where, --show and --json")
    library = open_indexes(paths)
    warn(*search_warnings(library.index, options), *shown_warnings(library.index, shown))
    show_hits(library.similar(like, k=options.k, where=options.where), as_json=as_json, shown=shown, like=like)


def _check_call(ctx: typer.Context, query: str | None, queries: Path | None) -> None:
    """Refuse combinations that mean nothing, before anything is loaded."""
    from llm2comp_apps.retrieval.query_text import check_query

    if queries is not None and query is not None:
        raise UsageError("give a query or --queries FILE, not both")
    if queries is None:
        refuse_given(ctx, ["format", "output"], "belongs to --queries FILE; for one query take --json")
    named = ctx.params["format"]
    refuse_needless(ctx, (queries, ["show"], "a run has no fields"), (named, ["as_json"], "--format says it already"))
    if query is not None:
        check_query(query)
    elif queries is None and not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError("no query: give one, or --queries FILE (the prompt needs a terminal)")


def _check_models(ctx: typer.Context, mode: str, rerank: str | None) -> None:
    """Refuse what a search of a mode cannot use with this reranker, or where nothing is scored again."""
    from llm2comp_apps.retrieval.rerank import READ_BY_ENCODER

    if rerank is None:
        refuse_given(ctx, ["rerank_depth", "rerank_ms"], "nothing is scored again without --rerank")
    if mode == "lexical" and rerank is None:
        refuse_given(ctx, ["encoder", "query_encoder"], "lexical search loads no model")
    elif mode == "lexical":
        refuse_given(ctx, ["query_encoder"], "lexical search encodes no query")
        unread = [] if rerank in READ_BY_ENCODER else ["encoder"]
        refuse_given(ctx, unread, f"neither lexical search nor {rerank} asks it")


def _write_run(
    searcher: Searcher, options: SearchOptions, queries: Sequence[Document], run_format: Any, output: Path | None
) -> None:
    from llm2comp_apps.retrieval.runs import opened_run, write_run

    ascii_only = output is None and not stdout_is_unicode()
    target = contextlib.nullcontext(sys.stdout) if output is None else opened_run(output)
    with target as file, ProgressDisplay("searching", "queries", len(queries)) as progress:
        show = progress.update
        write_run(file, searcher, options, queries, format=run_format, ascii_only=ascii_only, on_progress=show)
    note(f"{len(queries)} queries answered" + (f", run written to {output}" if output is not None else ""))


def _answer(searcher: Searcher, options: SearchOptions, query: str, *, as_json: bool, shown: Sequence[str]) -> None:
    """The hits of a typed query, and what was taken for an operator in it."""
    from llm2comp_apps.retrieval.advice import operator_notes

    note(*operator_notes(query, options))
    facts = {"query": query, "mode": options.mode}
    show_hits(searcher.search(query, options), as_json=as_json, shown=shown, spans=options.passages, **facts)


def _prompt(searcher: Searcher, options: SearchOptions, *, as_json: bool, shown: Sequence[str]) -> None:
    """Ask for queries until an empty line or the end of input; the line editor keeps a history.

    An error ends its query only: what has been loaded is worth more than that.
    """
    from llm2comp_indexes import IndexStoreError

    with contextlib.suppress(ImportError):  # Windows has no readline, and its console edits lines by itself
        import readline  # noqa: F401 - its import gives input() line editing and a history
    note("Type a query; an empty line or ctrl-D leaves.")
    while query := _ask():
        try:
            _answer(searcher, options, query, as_json=as_json, shown=shown)
        except (LLM2CompError, IndexStoreError, OSError, RuntimeError) as error:  # RuntimeError: torch, out of memory
            note(f"Error: {error}")


def _ask() -> str:
    """The next query; empty when there is none."""
    try:
        return input("query> ").strip()
    except (EOFError, KeyboardInterrupt) as end:
        note("")  # ends the line that was typed
        if isinstance(end, KeyboardInterrupt):
            raise
    except UnicodeDecodeError:
        note("Error: that is not valid UTF-8; type it again")
        return _ask()
    return ""
