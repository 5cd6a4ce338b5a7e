"""Reading documents, and what a person reads about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, warn

if TYPE_CHECKING:
    from llm2comp_apps.corpus import CorpusOptions, Document, ReadReport

__all__ = ["describe_reading", "documents_of"]


def documents_of(sources: Sequence[str], options: CorpusOptions) -> Iterator[Document]:
    """Stream documents; at their end, report on stderr what was read."""
    from llm2comp_apps.corpus import ReadReport, read_corpus

    report = ReadReport()
    yield from read_corpus(sources, options, report)
    describe_reading(report)


def describe_reading(report: ReadReport) -> None:
    """Report on stderr what was read, what was left out and why."""
    note(report.summary())
    for line in report.notes:
        note(f"Note: {line}")
    warn(*report.warnings())
