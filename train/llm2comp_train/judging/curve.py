"""``curve.png``: how a run went, in one picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm2comp_train.engine.metrics import read_metrics

__all__ = ["draw_curve"]

_SMOOTHING = 0.9


def draw_curve(run: Path) -> None:
    """Draw ``RUN/curve.png``, if matplotlib is there: loss over steps above, evaluations below."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    rows = read_metrics(run)
    steps = [row for row in rows if row.get("loss") is not None]
    evaluations = [row for row in rows if "loss" not in row]
    names = sorted({name for row in evaluations for name in row} - {"step"})
    figure = Figure(figsize=(7, 2.6 + 1.6 * len(names)), layout="constrained")
    axes: list[Any] = list(figure.subplots(1 + len(names), 1, sharex=True, squeeze=False)[:, 0])
    losses = [row["loss"] for row in steps]
    axes[0].plot([row["step"] for row in steps], losses, color="0.8", linewidth=0.8)
    axes[0].plot([row["step"] for row in steps], _smooth(losses), color="C0")
    axes[0].set_title("loss", loc="left", fontsize=9)
    for axis, name in zip(axes[1:], names, strict=True):
        with_it = [row for row in evaluations if name in row]
        axis.plot([row["step"] for row in with_it], [row[name] for row in with_it], marker="o", color="C1")
        axis.set_title(name.replace("_", " "), loc="left", fontsize=9)  # beside the axis, long names would be cropped
    axes[-1].set_xlabel("step")
    figure.savefig(run / "curve.png", dpi=120, bbox_inches="tight", pad_inches=0.1)


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average, corrected for its start."""
    out: list[float] = []
    average = 0.0
    for count, value in enumerate(values, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        out.append(average / (1 - _SMOOTHING**count))
    return out
