"""The report as one HTML file that needs nothing else: tables, plots, settings."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from llm2comp_apps.evaluation.plotting import COLOURS, as_data_uri, new_figure
from llm2comp_apps.evaluation.report import Line, Report
from llm2comp_apps.evaluation.report_text import COMPARISON_NOTE, comparison_of, delta_text, is_best, percent
from llm2comp_apps.pictures import as_it_stands

__all__ = ["render_html"]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tr.category td { font-style: italic; border-bottom: 2px solid #999; }
tr.overall td { font-weight: 600; border-top: 2px solid #333; }
td.best { font-weight: 700; }
td.significant { background: #e8f3ec; }
figure { margin: 1.5rem 0; } img { max-width: 100%; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; }
caption, figcaption { text-align: left; color: #555; }
"""


def render_html(report: Report) -> str:
    """The page.

    Raises:
        EvaluationError: matplotlib is not installed.
    """
    plot = _figure(_averages_plot(report), "Scores by category, times 100.")
    parts = ["<h1>Evaluation</h1>", _summary(report), plot, "<h2>By task</h2>", _scores(report)]
    if report.reference is not None:
        parts += [f"<h2>Difference from {escape(report.reference)}</h2>", _comparisons(report)]
        parts.append(f"<p>{escape(COMPARISON_NOTE)}</p>")
    if report.comparisons:
        parts.append(_figure(_forest_plot(report), "Differences with their intervals; filled where significant."))
    if report.failures:
        lines = "".join(f"<li>{escape(line)}</li>" for line in report.failures)
        parts.append(f"<h2>Not evaluated</h2><ul>{lines}</ul>")
    facts = {"settings": report.settings, "environment": report.environment, "systems": report.to_json()["systems"]}
    prompts = {
        label: {task: result.prompts for task, result in row.items() if any(result.prompts.values())}
        for label, row in report.cells.items()
    }
    parts.append(f"<h2>Settings</h2><pre>{escape(json.dumps({**facts, 'prompts': prompts}, indent=2))}</pre>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>Evaluation</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _summary(report: Report) -> str:
    head = "".join(f"<th>{escape(line.name)}</th>" for line in report.summary)
    rows = "".join(
        f"<tr><td>{escape(label)}</td>{''.join(_score_cell(line, label) for line in report.summary)}</tr>"
        for label in report.labels
    )
    return f"<table><tr><th>encoder</th>{head}</tr>{rows}</table>"


def _scores(report: Report) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in report.labels)
    rows = "".join(_score_row(line, report.labels) for line in report.lines)
    return f"<table><tr><th>task</th><th>metric</th>{head}</tr>{rows}</table>"


def _score_row(line: Line, labels: list[str]) -> str:
    cells = "".join(_score_cell(line, label) for label in labels)
    return f'<tr class="{line.kind}"><td>{escape(line.name)}</td><td>{line.metric}</td>{cells}</tr>'


def _score_cell(line: Line, label: str) -> str:
    best = ' class="best"' if is_best(line, label) else ""
    return f"<td{best}>{percent(line.values[label])}</td>"


def _comparisons(report: Report) -> str:
    others = [label for label in report.labels if label != report.reference]
    head = "".join(f"<th>{escape(label)}</th>" for label in others)
    body = "".join(
        f'<tr class="{line.kind}"><td>{escape(line.name)}</td>'
        f"{''.join(_delta_cell(report, line, label) for label in others)}</tr>"
        for line in report.lines
    )
    return f"<table><tr><th>task</th>{head}</tr>{body}</table>"


def _delta_cell(report: Report, line: Line, label: str) -> str:
    comparison = comparison_of(report, line, label)
    mark = ' class="significant"' if comparison and comparison.significant else ""
    return f"<td{mark}>{escape(delta_text(report, line, label))}</td>"


def _figure(figure: Any, caption: str) -> str:
    return f'<figure><img alt="" src="{as_data_uri(figure)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _averages_plot(report: Report) -> Any:
    """A dot for each encoder on each average."""
    lines = report.summary
    figure, (axis,) = new_figure(10, 0.9 + 0.45 * len(lines))
    for index, label in enumerate(report.labels):
        points = [(100 * value, row) for row, line in enumerate(lines) if (value := line.values[label]) is not None]
        if points:
            name, colour = as_it_stands(label), COLOURS[index % len(COLOURS)]
            axis.scatter(*zip(*points, strict=True), label=name, color=colour, s=42, zorder=3)
    axis.set_yticks(range(len(lines)), [as_it_stands(line.name) for line in lines])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e4e4e4")
    axis.set_xlabel("score x 100")
    if axis.collections:  # a legend of nothing is a warning
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _forest_plot(report: Report) -> Any:
    """Difference and interval of each comparison around zero."""
    figure, (axis,) = new_figure(10, 1.2 + 0.24 * len(report.comparisons))
    for row, comparison in enumerate(report.comparisons):
        found = comparison.difference
        colour = COLOURS[report.labels.index(comparison.label) % len(COLOURS)]
        axis.plot([100 * found.low, 100 * found.high], [row, row], color=colour, linewidth=2)
        fill = colour if comparison.significant else "white"
        axis.scatter([100 * found.delta], [row], color=fill, edgecolor=colour, zorder=3)
    axis.axvline(0, color="#333", linewidth=1)
    names = [as_it_stands(f"{item.task} · {item.label}") for item in report.comparisons]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(as_it_stands(f"points above {report.reference}"))
    return figure
