"""Topics over time as a picture: stacked bars by period, the largest topics in colours of their own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm2comp_apps.clustering.describing.timeline import Timeline
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output.palette import OUTLIER_COLOR, topic_color
from llm2comp_apps.errors import ClusteringError
from llm2comp_apps.pictures import as_it_stands, drawing

__all__ = ["write_time_png"]

_SHOWN = 10
_REST_COLOR = "#8a8f98"
_MOST_TICKS = 12


def write_time_png(timeline: Timeline, topics: Sequence[Topic], path: Path) -> None:
    """Draw it; the same data give the same bytes.

    Args:
        timeline: with at least one period.
        topics: the C topics that documents belong to.
        path: where the picture goes.

    Raises:
        ClusteringError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ClusteringError(f"{path.name} needs matplotlib: pip install 'llm2comp-apps[plot]'") from error
    figure = Figure(figsize=(11, 5), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    order = np.argsort(-timeline.counts[:, :-1].sum(axis=0), kind="stable").tolist()
    layers = [(topics[t].name, topic_color(t), timeline.counts[:, t]) for t in order[:_SHOWN]]
    rest = timeline.counts[:, order[_SHOWN:]].sum(axis=1)
    layers += [(f"{len(order) - _SHOWN} more topics", _REST_COLOR, rest)] if len(order) > _SHOWN else []
    layers += [("outliers", OUTLIER_COLOR, timeline.counts[:, -1])] if timeline.counts[:, -1].any() else []
    places, base = np.arange(len(timeline.periods)), np.zeros(len(timeline.periods))
    for name, color, counts in layers:
        axes.bar(places, counts, bottom=base, color=color, width=0.9, label=as_it_stands(_short(name)))
        base = base + counts
    step = -(-len(places) // _MOST_TICKS)
    axes.set_xticks(places[::step], timeline.periods[::step], rotation=30, ha="right")
    axes.set_ylabel(f"documents a {timeline.unit}")
    handles, names = axes.get_legend_handles_labels()
    with drawing(names) as families, warnings.catch_warnings():
        letters = {"family": families, "size": 9}
        figure.legend(handles[::-1], names[::-1], loc="outside right upper", frameon=False, prop=letters)
        warnings.filterwarnings("ignore", message=".*missing from", category=UserWarning)  # letters that no font has
        figure.savefig(path, format="png", metadata={"Software": None})


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
