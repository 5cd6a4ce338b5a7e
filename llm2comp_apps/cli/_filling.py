"""What ``index build`` and ``index add`` do: a corpus goes into an index, seen and stopped by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llm2comp_apps.cli._settings import settings_differ
from llm2comp_apps.cli.options.index_kind import faiss_device
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.errors import INTERRUPTED
from llm2comp_apps.cli.ui.interrupts import stop_on_interrupt
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration
from llm2comp_apps.cli.ui.reading import describe_reading
from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
from llm2comp_apps.retrieval.plan import EmbeddingPlan

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder import TextEncoder
    from llm2comp_apps.retrieval.build import BuildProgress, Survey, UpdateReport

__all__ = ["Corpus", "Filling"]

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

    def survey(self, index: Index | None, recipe: EmbeddingPlan, fingerprint: str) -> Survey | None:
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


@dataclass(frozen=True, slots=True)
class Filling:
    """One run of ``index build`` or ``index add``.

    Attributes:
        corpus: the documents.
        encoder: the name of the encoder; ``None`` for the index's own or, in a new one, the default.
        device: where it runs.
        as_json: print the report on stdout.
    """

    corpus: Corpus
    encoder: str | None
    device: str | None
    as_json: bool

    def new(self, path: Path, settings: dict[str, Any]) -> None:
        """Make an index and fill it.

        Args:
            path: where nothing is yet.
            settings: of the index, as far as the person gave them: the fields of :class:`EmbeddingPlan`, and those that
                ``Index.create`` reads.

        Raises:
            typer.Exit: with 130, after an interruption.
        """
        from llm2comp_indexes import Index, Policy, check_kind

        from llm2comp_apps.cli._open import encoder_record, load_named_encoder
        from llm2comp_apps.retrieval.lengths import check_chunk
        from llm2comp_apps.retrieval.rerank import encode_memory_with

        given = {name: value for name, value in settings.items() if value is not None}
        recipe = EmbeddingPlan(
            **{field.name: given.pop(field.name) for field in fields(EmbeddingPlan) if field.name in given}
        )
        source = self.encoder or "default"
        policy = Policy.from_settings(given)
        encoder = load_named_encoder(source, self.device)
        check_kind(policy, encoder.dimension)
        recipe = replace(recipe, prompt=encoder.prompts.get("document", ""))
        check_chunk(recipe, encoder)
        memory_tokens = encode_memory_with(encoder).k if recipe.memory else 0
        # The index is made after the corpus has been read once: a broken corpus leaves nothing behind.
        survey = self.corpus.survey(None, recipe, encoder.fingerprint)
        index = Index.create(
            path,
            dimension=encoder.dimension,
            encoder=encoder_record(encoder, source),
            settings={**given, **recipe.to_settings()},
            memory_tokens=memory_tokens,
        )
        self._conclude(self._fill(index, encoder, recipe, survey), index)

    def existing(self, path: Path, settings: dict[str, Any], *, whole: bool) -> None:
        """Bring an index up to date.

        Args:
            path: the index.
            settings: what the person gave; it must be what the index was built with.
            whole: the corpus is meant to be all that the index holds, so what it lacks is worth a word.

        Raises:
            UsageError: a setting differs.
            typer.Exit: with 130, after an interruption.
        """
        from llm2comp_indexes import Index

        from llm2comp_apps.cli._open import load_index_encoder
        from llm2comp_apps.retrieval.index_encoder import check_encoder

        index = Index.open(path)
        for name, value in settings.items():
            built = index.settings.get(name)
            if value is not None and value != built:
                raise settings_differ(path, name, value, built)
        recipe = EmbeddingPlan.from_settings(index.settings)
        encoder = load_index_encoder(index, self.encoder, self.device)
        check_encoder(index, encoder)
        survey = self.corpus.survey(index, recipe, encoder.fingerprint)
        report = self._fill(index, encoder, recipe, survey)
        others = len(index) - report.read
        if whole and others > 0 and not report.interrupted:
            note(f"{others} documents of the index are not in this corpus; they stay (index delete removes some)")
        self._conclude(report, index)

    def _fill(self, index: Index, encoder: TextEncoder, recipe: EmbeddingPlan, survey: Survey | None) -> UpdateReport:
        """Encode and commit with progress; ctrl-C commits what is there."""
        from llm2comp_apps.retrieval.build import fill_index

        note(f"{index.path}: encoder {encoder.name}, {encoder.dimension} dimensions")
        reading = ReadReport()
        documents = read_corpus(self.corpus.sources, self.corpus.options, reading)
        device = faiss_device(self.device)
        stopping = "Stopping after this batch, which will be kept; ctrl-C again stops at once."
        total = survey.new if survey is not None else None
        with ProgressDisplay("encoding", "documents", total) as display, stop_on_interrupt(stopping) as should_stop:

            def show(progress: BuildProgress) -> None:
                # By characters, since the longest documents of each window come first.
                share = progress.characters / survey.characters if survey is not None and survey.characters else None
                display.update(progress.documents, share)

            report = fill_index(
                index, encoder, documents, recipe, device=device, on_progress=show, should_stop=should_stop
            )
        if survey is None:
            describe_reading(reading)
        return report

    def _conclude(self, report: UpdateReport, index: Index) -> None:
        """Say what was done."""
        path = index.path
        if self.as_json:
            print_json({"index": str(path), **asdict(report)})
        took = f"in {format_duration(report.seconds)}, {format_duration(report.encode_seconds)} of it encoding"
        if report.interrupted:
            note(f"Interrupted: {report.added} documents are added and safe in {path} ({took}).")
            note("The same command again goes on from there.")
        else:
            added = f"{report.added} documents added ({report.vectors} vectors)"
            note(f"{path}: {added}, {report.unchanged} unchanged, {took}")
        for line in report.warnings:
            warn(line)
        if report.interrupted:
            raise typer.Exit(INTERRUPTED)
