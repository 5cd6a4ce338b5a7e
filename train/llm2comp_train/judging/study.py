"""The table of a study: one row for each encoder that ``train/studies/stages.py`` trained or was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Row", "markdown", "mean_score"]


@dataclass(slots=True)
class Row:
    """A chosen encoder: ``arm`` or ``arm + ucl + scl``, and the runs it was chosen from.

    Attributes:
        label: of the table's row.
        stage: the last one.
        k: memory tokens, where a study sweeps over them.
        run: directory of the chosen run; ``None`` for an arm without training.
        rate: its learning rate.
        tried: dev score (times 100) by learning rate.
        figures: the last evaluation of the chosen run.
        seconds: spent in training it.
    """

    label: str
    stage: str = ""
    k: int | None = None
    run: Path | None = None
    rate: float | None = None
    tried: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def markdown(rows: list[Row], measured: dict[str, dict[str, Any]], settings: dict[str, Any]) -> str:
    """The table: scores, what merge pooling adds to their average, and the shape of the space."""
    by_label = {row.label: row for row in rows}
    tasks = max((list(found["scores"]) for found in measured.values()), key=len)
    shape = ("effective dim.", "memory corr.", "cosine", "gain")
    head = ["encoder", "lr", "dev", *tasks, "average", "merge - mean", *shape]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for label, found in measured.items():
        row, merged = by_label.get(label, Row(label)), found["merged_scores"]
        average = mean_score(found["scores"]) if len(found["scores"]) == len(tasks) else None  # bm25 retrieves alone
        values = [
            _shown(row.rate, "g"),
            _shown(max(row.tried.values(), default=None)),
            *(_shown(found["scores"].get(task)) for task in tasks),
            _shown(average),
            _shown(mean_score(merged) - mean_score(found["scores"]) if merged else None, "+.2f"),
            _shown(found.get("effective_dimension"), ".0f"),
            _shown(found.get("memory_correlation"), ".2f"),
            _shown(found.get("mean_cosine"), ".2f"),
            _shown(row.figures.get("gain"), ".2f"),
        ]
        lines.append(f"| {label} | {' | '.join(values)} |")
    steps = ", ".join(f"{count} steps of {kind}" for kind, count in settings["preset"]["steps"].items())
    rates = "; ".join(f"{row.label}: {row.tried}" for row in rows if len(row.tried) > 1)
    about = (
        f"Scores x 100. Backbone {settings['backbone']} on {settings['device']}, suite {settings['preset']['suite']}; "
        f"{steps}; equal data. Learning rates were chosen on the dev suite"
    )
    return "\n".join([*lines, "", about + (f" (dev score by rate: {rates})." if rates else "."), ""])


def mean_score(scores: dict[str, float]) -> float:
    """Over the tasks."""
    return sum(scores.values()) / len(scores)


def _shown(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)
