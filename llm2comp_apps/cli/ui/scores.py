"""How scores are shown: a line for each cell of a table as it is filled, and the tables at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from llm2comp_apps.cli.ui.console import note, stdout_console
from llm2comp_apps.evaluation.report_text import COMPARISON_NOTE, delta_text, is_best, percent

if TYPE_CHECKING:
    from rich.console import Console

    from llm2comp_apps.evaluation.analysis import Study
    from llm2comp_apps.evaluation.report import Report
    from llm2comp_apps.evaluation.results import TaskResult
    from llm2comp_apps.evaluation.table import System

__all__ = [
    "announce",
    "comparisons_table",
    "print_report",
    "print_scores",
    "print_studies",
    "scores_table",
    "studies_table",
    "summary_table",
]


def announce(system: System, result: TaskResult, kept: bool) -> None:
    """One line on stderr for each cell of a table."""
    how = "kept" if kept else f"{result.seconds:.1f} s"
    if result.prompts["query"]:
        how += f", query prompt {result.prompts['query']!r}"
    note(f"{system.label}: {result.task} {result.main_metric} {100 * result.main_score:.2f} ({how})")


def print_report(report: Report) -> None:
    """Averages first; then all scores and differences, where they fit."""
    console = _wide_console()
    console.print(summary_table(report))
    for table in (scores_table(report), comparisons_table(report)):
        if table is not None and console.measure(table).maximum <= console.width:
            console.print(table)
        elif table is not None:
            note(f"{table.title}: too wide for this terminal, see the report")


def print_scores(report: Report) -> None:
    """Tasks down, encoders across."""
    _wide_console().print(scores_table(report))


def print_studies(studies: Sequence[Study]) -> None:
    """One row an encoder; below, the poolings of those with memory vectors."""
    console = _wide_console()
    console.print(studies_table(studies))
    for study in studies:
        if study.poolings:
            console.print(_poolings_table(study))


def summary_table(report: Report) -> Table:
    """Encoders down, category averages across; the best of each column in bold."""
    table = Table(title="Averages (scores x 100)")
    table.add_column("encoder")
    for line in report.summary:
        table.add_column(line.name, justify="right")
    for label in report.labels:
        cells = [
            Text(percent(line.values[label]), style="bold" if is_best(line, label) else "") for line in report.summary
        ]
        table.add_row(Text(label), *cells)
    return table


def scores_table(report: Report) -> Table:
    """Tasks and averages down, encoders across; the best of each line in bold."""
    table = Table(title="Scores (x 100)")
    table.add_column("task", no_wrap=True)
    table.add_column("metric")
    for label in report.labels:
        table.add_column(label, justify="right", no_wrap=True)
    for line in report.lines:
        average = line.kind != "task"
        scores = [
            Text(percent(line.values[label]), style="bold" if is_best(line, label) else "") for label in report.labels
        ]
        name = Text(line.name, style="italic" if average else "")
        table.add_row(name, Text(line.metric), *scores, end_section=average)
    return table


def comparisons_table(report: Report) -> Table | None:
    """Differences from the reference row; ``None`` where nobody is compared."""
    if report.reference is None:
        return None
    table = Table(title=f"Difference from {report.reference}", caption=COMPARISON_NOTE)
    table.add_column("task", no_wrap=True)
    others = [label for label in report.labels if label != report.reference]
    for label in others:
        table.add_column(label, justify="right", no_wrap=True)
    for line in report.lines:
        average = line.kind != "task"
        name = Text(line.name, style="italic" if average else "")
        table.add_row(name, *[Text(delta_text(report, line, label)) for label in others], end_section=average)
    return table


def studies_table(studies: Sequence[Study]) -> Table:
    """Spectrum, geometry and memory, one row an encoder."""
    table = Table(title="Embedding space")
    columns = (
        "encoder",
        "d",
        "effective dimension",
        "participation ratio",
        "90 % of variance",
        "alignment",
        "uniformity",
    )
    for name in (*columns, "mean cosine", "memory correlation"):
        table.add_column(name, justify="left" if name == "encoder" else "right", no_wrap=True)
    for study in studies:
        spectrum, geometry, memory = study.spectrum, study.geometry, study.mean_memory_correlation
        table.add_row(
            study.label,
            str(study.dimension),
            f"{spectrum.effective_dimension:.1f}",
            f"{spectrum.participation_ratio:.1f}",
            str(spectrum.dimensions_90),
            f"{geometry.alignment:.3f}",
            f"{geometry.uniformity:.3f}",
            f"{geometry.mean_cosine:.3f}",
            "–" if memory is None else f"{memory:.3f}",
        )
    return table


def _poolings_table(study: Study) -> Table:
    table = Table(title=f"Poolings of {study.label}")
    names = list(study.poolings[0].scores)
    for name in ("pooling", "effective dimension", *names):
        table.add_column(name, justify="left" if name == "pooling" else "right", no_wrap=True)
    for result in study.poolings:
        scores = [percent(result.scores[name]) for name in names]
        table.add_row(result.pooling, f"{result.effective_dimension:.1f}", *scores)
    return table


def _wide_console() -> Console:
    """For tables: as wide as the terminal, as wide as need be in a pipe."""
    console = stdout_console()
    if not console.is_terminal:
        console.width = 10_000
    return console
