"""What ``index build`` and ``index add`` share: reading a corpus into an index, seen and stopped by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from llm2comp_apps.cli._corpus import describe_reading
from llm2comp_apps.cli._interrupt import stop_on_interrupt
from llm2comp_apps.cli._progress import ProgressDisplay, format_duration
from llm2comp_apps.cli._shared import INTERRUPTED, note, print_json
from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder import TextEncoder
    from llm2comp_apps.retrieval.build import BuildProgress, BuildReport, Survey
    from llm2comp_apps.retrieval.recipe import Recipe

__all__ = ["Corpus", "fill"]

_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The sources that a person named, and how to read them."""

    sources: Sequence[str]
    options: CorpusOptions

    def check(self) -> None:
        """Fail now if a source is missing, not after a model has been loaded.

        Raises:
            CorpusError: which source, and why.
        """
        if _STDIN not in self.sources:
            read_corpus(self.sources, self.options)

    def survey(self, index: Index | None, recipe: Recipe, fingerprint: str) -> Survey | None:
        """Read everything once, to count it and to find what is broken; ``None`` where it can be read only once.

        Raises:
            CorpusError: a record is broken.
        """
        from llm2comp_apps.retrieval.build import survey

        if _STDIN in self.sources:
            return None
        report = ReadReport()
        with ProgressDisplay("reading", "documents") as progress:
            found = survey(index, read_corpus(self.sources, self.options, report), recipe, fingerprint, progress.update)
        describe_reading(report)
        if found.new < found.documents:
            note(f"{found.documents - found.new} of them are in the index already, unchanged")
        return found


def fill(
    index: Index, encoder: TextEncoder, corpus: Corpus, recipe: Recipe, survey: Survey | None, *, as_json: bool
) -> None:
    """Encode and commit with progress; ctrl-C commits what is there and ends with exit code 130.

    Args:
        index: open, of this encoder and recipe.
        encoder: makes the vectors.
        corpus: the documents.
        recipe: how they become vectors.
        survey: what is to be done, if it could be told.
        as_json: print the report on stdout.

    Raises:
        typer.Exit: with 130, after an interruption.
    """
    from llm2comp_apps.retrieval.build import fill_index

    report = ReadReport()
    documents = read_corpus(corpus.sources, corpus.options, report)
    stopping = "Stopping after this batch, which will be kept; ctrl-C again stops at once."
    total = survey.new if survey is not None else None
    with ProgressDisplay("encoding", "documents", total) as display, stop_on_interrupt(stopping) as should_stop:

        def show(progress: BuildProgress) -> None:
            fraction = progress.characters / survey.characters if survey is not None and survey.characters else None
            display.update(progress.documents, fraction)

        built = fill_index(index, encoder, documents, recipe, on_progress=show, should_stop=should_stop)
    if survey is None:
        describe_reading(report)
    _conclude(built, index, as_json=as_json)


def _conclude(built: BuildReport, index: Index, *, as_json: bool) -> None:
    path = index.path
    if as_json:
        print_json({"index": str(path), **asdict(built)})
    took = f"in {format_duration(built.seconds)}, {format_duration(built.encode_seconds)} of it encoding"
    if built.interrupted:
        note(f"Interrupted: {built.added} documents are added and safe in {path} ({took}).")
        note("The same command again goes on from there.")
        raise typer.Exit(INTERRUPTED)
    others = len(index) - built.read
    if others > 0:
        note(f"{others} documents of the index are not in this corpus; they stay (llm2comp index delete removes some)")
    note(f"{path}: {built.added} documents added ({built.vectors} vectors), {built.unchanged} unchanged, {took}")
