"""Scores over the checkpoints of a training run (the paper's step plot)."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.plotting import COLOURS, new_figure, save_png
from llm2comp_apps.evaluation.report import Report, build_report
from llm2comp_apps.evaluation.report_text import scores_table
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.table import System, TableOptions, fill_table
from llm2comp_apps.evaluation.tasks import Task
from llm2comp_apps.files import check_writable, write_text
from llm2comp_apps.pictures import as_it_stands
from llm2comp_apps.text_table import TextTable

__all__ = ["Checkpoint", "ScoredRun", "curve_points", "find_checkpoints", "plot_curve", "score_run"]

_SETTINGS = "encoder.json"
_STEP = re.compile(r"step-0*(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One encoder checkpoint of a run.

    Attributes:
        stage: the folder that holds the stage's checkpoints, relative to the run, empty for a run of one stage.
        step: of that stage.
        total_step: counted over all stages.
        path: a directory that ``load_encoder`` takes.
    """

    stage: str
    step: int
    total_step: int
    path: Path

    @property
    def system(self) -> System:
        """The checkpoint as a row of a table."""
        return System(f"{self.stage}@{self.step}" if self.stage else f"step-{self.step}", str(self.path))


@dataclass(slots=True)
class ScoredRun:
    """A run with a score for every checkpoint that could be loaded.

    Attributes:
        report: one row a checkpoint.
        points: what ``curve.json`` has of each, see :func:`curve_points`.
        files: what was written.
        failures: a line for each checkpoint that could not be scored.
        warnings: what is missing in ``files``, a line each.
    """

    report: Report
    points: list[dict[str, Any]]
    files: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def tables(self) -> list[TextTable]:
        """Tasks down, checkpoints across."""
        return [scores_table(self.report)]

    def to_json(self) -> dict[str, Any]:
        """The content of ``curve.json``."""
        return {"tasks": self.report.settings["tasks"], "points": self.points}


def score_run(
    run: Path,
    tasks: Sequence[Task[Any]],
    out: Path,
    *,
    backbone: str | None = None,
    device: str | None = None,
    on_cell: Callable[[System, TaskResult, bool], None] | None = None,
) -> ScoredRun:
    """Score every checkpoint of a training run; write ``curve.json`` and ``curve.png``.

    Checkpoints scored before are not scored again, so it can be repeated while the training continues.

    Args:
        run: the folder of the run.
        tasks: what to score on.
        out: folder of kept results and the curve.
        backbone: where the checkpoints' backbone lies now.
        device: ``cpu``, ``cuda``...; ``None`` for the best there is.
        on_cell: called with each cell and whether it was kept from before.

    Raises:
        EvaluationError: no checkpoint is there, or none could be loaded.
        OSError: nothing can be written to ``out``.
    """
    checkpoints = find_checkpoints(run)
    check_writable(out / "curve.json", folder=True)
    table = fill_table(
        [checkpoint.system for checkpoint in checkpoints],
        tasks,
        out,
        lambda spec: load_system(spec, backbone=backbone, device=device),
        # Each checkpoint is embedded once: its embeddings would only fill the disk.
        TableOptions(keep_embeddings=False),
        on_cell,
    )
    labels = {system.label for system in table.systems}
    checkpoints = [checkpoint for checkpoint in checkpoints if checkpoint.system.label in labels]
    if not checkpoints:
        raise EvaluationError(f"{run}: none of its checkpoints could be loaded: {'; '.join(table.failures)}")
    report = build_report(table, {"run": str(run), "tasks": [task.name for task in tasks]})
    scored = ScoredRun(report, curve_points(checkpoints, report), failures=table.failures)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "curve.json", json.dumps(scored.to_json(), indent=1))
    scored.files.append(out / "curve.json")
    try:
        plot_curve(checkpoints, report, run, out / "curve.png")
        scored.files.append(out / "curve.png")
    except EvaluationError as error:
        scored.warnings.append(f"no curve.png: {error}")
    return scored


