"""The topic map as a picture for papers."""

from __future__ import annotations

import itertools
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.output.map_html import MapData
from llm2comp_apps.clustering.output.map_points import label_positions
from llm2comp_apps.clustering.output.palette import OUTLIER_COLOR, topic_color
from llm2comp_apps.errors import ClusteringError
from llm2comp_apps.pictures import as_it_stands, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["write_map_png"]

_SIDE = 10.0  # inches
_DPI = 160
_LEGEND = 30  # topics
_LEGEND_WIDTH = 2.8  # inches
_STEPS = (-1.6, -1.1, -0.6, 0.0, 0.6, 1.1, 1.6)
_SHIFTS = [(right / 2, up) for right, up in itertools.product(_STEPS, _STEPS)]
"""Where a name may stand, in widths and heights of itself from the middle of its topic."""


def write_map_png(data: MapData, path: Path) -> list[str]:
    """Draw the map; the same data give the same bytes.

    Returns:
        What a reader should know, a line each: names in letters that no font here has.

    Raises:
        ClusteringError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ClusteringError("map.png needs matplotlib: pip install 'llm2comp-apps[plot]'") from error
    width, height = np.ptp(data.positions, axis=0).tolist()
    shape = float(np.clip(height / width if width else 1.0, 0.5, 2.0))  # the picture has the shape of the map
    figure = Figure(
        figsize=(_SIDE / max(shape, 1.0) + _LEGEND_WIDTH, _SIDE * min(shape, 1.0)), dpi=_DPI, layout="constrained"
    )
    canvas = FigureCanvasAgg(figure)  # no pyplot: no global state, and no window system
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(45_000 / (len(data.labels) + 500), 1.5, 30))
    colors = np.array([*(topic_color(t) for t in range(data.labels.max(initial=-1) + 1)), OUTLIER_COLOR])
    for inside in (data.labels < 0, data.labels >= 0):  # outliers beneath
        points, color = data.positions[inside], colors[data.labels[inside]]
        axes.scatter(points[:, 0], points[:, 1], s=size, c=color, linewidths=0, alpha=0.75, rasterized=True)
    names = [topic.name for topic in data.topics]
    with drawing(names) as families, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _write_legend(figure, data, families)
        _write_labels(figure, axes, canvas.get_renderer(), data, families)
        figure.savefig(path, format="png", metadata={"Software": None})
    missing = any("missing from" in str(warning.message) for warning in told)
    return ["map.png lacks letters of some names, which no font here has; map.html shows them"] if missing else []


def _write_labels(figure: Figure, axes: Axes, renderer: RendererBase, data: MapData, families: Sequence[str]) -> None:
    """Write the names of topics, the largest first: in their middle, or beside it where another name is.

    A name never leaves the picture. One that fits nowhere near its topic is left to the legend.
    """
    from matplotlib import patheffects

    topics = [topic for topic in data.topics if topic.level == 1]
    figure.draw_without_rendering()  # settles where things are
    taken: list[Bbox] = []
    places = label_positions(data.positions, data.labels, len(topics))
    frame = axes.get_window_extent(renderer)
    for slot in sorted(range(len(topics)), key=lambda slot: -topics[slot].size):
        topic = topics[slot]
        font = float(np.clip(6 + 16 * np.sqrt(topic.size / len(data.labels)), 6.5, 12))
        name = as_it_stands(_wrapped(topic.name))
        text = axes.text(0, 0, name, family=families, size=font, weight="bold", ha="center", va="center")
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
        text.set_in_layout(False)
        own = axes.transData.transform(places[slot])
        box = _free_box(text.get_window_extent(renderer), own, taken, frame)
        if box is None:
            text.remove()
            continue
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        x, y = axes.transData.inverted().transform(middle).tolist()
        text.set_position((x, y))
        taken.append(box)


def _free_box(box: Bbox, own: npt.NDArray[np.float64], taken: Sequence[Bbox], frame: Bbox) -> Bbox | None:
    """Where a text of the size of ``box`` fits nearest to its own place, inside the frame and over no other one."""
    from matplotlib.transforms import Bbox as Box

    width, height = box.width + 4, box.height + 4
    for right, up in sorted(_SHIFTS, key=lambda shift: abs(shift[0]) * width + abs(shift[1]) * height):
        x = float(np.clip(own[0] + right * width, frame.x0 + width / 2, frame.x1 - width / 2))
        y = float(np.clip(own[1] + up * height, frame.y0 + height / 2, frame.y1 - height / 2))
        found = Box.from_bounds(x - width / 2, y - height / 2, width, height)
        if not any(found.overlaps(other) for other in taken):
            return found
    return None


def _write_legend(figure: Figure, data: MapData, families: Sequence[str]) -> None:
    """List the topics beside the map, the largest first, with their sizes."""
    from matplotlib.lines import Line2D

    topics = sorted((topic for topic in data.topics if topic.level == 1), key=lambda topic: -topic.size)
    slots = {topic.id: slot for slot, topic in enumerate(topic for topic in data.topics if topic.level == 1)}
    names = [as_it_stands(textwrap.shorten(topic.name, 38, placeholder="…")) for topic in topics]
    lines = [(f"{name}  {t.size}", topic_color(slots[t.id])) for name, t in zip(names, topics, strict=True)]
    more = lines[_LEGEND:]
    lines = lines[:_LEGEND] + ([(f"{len(more)} more topics", "none")] if more else [])
    outliers = int((data.labels < 0).sum())
    lines += [(f"outliers  {outliers}", OUTLIER_COLOR)] if outliers else []
    marks = [Line2D([], [], marker="o", linestyle="", markersize=5, color=color) for _, color in lines]
    letters = {"family": families, "size": 7.5}
    figure.legend(
        marks, [line for line, _ in lines], loc="outside right upper", frameon=False, prop=letters, handletextpad=0.2
    )


def _wrapped(name: str) -> str:
    return textwrap.fill(name, 20, break_long_words=False)
