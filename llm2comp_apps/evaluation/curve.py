"""Scores over the checkpoints of a training run (the paper's step plot)."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.plotting import COLOURS, new_figure, save_png
from llm2comp_apps.evaluation.report import Report
from llm2comp_apps.evaluation.table import System

__all__ = ["Checkpoint", "curve_points", "find_checkpoints", "plot_curve"]

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
    figure, axes = new_figure(11 if losses else 7, 4.5, columns=2 if losses else 1)
    _draw_scores(axes[0], checkpoints, report)
    for index, (stage, points) in enumerate(losses.items()):
        axes[1].plot(*zip(*points, strict=True), label=stage or "loss", color=COLOURS[index % len(COLOURS)])
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
        axis.plot(steps, scores, "o-", label=line.name, markersize=4, color=colour)
    for before, after in itertools.pairwise(checkpoints):
        if before.stage != after.stage:
            axis.axvline(before.total_step, color="#999", linestyle=":")
    axis.set_xlabel("step")
    axis.set_ylabel("score x 100")
    axis.legend(frameon=False, fontsize="small")


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
