"""The analysis of one encoder: all measurements together, from one pass over the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory, TextEncoder
from llm2comp_apps.evaluation.analysis.geometry import Geometry, measure_geometry
from llm2comp_apps.evaluation.analysis.memory import (
    MemoryBank,
    Pool,
    PooledMemory,
    first_k,
    memory_correlation,
    pooled_as,
)
from llm2comp_apps.evaluation.analysis.spectrum import Spectrum, measure_spectrum
from llm2comp_apps.evaluation.datasets import PairData
from llm2comp_apps.evaluation.report_text import percent
from llm2comp_apps.evaluation.runner import evaluate, main_scores
from llm2comp_apps.evaluation.tasks import Task
from llm2comp_apps.text_table import TextTable

__all__ = ["PoolingResult", "Study", "analyze", "poolings_table", "studies_table"]

POSITIVE_SHARE = 0.8
"""Pairs with a gold score of at least this share of the highest count as positives: 4 of 5 on STS-B, as in SimCSE."""


@dataclass(frozen=True, slots=True)
class PoolingResult:
    """The encoder under one pooling of its memory vectors.

    Attributes:
        pooling: ``mean of 3``, ``merge``...
        k: how many memory vectors went in.
        effective_dimension: see :class:`~.spectrum.Spectrum`.
        scores: main score by task, and their ``average``.
    """

    pooling: str
    k: int
    effective_dimension: float
    scores: dict[str, float]


@dataclass(slots=True)
class Study:
    """What the analysis of one encoder found.

    Attributes:
        label: the row's label.
        name: the encoder's name.
        fingerprint: its fingerprint.
        dimension: its width d.
        texts: how many distinct texts the spectrum and the uniformity were measured on.
        spectrum: after pooling.
        geometry: alignment, uniformity, mean cosine.
        memory_correlation: ``(k, k)`` before pooling; ``None`` without memory vectors.
        poolings: the effect of k and of merging; empty without memory vectors.
    """

    label: str
    name: str
    fingerprint: str
    dimension: int
    texts: int
    spectrum: Spectrum
    geometry: Geometry
    memory_correlation: list[list[float]] | None = None
    poolings: list[PoolingResult] = field(default_factory=list)

    @property
    def mean_memory_correlation(self) -> float | None:
        """Mean correlation of two different memory vectors; ``None`` with fewer than two."""
        if self.memory_correlation is None or len(self.memory_correlation) < 2:
            return None
        matrix = np.asarray(self.memory_correlation)
        return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON-shaped values."""
        return {**asdict(self), "mean_memory_correlation": self.mean_memory_correlation}


def analyze(label: str, encoder: TextEncoder, pairs: PairData, tasks: Sequence[Task[Any]] = ()) -> Study:
    """Measure one encoder.

    Args:
        label: the row's label.
        encoder: with ``encode_memory`` for the part about memory vectors.
        pairs: an STS set: its distinct sentences are the texts, its best-scored pairs the positives.
        tasks: on which the poolings are compared; none leaves that part out.

    Raises:
        EvaluationError: the encoder has collapsed to one point, or the STS set has no positive pairs.
    """
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    bank: MemoryBank | None = None
    if isinstance(encoder, MakesMemory):
        # One pass gives the memory vectors; the embeddings are pooled from them.
        bank = MemoryBank(encoder)
        vectors = PooledMemory(bank, encoder.pooling, pooled_as(encoder.pooling)).encode(texts)
    else:
        vectors = encoder.encode(texts)
    study = Study(
        label=label,
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        texts=len(texts),
        spectrum=measure_spectrum(vectors),
        geometry=measure_geometry(_positives(pairs, texts, vectors), vectors),
    )
    if bank is not None:
        study.memory_correlation = memory_correlation(bank.memory(texts, None)).tolist()
        study.poolings = [_pooling(bank, texts, *variant, tasks) for variant in _variants(bank.encoder.k)]
    return study


def _positives(pairs: PairData, texts: list[str], vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    row = {text: index for index, text in enumerate(texts)}
    least = POSITIVE_SHARE * max(pairs.gold)
    chosen = [index for index, gold in enumerate(pairs.gold) if gold >= least]
    return vectors[[row[pairs.first[index]] for index in chosen]], vectors[
        [row[pairs.second[index]] for index in chosen]
    ]


def _variants(k: int) -> list[tuple[str, int, Pool]]:
    firsts: list[tuple[str, int, Pool]] = [(f"mean of {count}", count, first_k(count)) for count in range(1, k + 1)]
    return [*firsts, ("merge", k, pooled_as("merge"))]


def _pooling(
    bank: MemoryBank, texts: list[str], label: str, k: int, pool: Pool, tasks: Sequence[Task[Any]]
) -> PoolingResult:
    encoder = PooledMemory(bank, label, pool)
    dimension = measure_spectrum(encoder.encode(texts)).effective_dimension
    scores = main_scores(evaluate(encoder, tasks)) if tasks else {}
    return PoolingResult(label, k, dimension, scores)


def studies_table(studies: Sequence[Study]) -> TextTable:
    """Spectrum, geometry and memory, one row an encoder."""
    shape = ["effective dimension", "participation ratio", "90 % of variance"]
    place = ["alignment", "uniformity", "mean cosine", "memory correlation"]
    return TextTable(
        title="Embedding space",
        header=["encoder", "d", *shape, *place],
        rows=[_figures(study) for study in studies],
        numbers=range(1, 9),
    )


def _figures(study: Study) -> list[str]:
    spectrum, geometry, memory = study.spectrum, study.geometry, study.mean_memory_correlation
    return [
        study.label,
        str(study.dimension),
        f"{spectrum.effective_dimension:.1f}",
        f"{spectrum.participation_ratio:.1f}",
        str(spectrum.dimensions_90),
        f"{geometry.alignment:.3f}",
        f"{geometry.uniformity:.3f}",
        f"{geometry.mean_cosine:.3f}",
        "–" if memory is None else f"{memory:.3f}",
    ]


def poolings_table(study: Study) -> TextTable:
    """The effect of k and of merging, for an encoder with memory vectors."""
    names = list(study.poolings[0].scores)
    return TextTable(
        title=f"Poolings of {study.label}",
        header=["pooling", "effective dimension", *names],
        rows=[
            [each.pooling, f"{each.effective_dimension:.1f}", *(percent(each.scores[name]) for name in names)]
            for each in study.poolings
        ],
        numbers=range(1, 2 + len(names)),
    )
