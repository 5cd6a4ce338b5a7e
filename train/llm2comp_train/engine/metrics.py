"""``metrics.jsonl``: one line per step, one per evaluation; what they say about the run.

{"step": 7, "loss": 1.93, "lr": 0.0001, "grad_norm": 0.7, "tokens": 640, "seconds": 1.2}
{"step": 8, "loss": null, "lr": 0.0001, "grad_norm": null, "skipped": true, "tokens": 640, "seconds": 1.2}
{"step": 200, "validation_loss": 1.21, "gain": 0.55, "cosine": 0.63, "scifact:train": 0.38, "score": 0.55}
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import TrainingError
from llm2comp_apps.files import write_text
from llm2comp_train.settings import Settings

__all__ = ["METRICS", "MetricsLog", "best_step", "read_metrics", "require_tensorboard", "set_scores_aside"]

METRICS = "metrics.jsonl"


class MetricsLog:
    """The file, its evaluations, and whether the memory lives.

    Attributes:
        evaluations: so far, each with its step.
        skipped: how many of the last steps were skipped, when it was opened.
    """

    def __init__(self, run: Path, settings: Settings, step: int, *, tensorboard: bool = False) -> None:
        """Continue after ``step``: lines that a killed run wrote beyond its last checkpoint are dropped."""
        self._path, self._settings = run / METRICS, settings
        rows = [row for row in read_metrics(run) if row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self.evaluations = [row for row in rows if "loss" not in row]
        steps = [row for row in rows if "loss" in row]
        self.skipped = len(steps) - max(
            (place for place, row in enumerate(steps, 1) if "skipped" not in row), default=0
        )
        self._board = _board(run, step) if tensorboard else None

    def write(self, row: dict[str, Any]) -> None:
        """Add a step's line or an evaluation's."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        if "loss" not in row:
            self.evaluations.append(row)
        if self._board is not None:
            for name, value in row.items():
                if value is not None:
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    @property
    def dead(self) -> bool:
        """Whether memory carries nothing: the last ``dead_after`` evaluations had a gain under ``dead_gain``."""
        last = [row for row in self.evaluations[-self._settings.dead_after :] if "gain" in row]
        return len(last) == self._settings.dead_after and max(row["gain"] for row in last) < self._settings.dead_gain


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's file; a last line that a kill cut short is left out."""
    path = run / METRICS
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def best_step(run: Path) -> int | None:
    """The evaluated step with the highest score; ``None`` if none has a score."""
    scored = [row for row in read_metrics(run) if "score" in row]
    return int(max(scored, key=lambda row: row["score"])["step"]) if scored else None


def set_scores_aside(run: Path) -> None:
    """Let the scores so far take no part in :func:`best_step`; the file keeps them as ``earlier_score``."""
    rows = [{("earlier_score" if name == "score" else name): row[name] for name in row} for row in read_metrics(run)]
    write_text(run / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def require_tensorboard() -> None:
    """See that its files can be written.

    Raises:
        TrainingError: it is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise TrainingError("`tensorboard` needs a package of that name: pip install 'llm2comp-apps[train]'.")


def _board(run: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
