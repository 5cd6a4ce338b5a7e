"""The report of a table: averages, differences from a chosen row, settings; the renderers print what is built here."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from llm2comp_apps.errors import UsageError
from llm2comp_apps.evaluation.results import CATEGORIES, TaskResult
from llm2comp_apps.evaluation.stats import (
    PairedDifference,
    holm,
    paired_difference,
    pairs_difference,
    resampled_average_precision,
    resampled_spearman,
)
from llm2comp_apps.evaluation.table import SCORING_VERSION, Table

__all__ = ["Comparison", "Line", "Report", "build_report"]

FORMAT = 1
SIGNIFICANCE = 0.05

_OVER_PAIRS = {"STS": resampled_spearman, "PairClassification": resampled_average_precision}
"""Categories whose main metric is computed from all pairs at once."""

_LIBRARIES = (
    "llm2comp-apps",
    "torch",
    "transformers",
    "sentence-transformers",
    "scikit-learn",
    "scipy",
    "numpy",
    "tantivy",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the score table: a task, the average of a category, or the overall average.

    Attributes:
        kind: ``task``, ``category`` or ``overall``.
        name: task or category name.
        metric: main metric of a task, else empty.
        values: score in [0, 1] of each row label; ``None`` where the system was not measured, or, for averages, on
            any of the tasks averaged over.
    """

    kind: str
    name: str
    metric: str
    values: dict[str, float | None]

    @property
    def best(self) -> float | None:
        """The highest value, ``None`` where nobody has one."""
        return max((value for value in self.values.values() if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of one system from the reference row on one task.

    Attributes:
        task: its name.
        label: the system.
        difference: with interval and raw p-value.
        adjusted_p: Holm-adjusted over all comparisons of the report.
    """

    task: str
    label: str
    difference: PairedDifference
    adjusted_p: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below 0.05."""
        return self.adjusted_p < SIGNIFICANCE


@dataclass(slots=True)
class Report:
    """Everything that the renderers need.

    Attributes:
        labels: the rows, in the order asked for.
        lines: the score table, tasks grouped by category, each group followed by its average.
        reference: the row that the others are compared with; ``None`` for a single row.
        comparisons: paired differences, with intervals, on the tasks that can be resampled: those whose score is a mean
            over queries or texts, STS and pair classification. For all other lines there is :meth:`delta`.
        cells: all results by label and task.
        settings: suite, data, instructions, prompts...
        environment: versions and machine.
        failures: rows that could not be loaded, cells that could not be computed.
    """

    labels: list[str]
    lines: list[Line]
    reference: str | None
    comparisons: list[Comparison]
    cells: dict[str, dict[str, TaskResult]]
    settings: dict[str, Any]
    environment: dict[str, Any]
    failures: list[str] = field(default_factory=list)

    def delta(self, line: Line, label: str) -> float | None:
        """By how much ``label`` is above the reference on a line; ``None`` where one of them was not measured."""
        value, base = line.values[label], line.values.get(self.reference or "")
        return None if value is None or base is None else value - base

    @property
    def summary(self) -> list[Line]:
        """One line per category and the overall average: what the poster prints, encoders down."""
        tasks = {line.name: line for line in self.lines if line.kind == "task"}
        averages = {line.name: line for line in self.lines if line.kind == "category"}
        category_of = {task: cell.category for row in self.cells.values() for task, cell in row.items()}
        chosen = []
        for category in CATEGORIES:
            members = [line for name, line in tasks.items() if category_of.get(name) == category]
            if members:
                values = averages[category].values if category in averages else members[0].values
                chosen.append(Line("category", f"{category} ({len(members)})", "", values))
        return [*chosen, *(line for line in self.lines if line.kind == "overall")]

    def to_json(self) -> dict[str, Any]:
        """The whole report as JSON-shaped values."""
        return {
            "format": FORMAT,
            "scoring_version": SCORING_VERSION,
            "settings": self.settings,
            "environment": self.environment,
            "systems": {label: _system_of(self.cells[label]) for label in self.labels},
            "table": [{**asdict(line), "deltas": self._deltas(line)} for line in self.lines],
            "reference": self.reference,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "results": {
                # The pairs stay in the kept cells: they are many, and the comparisons say what they tell.
                label: {task: {**result.to_json(), "pairs": {}} for task, result in row.items()}
                for label, row in self.cells.items()
            },
            "failures": self.failures,
        }

    def _deltas(self, line: Line) -> dict[str, float | None]:
        others = [label for label in self.labels if label != self.reference]
        return {label: self.delta(line, label) for label in others} if self.reference else {}


def build_report(table: Table, settings: dict[str, Any], against: str | None = None) -> Report:
    """Build the report of a filled table.

    Args:
        table: from :func:`~llm2comp_apps.evaluation.table.fill_table`.
        settings: what was asked for, to be printed with the results.
        against: label of the reference row; the first row by default.

    Raises:
        UsageError: ``against`` is no row of the table.
    """
    labels = [system.label for system in table.systems]
    if against is not None and against not in labels:
        raise UsageError(f"must be one of the rows {', '.join(labels)}, not {against!r}", field="against")
    reference = (against or labels[0]) if len(labels) > 1 else None
    return Report(
        labels=labels,
        lines=_lines(table, labels),
        reference=reference,
        comparisons=_comparisons(table, labels, reference) if reference else [],
        cells=table.cells,
        settings=settings,
        environment=_environment(),
        failures=list(table.failures),
    )


def _lines(table: Table, labels: Sequence[str]) -> list[Line]:
    lines: list[Line] = []
    tasks: list[Line] = []
    for category in CATEGORIES:
        members = [task for task in table.tasks if task.category == category]
        group = [Line("task", task.name, task.main_metric, _scores(table, labels, task.name)) for task in members]
        lines += group
        tasks += group
        if len(group) > 1:
            lines.append(Line("category", category, "", _means(group, labels)))
    if len(tasks) > 1:
        lines.append(Line("overall", f"Average ({len(tasks)} tasks)", "", _means(tasks, labels)))
    return lines


def _scores(table: Table, labels: Sequence[str], task: str) -> dict[str, float | None]:
    cells = {label: table.cells[label].get(task) for label in labels}
    return {label: cell.main_score if cell else None for label, cell in cells.items()}


def _means(lines: Sequence[Line], labels: Sequence[str]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for label in labels:
        values = [value for line in lines if (value := line.values[label]) is not None]
        means[label] = float(np.mean(values)) if len(values) == len(lines) else None
    return means


def _comparisons(table: Table, labels: Sequence[str], reference: str) -> list[Comparison]:
    found: list[tuple[str, str, PairedDifference]] = []
    for task in table.tasks:
        base = table.cells[reference].get(task.name)
        for label in labels:
            other = table.cells[label].get(task.name)
            if label != reference and base and other:
                difference = _difference(other, base)
                found += [(task.name, label, difference)] if difference else []
    adjusted = holm([difference.p_value for _, _, difference in found])
    return [
        Comparison(task, label, difference, p) for (task, label, difference), p in zip(found, adjusted, strict=True)
    ]


def _difference(other: TaskResult, base: TaskResult) -> PairedDifference | None:
    """With its interval, where the two results have what it takes; see :mod:`.stats`."""
    if other.units and base.units:
        return paired_difference(other.units, base.units)
    metric = _OVER_PAIRS.get(base.category)
    if metric and other.pairs and base.pairs:
        return pairs_difference(metric, other.pairs["score"], base.pairs["score"], base.pairs["gold"])
    return None


def _system_of(row: dict[str, TaskResult]) -> dict[str, Any]:
    first = next(iter(row.values()), None)
    return {
        "name": first.encoder if first else "",
        "fingerprint": first.fingerprint if first else "",
        "seconds": round(sum(result.seconds for result in row.values()), 3),
    }


def _environment() -> dict[str, Any]:
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
