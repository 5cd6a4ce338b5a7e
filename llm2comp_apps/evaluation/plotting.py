"""Matplotlib behind one door: drawn without a display, one clear line where it is not installed."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError

__all__ = ["COLOURS", "as_data_uri", "new_figure", "save_png"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d3a9b", "#8c8c8c", "#a6761d", "#000000")
"""Okabe and Ito's palette, told apart by colour-blind readers too, but for its yellow, and three more."""


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """A figure of ``columns`` axes in a row, in inches; never touches pyplot's global state.

    Raises:
        EvaluationError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EvaluationError("plots need matplotlib; pip install 'llm2comp-apps[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_prop_cycle(color=COLOURS)
    return figure, list(axes)


def save_png(figure: Any, path: Path) -> None:
    """Write ``figure`` as PNG, as large as all of its titles and labels need."""
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.1)


def as_data_uri(figure: Any) -> str:
    """``figure`` as an SVG data URI, for pages that stand alone."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
