"""How tables of scores are shown: a line for each cell as it is filled, and a console that fits a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, stdout_console

if TYPE_CHECKING:
    from rich.console import Console

    from llm2comp_apps.evaluation.results import TaskResult
    from llm2comp_apps.evaluation.table import System

__all__ = ["announce", "wide_console"]


def announce(system: System, result: TaskResult, kept: bool) -> None:
    """One line on stderr for each cell of a table."""
    how = "kept" if kept else f"{result.seconds:.1f} s"
    if result.prompts["query"]:
        how += f", query prompt {result.prompts['query']!r}"
    note(f"{system.label}: {result.task} {result.main_metric} {100 * result.main_score:.2f} ({how})")


def wide_console() -> Console:
    """For tables: as wide as the terminal, as wide as need be in a pipe."""
    console = stdout_console()
    if not console.is_terminal:
        console.width = 10_000
    return console
