"""The pictures of an analysis: spectra, memory correlations, alignment against uniformity, the effect of k."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.evaluation.analysis.study import PoolingResult, Study
from llm2comp_apps.evaluation.plotting import COLOURS, new_figure, save_png
from llm2comp_apps.pictures import as_it_stands

__all__ = ["write_plots"]


def write_plots(studies: Sequence[Study], out: Path) -> list[Path]:
    """Draw what there is to draw.

    Returns:
        The files written, PNG.

    Raises:
        EvaluationError: matplotlib is not installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = [_spectra(studies, out / "spectrum.png"), _geometry(studies, out / "alignment_uniformity.png")]
    with_memory = [study for study in studies if study.memory_correlation is not None]
    if with_memory:
        written.append(_correlations(with_memory, out / "memory_correlation.png"))
        written.append(_effect_of_k(with_memory, out / "effect_of_k.png"))
    return written


def _spectra(studies: Sequence[Study], path: Path) -> Path:
    figure, (axis,) = new_figure(8, 4.5)
    for index, study in enumerate(studies):
        values = study.spectrum.variances
        label = f"{study.label} (effective dimension {study.spectrum.effective_dimension:.0f} of {study.dimension})"
        axis.plot(range(1, len(values) + 1), values, label=as_it_stands(label), color=COLOURS[index % len(COLOURS)])
    axis.set_yscale("log")
    # Rounding leaves values of about 1e-16, which would stretch the axis over ten empty decades.
    least = min(value for study in studies for value in study.spectrum.variances if value > 1e-10)
    axis.set_ylim(bottom=least / 2)
    axis.set_xlabel("principal axis, by rank")
    axis.set_ylabel("singular value of the covariance")
    axis.set_title("Spectrum of the embeddings after pooling")
    axis.legend(frameon=False, fontsize="small")
    save_png(figure, path)
    return path


def _geometry(studies: Sequence[Study], path: Path) -> Path:
    figure, (axis,) = new_figure(6, 4.5)
    for index, study in enumerate(studies):
        x, y = study.geometry.uniformity, study.geometry.alignment
        axis.scatter([x], [y], color=COLOURS[index % len(COLOURS)], s=50)
        axis.annotate(as_it_stands(study.label), (x, y), xytext=(5, 4), textcoords="offset points", fontsize="small")
    axis.margins(0.2)
    axis.set_xlabel("uniformity (lower is more even)")
    axis.set_ylabel("alignment (lower is nearer)")
    axis.set_title("Alignment and uniformity")
    save_png(figure, path)
    return path


def _correlations(studies: Sequence[Study], path: Path) -> Path:
    figure, axes = new_figure(3.4 * len(studies) + 0.8, 3.8, columns=len(studies))
    image = None
    for axis, study in zip(axes, studies, strict=True):
        matrix = np.asarray(study.memory_correlation)
        edge = len(matrix) + 0.5
        image = axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", extent=(0.5, edge, edge, 0.5))
        _whole_numbers(axis.xaxis, axis.yaxis)
        mean = study.mean_memory_correlation
        label = as_it_stands(textwrap.fill(study.label, 34))
        axis.set_title(label if mean is None else f"{label}\nmean off the diagonal {mean:.2f}", fontsize=9)
        axis.set_xlabel("memory vector")
    figure.colorbar(image, ax=axes, label="correlation")
    save_png(figure, path)
    return path


def _effect_of_k(studies: Sequence[Study], path: Path) -> Path:
    scored = all(result.scores for study in studies for result in study.poolings)
    figure, axes = new_figure(11 if scored else 6, 4, columns=2 if scored else 1)
    for index, study in enumerate(studies):
        colour = COLOURS[index % len(COLOURS)]
        _draw_poolings(axes[0], study, lambda result: result.effective_dimension, colour)
        if scored:
            _draw_poolings(axes[1], study, lambda result: 100 * result.scores["average"], colour)
    for axis, title in zip(axes, ("effective dimension", "average score x 100"), strict=False):
        _whole_numbers(axis.xaxis)
        axis.set_xlabel("memory vectors averaged (diamond: cluster-then-merge)")
        axis.set_ylabel(title)
    axes[0].legend(frameon=False, fontsize="small")
    save_png(figure, path)
    return path


def _draw_poolings(axis: Any, study: Study, value: Callable[[PoolingResult], float], colour: str) -> None:
    firsts = [result for result in study.poolings if result.pooling != "merge"]
    label = as_it_stands(study.label)
    axis.plot([item.k for item in firsts], [value(item) for item in firsts], "o-", color=colour, label=label)
    merged = [result for result in study.poolings if result.pooling == "merge"]
    axis.plot([item.k for item in merged], [value(item) for item in merged], "D", color=colour, markersize=8)


def _whole_numbers(*axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))
