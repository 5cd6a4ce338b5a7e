"""The topic map as a picture for papers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.clustering.output.map_html import MapData
from llm2comp_apps.clustering.output.map_points import label_positions
from llm2comp_apps.clustering.output.palette import OUTLIER_COLOR, topic_color
from llm2comp_apps.errors import ClusteringError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["write_map_png"]

_SIDE = 10.0  # inches
_DPI = 160


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
    figure = Figure(figsize=(_SIDE / max(shape, 1.0), _SIDE * min(shape, 1.0)), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # no pyplot: no global state, and no window system
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(45_000 / (len(data.labels) + 500), 1.5, 30))
    colors = np.array([*(topic_color(t) for t in range(data.labels.max(initial=-1) + 1)), OUTLIER_COLOR])
    for inside in (data.labels < 0, data.labels >= 0):  # outliers beneath
        points, color = data.positions[inside], colors[data.labels[inside]]
        axes.scatter(points[:, 0], points[:, 1], s=size, c=color, linewidths=0, alpha=0.75, rasterized=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _write_labels(figure, axes, canvas.get_renderer(), data)
        figure.savefig(path, format="png", metadata={"Software": None})
    missing = any("missing from" in str(warning.message) for warning in told)
    return ["map.png lacks letters of some names, which no font here has; map.html shows them"] if missing else []


def _write_labels(figure: Figure, axes: Axes, renderer: RendererBase, data: MapData) -> None:
    """Write the names of topics where they fit, the largest first."""
    from matplotlib import patheffects

    topics = [topic for topic in data.topics if topic.level == 1]
    figure.draw_without_rendering()  # settles where things are
    taken: list[Bbox] = []
    places = label_positions(data.positions, data.labels, len(topics))
    for slot in sorted(range(len(topics)), key=lambda slot: -topics[slot].size):
        topic, place = topics[slot], places[slot]
        font = float(np.clip(7 + 18 * np.sqrt(topic.size / len(data.labels)), 7.5, 13))
        x, y = place.tolist()
        text = axes.text(x, y, _wrapped(topic.name), size=font, weight="bold", ha="center", va="center")
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
        text.set_in_layout(False)
        box = text.get_window_extent(renderer).padded(2)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _wrapped(name: str) -> str:
    import textwrap

    return textwrap.fill(name, 20, break_long_words=False)