def find_checkpoints(run: Path) -> list[Checkpoint]:
    """The encoder checkpoints under ``run``, found as ``.../step-N/.../encoder.json``, in training order.

    Stages follow one another in the order in which their first checkpoints were written.

    Raises:
        EvaluationError: ``run`` is no folder or has no checkpoint.
    """
    if not run.is_dir():
        raise EvaluationError(f"{run}: no such run folder")
    found: dict[tuple[str, int], Path] = {}
    for settings in sorted(run.rglob(_SETTINGS)):
        parts = settings.parent.relative_to(run).parts
        position = next((index for index, part in enumerate(parts) if _STEP.fullmatch(part)), None)
        if position is not None:
            stage = "/".join(part for part in parts[:position] if part != "checkpoints")
            step = int(_STEP.fullmatch(parts[position]).group(1))  # type: ignore[union-attr]  # matched above
            found.setdefault((stage, step), settings.parent)
    if not found:
        raise EvaluationError(f"{run}: no checkpoint (step-N folder with {_SETTINGS}) in this run; was one saved yet?")
    started: dict[str, float] = {}
    for (stage, _), path in found.items():
        written = (path / _SETTINGS).stat().st_mtime
        started[stage] = min(written, started.get(stage, written))
    checkpoints: list[Checkpoint] = []
    for stage in sorted(started, key=lambda name: (started[name], name)):
        offset = checkpoints[-1].total_step if checkpoints else 0
        steps = sorted(step for name, step in found if name == stage)
        checkpoints += [Checkpoint(stage, step, offset + step, found[stage, step]) for step in steps]
    return checkpoints


def curve_points(checkpoints: Sequence[Checkpoint], report: Report) -> list[dict[str, Any]]:
    """One JSON-shaped point per checkpoint: stage, step and every line of the report."""
    points = []
    for checkpoint in checkpoints:
        label = checkpoint.system.label
        scores = {line.name: line.values[label] for line in report.lines}
        points.append(
            {"stage": checkpoint.stage, "step": checkpoint.step, "total_step": checkpoint.total_step, "scores": scores}
        )
    return points


def plot_curve(checkpoints: Sequence[Checkpoint], report: Report, run: Path, path: Path) -> None:
    """Draw score against step: the averages (the tasks where a category has one), and the training loss beside it.

    Raises:
        EvaluationError: matplotlib is not installed.
    """
    losses = _losses(run)
    figure, axes = new_figure(13 if losses else 8, 4.5, columns=2 if losses else 1)
    _draw_scores(axes[0], checkpoints, report)
    for index, (stage, points) in enumerate(losses.items()):
        axes[1].plot(
            *zip(*points, strict=True), label=as_it_stands(stage or "loss"), color=COLOURS[index % len(COLOURS)]
        )
    if losses:
        axes[1].set_xlabel("step of the stage")
        axes[1].set_ylabel("training loss")
        axes[1].legend(frameon=False, fontsize="small")
    save_png(figure, path)


def _draw_scores(axis: Any, checkpoints: Sequence[Checkpoint], report: Report) -> None:
    averaged = {line.name for line in report.lines if line.kind == "category"}
    category_of = {task: cell.category for row in report.cells.values() for task, cell in row.items()}
    lines = [line for line in report.lines if line.kind != "task" or category_of.get(line.name) not in averaged]
    steps = [checkpoint.total_step for checkpoint in checkpoints]
    for index, line in enumerate(lines):
        values = [line.values[checkpoint.system.label] for checkpoint in checkpoints]
        scores = [float("nan") if value is None else 100 * value for value in values]
        colour = "black" if line.kind == "overall" else COLOURS[index % len(COLOURS)]
        axis.plot(steps, scores, "o-", label=as_it_stands(line.name), markersize=4, color=colour)
    for before, after in itertools.pairwise(checkpoints):
        if before.stage != after.stage:
            axis.axvline(before.total_step, color="#999", linestyle=":")
    axis.set_xlabel("step")
    axis.set_ylabel("score x 100")
    axis.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the lines


def _losses(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Training loss by stage from every ``metrics.jsonl``; rows without a step or loss are none of ours."""
    losses: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(run.rglob("metrics.jsonl")):
        points = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the line that a running training is writing just now
            if isinstance(row, dict) and "step" in row and isinstance(row.get("loss"), (int, float)):
                points.append((int(row["step"]), float(row["loss"])))
        if points:
            stage = path.parent.relative_to(run).as_posix()
            losses["" if stage == "." else stage] = points
    return losses
