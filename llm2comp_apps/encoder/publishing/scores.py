"""Scores for a model card, out of the ``report.json`` that an evaluation writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import UsageError
from llm2comp_apps.text_table import in_markdown

__all__ = ["read_scores", "score_table"]


def read_scores(report: Path, fingerprint: str) -> list[dict[str, Any]]:
    """The main score of every task, as the hub's ``model-index`` describes results.

    Args:
        report: ``report.json`` of ``llm2comp eval run``.
        fingerprint: of the encoder: the row of any other one is not its score.

    Raises:
        UsageError: no report, or none of this encoder.
    """
    try:
        rows = json.loads(report.read_text("utf-8"))["results"].values()
        found = [cell for row in rows for cell in row.values() if cell["fingerprint"] == fingerprint]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"must be the report.json of an evaluation, not {report} ({error})", field="scores") from error
    if not found:
        raise UsageError(
            f"has no row for this encoder: {report}; it needs the fingerprint {fingerprint[:16]}…", field="scores"
        )
    return [
        {
            "task": {"type": cell["category"]},
            "dataset": {"type": cell["task"], "name": cell["task"]},
            "metrics": [{"type": cell["main_metric"], "value": round(100 * cell["scores"][cell["main_metric"]], 2)}],
        }
        for cell in found
    ]


def score_table(results: list[dict[str, Any]]) -> str:
    """The same as a table in Markdown; empty where there are none."""
    if not results:
        return ""
    rows = []
    for one in results:
        (metric,) = one["metrics"]
        cells = (one["dataset"]["name"], one["task"]["type"], metric["type"], str(metric["value"]))
        rows.append(f"| {' | '.join(map(in_markdown, cells))} |")
    return "\n".join(["", "## Scores", "", "Times 100.", "", "| | task | metric | |", "|---|---|---|---:|", *rows, ""])
