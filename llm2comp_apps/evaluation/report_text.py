"""The report as tables and as Markdown, and how scores and differences are written."""

from __future__ import annotations

from llm2comp_apps.evaluation.report import Comparison, Line, Report
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.table import System
from llm2comp_apps.text_table import TextTable, code_span, in_markdown

__all__ = [
    "COMPARISON_NOTE",
    "cell_line",
    "comparison_of",
    "comparisons_table",
    "delta_text",
    "is_best",
    "percent",
    "render_markdown",
    "report_tables",
    "scores_table",
    "summary_table",
]

COMPARISON_NOTE = (
    "Difference in points, with its 95 % bootstrap interval where there is something to resample; * where the test "
    "(randomisation; bootstrap for STS and pair classification), Holm-adjusted over this table, gives p < 0.05."
)


def percent(value: float | None, *, signed: bool = False) -> str:
    """A score in [0, 1] as points with two decimals; a dash for none."""
    if value is None:
        return "–"
    return f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"


def delta_text(report: Report, line: Line, label: str) -> str:
    """``+1.20 [+0.30, +2.10]*`` for a task that was resampled, ``+1.20`` for any other line, a dash without one."""
    comparison = comparison_of(report, line, label)
    return _comparison_text(comparison) if comparison else percent(report.delta(line, label), signed=True)


def comparison_of(report: Report, line: Line, label: str) -> Comparison | None:
    """The comparison of ``label`` with the reference on a line, if it has one."""
    named = (item for item in report.comparisons if (item.task, item.label) == (line.name, label))
    return next(named, None) if line.kind == "task" else None


def _comparison_text(comparison: Comparison) -> str:
    """``+1.20 [+0.30, +2.10]*``."""
    found = comparison.difference
    interval = f"[{percent(found.low, signed=True)}, {percent(found.high, signed=True)}]"
    return f"{percent(found.delta, signed=True)} {interval}{'*' if comparison.significant else ''}"


def is_best(line: Line, label: str) -> bool:
    """Whether ``label`` has the best value of a line that several systems share."""
    value = line.values[label]
    return value is not None and value == line.best and len(line.values) > 1


def cell_line(system: System, result: TaskResult, kept: bool) -> str:
    """A cell of a table as it is filled: the score, and how it came about."""
    how = "kept" if kept else f"{result.seconds:.1f} s"
    if result.prompts["query"]:
        how += f", query prompt {result.prompts['query']!r}"
    return f"{system.label}: {result.task} {result.main_metric} {percent(result.main_score)} ({how})"


def report_tables(report: Report) -> list[TextTable]:
    """Averages, all scores, and the differences where anybody is compared."""
    compared = comparisons_table(report)
    return [summary_table(report), scores_table(report), *([compared] if compared else [])]


def summary_table(report: Report) -> TextTable:
    """Encoders down, category averages across."""
    summary = report.summary
    return TextTable(
        title="Averages (scores x 100)",
        header=["encoder", *(line.name for line in summary)],
        rows=[[label, *(_score_cell(line, label) for line in summary)] for label in report.labels],
        numbers=range(1, 1 + len(summary)),
    )


def scores_table(report: Report) -> TextTable:
    """Tasks and averages down, encoders across."""
    labels = report.labels
    return TextTable(
        title="Scores (x 100)",
        header=["task", "metric", *labels],
        rows=[[_line_name(line), line.metric, *(_score_cell(line, each) for each in labels)] for line in report.lines],
        numbers=range(2, 2 + len(labels)),
    )


def comparisons_table(report: Report) -> TextTable | None:
    """Differences from the reference row; ``None`` where nobody is compared."""
    if report.reference is None:
        return None
    others = [label for label in report.labels if label != report.reference]
    return TextTable(
        title=f"Difference from {report.reference}",
        header=["task", *others],
        rows=[[_line_name(line), *(delta_text(report, line, label) for label in others)] for line in report.lines],
        numbers=range(1, 1 + len(others)),
        caption=COMPARISON_NOTE,
    )


def render_markdown(report: Report) -> str:
    """The whole report as a Markdown page."""
    parts = ["# Evaluation", "", "Scores times 100; the best in bold.", "", *summary_table(report).markdown()]
    parts += ["", "## By task", "", *scores_table(report).markdown()]
    compared = comparisons_table(report)
    if compared is not None:
        parts += ["", f"## {in_markdown(compared.title)}", "", compared.caption, "", *compared.markdown()]
    prompts = _prompts_table(report)
    parts += ["", "## Prompts", "", *(prompts.markdown() if prompts.rows else ["No prompts were used."])]
    parts += ["", "## Encoders", "", *_systems_table(report).markdown()]
    versions = ", ".join(f"{name} {number}" for name, number in report.environment["versions"].items())
    parts += ["", "## Settings", "", *(f"- {key}: {in_markdown(str(value))}" for key, value in report.settings.items())]
    parts += [f"- created: {report.environment['created']}", f"- versions: {versions}"]
    if report.failures:
        parts += ["", "## Not evaluated", "", *(f"- {in_markdown(line)}" for line in report.failures)]
    return "\n".join(parts) + "\n"


def _line_name(line: Line) -> str:
    return line.name if line.kind == "task" else f"*{line.name}*"


def _score_cell(line: Line, label: str) -> str:
    score = percent(line.values[label])
    return f"**{score}**" if is_best(line, label) else score


def _prompts_table(report: Report) -> TextTable:
    rows = [
        [task, label, *(code_span(text) if text else "" for text in result.prompts.values())]
        for label, row in report.cells.items()
        for task, result in row.items()
        if any(result.prompts.values())
    ]
    return TextTable(title="Prompts", header=["task", "encoder", "query prompt", "document prompt"], rows=rows)


def _systems_table(report: Report) -> TextTable:
    rows = [
        [label, system["name"], f"`{system['fingerprint'][:16]}`", f"{system['seconds']:.0f}"]
        for label, system in report.to_json()["systems"].items()
    ]
    return TextTable(title="Encoders", header=["row", "encoder", "fingerprint", "seconds"], rows=rows, numbers=[3])
