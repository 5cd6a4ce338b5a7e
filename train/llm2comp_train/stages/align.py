"""``align``; see :mod:`llm2comp_train.losses.align`, and for what a step does :mod:`llm2comp_train.engine.aligning`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import TextEncoder
    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.work import Work
    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]

_CHARACTERS = 6
"""More than a token has as a mean over a text."""


class _Align(Stage):
    name = "align"
    about = "learn the embeddings of other encoders, so that a small encoder does what a large one does"
    family = "aligning"
    rows = "any"
    embeds = True

    def check(self, settings: Settings) -> None:
        if not settings.teachers:
            raise UsageError("is missing: stage align needs an encoder to learn from", field="teacher")
        for name, weight in settings.teachers:
            if not math.isfinite(weight):
                raise UsageError(f"must have finite weights, not {weight:g} for {name}", field="teacher")
            if weight <= 0:
                raise UsageError(f"must have weights above 0, not {weight:g} for {name}", field="teacher")
        if settings.joined > _CHARACTERS * settings.max_length:
            most = _CHARACTERS * settings.max_length
            reason = f"must be at most {most}, about what {settings.max_length} tokens hold, not {settings.joined}"
            raise UsageError(f"{reason}; raise `max_length`, too", field="joined")

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:
        from llm2comp_train.data.sources import single_rows

        pieces, joined = settings.pieces, settings.joined
        return single_rows(file.records(), prompt, settings.min_chars, pieces=pieces, joined=joined)

    def teachers(self, settings: Settings, device: str) -> list[TextEncoder]:
        from llm2comp_train.data.teacher import load_teacher

        return [load_teacher(name, device) for name, _ in settings.teachers]

    def work(self, bench: Bench) -> Work:
        from llm2comp_train.engine.aligning import AligningWork

        return AligningWork(bench)


STAGE = _Align()
