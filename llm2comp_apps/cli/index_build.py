"""``llm2comp index build`` and ``llm2comp index add``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, output_option
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.index_settings import BUILD, ExistingIndex
from llm2comp_apps.cli.options.reading import READING, CorpusArgument
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.errors import INTERRUPTED
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration, stop_when_asked
from llm2comp_apps.cli.ui.reading import describe_reading, show_kinds
from llm2comp_apps.corpus.options import CorpusOptions

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.corpus import Document, ReadReport
    from llm2comp_apps.encoder import TextEncoder
    from llm2comp_apps.retrieval.build import BuildProgress, Survey, UpdateReport
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.plan import EmbeddingPlan

__all__ = ["register"]

PruneOption = Annotated[bool, typer.Option("--prune", help="Remove documents that are not in this corpus any more.")]
AllowMostOption = Annotated[
    bool, typer.Option("--yes", help="Prune even if more than half of the documents would be removed.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``index`` group."""
    add_command(
        app,
        build,
        "llm2comp index build corpus.jsonl",
        "llm2comp index build notes/ papers.csv -o library.index --chunk 256 --overlap 32",
        "llm2comp index build notes/ --prune",
        "zcat dump.jsonl.gz | llm2comp index build - -o dump.index",
    )
    add_command(app, add, "llm2comp index add library.index new-papers.jsonl")


@with_groups(settings=BUILD, reading=READING)
def build(
    corpus: CorpusArgument,
    output: Annotated[
        Path | None, output_option("DIR", "Index to make. [default: corpus.index beside the corpus]")
    ] = None,
    encoder: EncoderOption = None,
    *,
    settings: dict[str, Any],
    prune: PruneOption = False,
    allow_most: AllowMostOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    reading: CorpusOptions,
) -> None:
    """Make an index of a corpus, or bring one up to date.

    Commits as it goes: after ctrl-C, a crash or a power cut, the same command continues where it stopped. Documents
    that the index holds unchanged are not encoded again.
    """
    from llm2comp_apps.retrieval.discovery import new_index_path
    from llm2comp_apps.retrieval.making import check_sources, make_collection
    from llm2comp_apps.retrieval.mirroring import mirror

    path = new_index_path(corpus, output)
    look = partial(_survey, corpus, reading) if check_sources(corpus, reading) else _nothing
    describe_index_device(device)
    with make_collection(path, settings, look, encoder=encoder, device=device) as (library, survey):
        run = partial(mirror, library, prune=prune, allow_most=allow_most)
        report, read = _fill(library, corpus, reading, survey, run)
    if report.others:
        note(_kept(report, prune=prune))
    _conclude(library, report, read, as_json=as_json)


def _kept(report: UpdateReport, *, prune: bool) -> str:
    """What the index holds besides the corpus, and how it would go; with ``prune`` a warning says why it stays."""
    one = report.others == 1
    found = f"{report.others} {'document of the index is' if one else 'documents of the index are'} not in this corpus"
    way = "" if prune else f" (--prune removes {'it' if one else 'them'})"
    return f"{found}; {'it stays' if one else 'they stay'}: {_named(report.other_ids, report.others)}{way}"


@with_groups(reading=READING)
def add(
    index: ExistingIndex,
    corpus: CorpusArgument,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Add documents, or replace those with the same ids.

    They are encoded, chunked and stored as the index was built. Documents that it holds unchanged are skipped.
    """
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.making import check_sources

    look = partial(_survey, corpus, reading) if check_sources(corpus, reading) else _nothing
    describe_index_device(device)
    library = Collection.open(index, encoder=encoder, device=device)
    survey = look(library.index, library.plan, library.encoder)
    report, read = _fill(library, corpus, reading, survey, partial(_update, library))
    _conclude(library, report, read, as_json=as_json)


def _update(library: Collection, documents: Iterator[Document], _: ReadReport, **how: Any) -> UpdateReport:
    return library.update(documents, **how)


def _nothing(*_: object) -> None:
    """What is known of a corpus that can be read only once."""


def _survey(
    sources: Sequence[str], reading: CorpusOptions, index: Index | None, plan: EmbeddingPlan, encoder: TextEncoder
) -> Survey:
    """Read everything once, to count it and to find what is broken."""
    from llm2comp_apps.corpus import ReadReport, read_corpus
    from llm2comp_apps.retrieval.build import survey
    from llm2comp_apps.retrieval.making import options_as_held

    report, reading = ReadReport(), options_as_held(index, sources, reading)
    with ProgressDisplay("reading", "documents") as display:
        found = survey(index, read_corpus(sources, reading, report), plan, encoder.fingerprint, display.update)
    describe_reading(report)
    if found.new < found.documents:
        note(f"{found.documents - found.new} of them are in the index already, unchanged")
    return found


def _fill(
    library: Collection,
    sources: Sequence[str],
    reading: CorpusOptions,
    survey: Survey | None,
    run: Callable[..., UpdateReport],
) -> tuple[UpdateReport, ReadReport]:
    """Encode and commit with progress; ctrl-C commits what is there."""
    from llm2comp_apps.corpus import ReadReport, read_corpus
    from llm2comp_apps.retrieval.making import options_as_held

    encoder, reading = library.encoder, options_as_held(library.index, sources, reading)
    note(f"{library.path}: encoder {encoder.name}, {encoder.dimension} dimensions")
    reading_report = ReadReport()
    documents = read_corpus(sources, reading, reading_report)
    total = survey.new if survey is not None else None
    with ProgressDisplay("encoding", "documents", total) as display, stop_when_asked() as stop:

        def show(progress: BuildProgress) -> None:
            display.update(progress.documents, None if survey is None else survey.share(progress))

        report = run(documents, reading_report, on_progress=show, should_stop=stop.asked)
    if survey is None:
        describe_reading(reading_report)
    if not report.interrupted:
        show_kinds(reading_report)
    return report, reading_report


def _named(ids: Sequence[str], count: int) -> str:
    """Some ids, and whether there are more."""
    return ", ".join(ids) + (f" and {count - len(ids)} more" if count > len(ids) else "")


def _conclude(library: Collection, report: UpdateReport, read: ReadReport, *, as_json: bool) -> None:
    """Say what was done; exits with 130 after an interruption."""
    if as_json:
        print_json({"index": str(library.path), **asdict(report), "reading": read.record()})
    took = f"in {format_duration(report.seconds)}, {format_duration(report.encode_seconds)} of it encoding"
    if report.interrupted:
        note(f"Interrupted: {report.added} documents are added and safe in {library.path} ({took}).")
        note("The same command again continues from there.")
    else:
        note(f"{library.path}: {report}, {took}")
        if report.replaced:
            note(f"Replaced: {_named(report.replaced_ids, report.replaced)}")
        if report.removed:
            note(f"Removed: {_named(report.other_ids, report.removed + report.others)}")
    warn(*report.warnings)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
