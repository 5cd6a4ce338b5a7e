"""``llm2comp search``: one query, a prompt, or a file of queries."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples
from llm2comp_apps.cli.options.index_kind import faiss_device
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.errors import LLM2CompError, UsageError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.retrieval.rerank import Reranker
    from llm2comp_apps.retrieval.search import Searcher, SearchOptions
    from llm2comp_apps.retrieval.stopwatch import Stopwatch

__all__ = ["register"]

_MEMORY = "memory"
_K = 10

_EXAMPLES = examples(
    'llm2comp search "how do cells divide" -k 5',
    'llm2comp search "flu vaccine" --mode lexical --where "year >= 2020 and lang = \'en\'" --json',
    "llm2comp search --queries queries.jsonl -k 100 --format trec -o run.trec",
    "llm2comp search                       (a prompt; an empty line or ctrl-D leaves it)",
)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("search", epilog=_EXAMPLES)(search)


def search(
    query: Annotated[str | None, typer.Argument(help="What to look for; without it, a prompt asks.")] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="[default: $LLM2COMP_INDEX, else the one *.index here]"),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many hits.")] = _K,
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="dense (meaning), lexical (words) or hybrid (both).")
    ] = "hybrid",
    fusion: Annotated[
        str, typer.Option("--fusion", metavar="METHOD", help="How hybrid joins: minmax or rrf.")
    ] = "minmax",
    rerank: Annotated[
        str | None,
        typer.Option(
            "--rerank",
            metavar="MODEL",
            help="Score the best hits anew: memory, or a cross-encoder's name or directory.",
        ),
    ] = None,
    rerank_depth: Annotated[
        int | None, typer.Option("--rerank-depth", metavar="N", help="How many hits to score anew. [default: 100]")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="CONDITION", help="Only documents whose fields meet it.")
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
    run_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="Of a run over --queries: trec or json (lines).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where the run goes. [default: stdout]")
    ] = None,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    timings: Annotated[bool, typer.Option("--timings", help="Print on stderr where the time went.")] = False,
) -> None:
    """Search an index.

    The encoder is the one that built the index. Lexical search loads none, and starts in a moment.
    """
    from llm2comp_apps.cli.ui.timings import report_timings
    from llm2comp_apps.retrieval.query_file import read_queries
    from llm2comp_apps.retrieval.search import RERANK_DEPTH, SearchOptions
    from llm2comp_apps.retrieval.stopwatch import Stopwatch

    depth = RERANK_DEPTH if rerank_depth is None else rerank_depth
    options = SearchOptions(k=k, mode=mode, fusion=fusion, where=where, rerank_depth=depth)  # type: ignore[arg-type]  # checked there
    _check_call(query, queries, run_format, output)
    _check_condition(where)
    if rerank_depth is not None and rerank is None:
        raise UsageError("--rerank-depth belongs to --rerank MODEL, which is not given")
    if device is not None and mode == "lexical" and rerank is None:
        note(f"--device {device}: lexical search loads no model, so it makes no difference")
    questions = read_queries(queries) if queries is not None else None  # a broken file is told right here
    clock = Stopwatch()
    searcher = _open_searcher(index, options, rerank, encoder, device, clock)
    if questions is not None:
        from llm2comp_apps.cli._runs import write_run

        write_run(searcher, options, questions, run_format or ("json" if as_json else "trec"), output)
    elif query is not None:
        _answer(searcher, options, query, as_json=as_json)
    else:
        _prompt(searcher, options)
    if timings:
        report_timings(clock)


def _check_call(query: str | None, queries: Path | None, run_format: str | None, output: Path | None) -> None:
    """Refuse combinations that mean nothing, before anything is loaded.

    Raises:
        UsageError: says which.
    """
    from llm2comp_apps.retrieval.query_text import check_query

    if queries is not None and query is not None:
        raise UsageError("give a query or --queries FILE, not both")
    if queries is None and (run_format is not None or output is not None):
        raise UsageError("--format and -o belong to --queries FILE; for one query take --json")
    if run_format not in (None, "trec", "json"):
        raise UsageError(f"no run format called {run_format!r}; there are: trec, json")
    if output is not None:
        _check_output(output)
    if query is not None:
        check_query(query)
    if query is None and queries is None and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise UsageError("no query: give one, or --queries FILE (the prompt needs a terminal)")


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise UsageError(f"-o {output}: that is a folder; name a file in it")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}")


def _check_condition(where: str | None) -> None:
    """Refuse a condition that cannot be read.

    Raises:
        UsageError: it is no text.
        FilterError: where it goes wrong.
    """
    if where is None:
        return
    from llm2comp_indexes import compile_filter

    from llm2comp_apps.retrieval.query_text import check_text

    check_text(where, "where")
    compile_filter(where)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _open_searcher(
    index_path: Path | None,
    options: SearchOptions,
    rerank: str | None,
    encoder_name: str | None,
    device: str | None,
    clock: Stopwatch,
) -> Searcher:
    """Everything that is loaded once: the index, and the models that the options need, but nothing in vain."""
    from llm2comp_apps.cli._open import load_index_encoder
    from llm2comp_apps.retrieval.discovery import find_index
    from llm2comp_apps.retrieval.search import Searcher

    with clock.part("open index"):
        from llm2comp_indexes import Index

        found = find_index(index_path)
        index = Index.open(found, device="cpu" if options.mode == "lexical" else faiss_device(device))
    _tell_what_is_odd(index, options)
    if rerank == _MEMORY and not index.memory_tokens:
        raise UsageError(f"{index.path} stores no memory vectors; build it with --memory to rerank by them")
    reranker: Reranker | None = None
    if rerank is not None and rerank != _MEMORY:
        from llm2comp_apps.retrieval.rerank import CrossEncoderReranker

        with clock.part("load reranker"):  # first, since its name may be wrong, and the encoder's hardly is
            reranker = CrossEncoderReranker(rerank, device)
    encoder = None
    if options.mode != "lexical" or rerank == _MEMORY:
        with clock.part("load encoder"):
            encoder = load_index_encoder(index, encoder_name, device)
    if rerank == _MEMORY:
        from llm2comp_apps.retrieval.rerank import MemoryReranker

        assert encoder is not None
        reranker = MemoryReranker(encoder, index.memory)
    return Searcher(index, encoder, reranker=reranker, stopwatch=clock)


def _tell_what_is_odd(index: Index, options: SearchOptions) -> None:
    """Say what is no error and most likely not meant: a field that no document has, more hits than documents."""
    if options.where is not None:
        from llm2comp_apps.retrieval.conditions import unknown_field_lines

        for line in unknown_field_lines(index, options.where):
            warn(f"--where: {line}")
    if options.k > max(len(index), _K):
        which = "all of them" if options.mode != "lexical" and options.where is None else "all that match"
        note(f"{len(index)} documents in the index; -k {options.k} gives {which}")


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
    """Ask for queries until an empty line or the end of input; the line editor keeps a history."""
    with contextlib.suppress(ImportError):  # Windows has no readline, and its console edits lines by itself
        import readline  # noqa: F401 - its import gives input() line editing and a history
    note("Type a query; an empty line or ctrl-D leaves.")
    while query := _ask():
        _answer_or_tell(searcher, options, query)


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


def _answer_or_tell(searcher: Searcher, options: SearchOptions, query: str) -> None:
    """Answer a query of the prompt. An error ends this query only: what has been loaded is worth more than that."""
    from llm2comp_indexes.errors import IndexStoreError

    try:
        _answer(searcher, options, query, as_json=False)
    except (LLM2CompError, IndexStoreError, OSError, RuntimeError) as error:  # RuntimeError: torch, out of memory
        note(f"Error: {error}")
