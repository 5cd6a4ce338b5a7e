"""The report as Markdown, and how scores and differences are written."""

from __future__ import annotations

from llm2comp_apps.evaluation.report import Comparison, Line, Report

__all__ = [
    "COMPARISON_NOTE",
    "comparison_of",
    "delta_text",
    "is_best",
    "percent",
    "render_markdown",
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


def render_markdown(report: Report) -> str:
    """The whole report as a Markdown page."""
    parts = ["# Evaluation", "", "Scores times 100; the best in bold.", "", *_summary_lines(report)]
    parts += ["", "## By task", "", *_score_lines(report)]
    if report.reference is not None:
        parts += ["", f"## Difference from {_escape(report.reference)}", "", COMPARISON_NOTE, ""]
        parts += _comparison_lines(report)
    parts += ["", "## Prompts", "", *_prompt_lines(report), "", "## Encoders", "", *_system_lines(report)]
    versions = ", ".join(f"{name} {number}" for name, number in report.environment["versions"].items())
    settings = [f"- {key}: {_escape(str(value))}" for key, value in report.settings.items()]
    parts += [
        "",
        "## Settings",
        "",
        *settings,
        f"- created: {report.environment['created']}",
        f"- versions: {versions}",
    ]
    if report.failures:
        parts += ["", "## Not evaluated", "", *[f"- {_escape(line)}" for line in report.failures]]
    return "\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "⏎")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _score_lines(report: Report) -> list[str]:
    lines = [
        _row(["task", "metric", *map(_escape, report.labels)]),
        _row(["---", "---", *["---:"] * len(report.labels)]),
    ]
    lines += [_score_line(line, report.labels) for line in report.lines]
    return lines


def _line_name(line: Line) -> str:
    return _escape(line.name) if line.kind == "task" else f"*{_escape(line.name)}*"


def _score_line(line: Line, labels: list[str]) -> str:
    return _row([_line_name(line), line.metric, *[_score_cell(line, label) for label in labels]])


def _score_cell(line: Line, label: str) -> str:
    score = percent(line.values[label])
    return f"**{score}**" if is_best(line, label) else score


def _summary_lines(report: Report) -> list[str]:
    summary = report.summary
    head = [_row(["encoder", *[line.name for line in summary]]), _row(["---", *["---:"] * len(summary)])]
    return head + [_row([_escape(label), *[_score_cell(line, label) for line in summary]]) for label in report.labels]


def _comparison_lines(report: Report) -> list[str]:
    others = [label for label in report.labels if label != report.reference]
    lines = [_row(["task", *map(_escape, others)]), _row(["---", *["---:"] * len(others)])]
    return lines + [
        _row([_line_name(line), *[delta_text(report, line, label) for label in others]]) for line in report.lines
    ]


def _prompt_lines(report: Report) -> list[str]:
    lines = [_row(["task", "encoder", "query prompt", "document prompt"]), _row(["---"] * 4)]
    for label, row in report.cells.items():
        for task, result in row.items():
            if any(result.prompts.values()):
                prompts = [f"`{_escape(text)}`" if text else "" for text in result.prompts.values()]
                lines.append(_row([task, _escape(label), *prompts]))
    return lines if len(lines) > 2 else ["No prompts were used."]


def _system_lines(report: Report) -> list[str]:
    lines = [_row(["row", "encoder", "fingerprint", "seconds"]), _row(["---", "---", "---", "---:"])]
    for label, system in report.to_json()["systems"].items():
        cells = [_escape(label), _escape(system["name"]), f"`{system['fingerprint'][:16]}`", f"{system['seconds']:.0f}"]
        lines.append(_row(cells))
    return lines
