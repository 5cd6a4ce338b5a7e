"""Where teachers' vectors lie in a student's space: one map, fitted once and kept with the run and its encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_apps.encoder.protocol import MakesMemory, TextEncoder
from llm2comp_apps.encoder.settings import read_settings
from llm2comp_apps.files import replaced_file
from llm2comp_train.losses.align import joined, procrustes, reduction

__all__ = ["ALIGNMENT", "Alignment", "describe_teachers", "fit_map", "kept_map", "shares_space", "write_map"]

ALIGNMENT = "alignment.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Teachers and where their vectors lie in the student's space.

    Attributes:
        vectors: of each teacher, ``(rows, t_a)`` float16, by row of the store.
        weights: of each teacher.
        map: ``(t_1 + t_2 + ..., d)`` float32; ``None`` where the only teacher's space is the student's own.
    """

    vectors: Sequence[npt.NDArray[np.float16]]
    weights: Sequence[float]
    map: Tensor | None

    def teacher(self, rows: Sequence[int], device: torch.device | None = None) -> Tensor:
        """``(n, t)`` of rows: all teachers as one, see :func:`~llm2comp_train.losses.align.joined`."""
        return joined([torch.from_numpy(vectors[rows]).to(device) for vectors in self.vectors], self.weights)

    def targets(self, rows: Sequence[int], device: torch.device) -> Tensor:
        """``(n, d)`` on a device: where the student is to put the texts of rows."""
        return self.mapped(self.teacher(rows, device))

    def mapped(self, teacher: Tensor) -> Tensor:
        """What :meth:`teacher` gives, in the student's space, on the same device."""
        return teacher if self.map is None else teacher @ self.map.to(teacher.device)


def describe_teachers(teachers: Sequence[TextEncoder], weights: Sequence[float]) -> list[dict[str, Any]]:
    """Names, fingerprints and weights of teachers, for ``encoder.json``."""
    return [
        {"name": teacher.name, "fingerprint": teacher.fingerprint, "weight": weight}
        for teacher, weight in zip(teachers, weights, strict=True)
    ]


def shares_space(teachers: Sequence[TextEncoder], width: int) -> bool:
    """Whether the student may live in its teacher's own space: the only one, an encoder of ours, and as wide."""
    return len(teachers) == 1 and teachers[0].dimension == width and isinstance(teachers[0], MakesMemory)


def fit_map(teacher: Tensor, student: Tensor) -> Tensor:
    """The map ``(t, d)`` that brings teachers' vectors ``(n, t)`` nearest to a student's ``(n, d)``, cosines kept.

    Where t is above d, a reduction to d comes first, which keeps cosines as well as d dimensions can.
    """
    width = student.shape[1]
    if teacher.shape[1] <= width:
        return procrustes(teacher, student)
    first = reduction(teacher, width)
    reduced = torch.nn.functional.normalize(teacher @ first, dim=-1)
    return first @ procrustes(reduced, student)


def kept_map(folder: Path, init: Path | None, teachers: list[dict[str, Any]]) -> Tensor | None:
    """The map of this run, or that of the encoder it starts from if that was aligned to the same teachers.

    Args:
        folder: of the run's data.
        init: the encoder, if any.
        teachers: see :func:`describe_teachers`.
    """
    from safetensors.torch import load_file

    if (folder / ALIGNMENT).is_file():
        return load_file(folder / ALIGNMENT)["map"]
    if init is not None and (init / ALIGNMENT).is_file():
        before = read_settings(init).training.get("alignment", {})
        if before.get("teachers") == teachers:
            return load_file(init / ALIGNMENT)["map"]
    return None


def write_map(path: Path, found: Tensor) -> None:
    """Write the map whole or not at all."""
    from safetensors.torch import save

    with replaced_file(path) as fresh:
        fresh.write_bytes(save({"map": found.contiguous()}))  # `save_file` would let nobody else read it
