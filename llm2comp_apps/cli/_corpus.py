"""What commands that read a corpus share beside its options (those are in ``corpus_args``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llm2comp_apps.cli._shared import note, warn

if TYPE_CHECKING:
    from llm2comp_apps.corpus import ReadReport

__all__ = ["CorpusArgument", "describe_reading"]

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...", help="Files (jsonl json csv tsv parquet txt md, also .gz .zst), folders, or -."
    ),
]


def describe_reading(report: ReadReport) -> None:
    """Tell on stderr what was read, what was left out and why."""
    note(report.summary())
    for line in report.notes:
        note(f"Note: {line}")
    for row in report.skipped_rows:
        warn(f"{row.place}: {row.reason}; left out")
    if report.skipped > len(report.skipped_rows):
        warn(f"... and {report.skipped - len(report.skipped_rows)} more broken records")
