"""What a person reads about a corpus that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, warn

if TYPE_CHECKING:
    from llm2comp_apps.corpus import ReadReport

__all__ = ["describe_reading"]


def describe_reading(report: ReadReport) -> None:
    """Report on stderr what was read, what was left out and why."""
    note(report.summary())
    for line in report.notes:
        note(f"Note: {line}")
    for row in report.skipped_rows:
        warn(f"{row.place}: {row.reason}; left out")
    if report.skipped > len(report.skipped_rows):
        warn(f"... and {report.skipped - len(report.skipped_rows)} more broken records")
