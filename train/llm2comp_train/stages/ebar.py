"""``ebar``; see :mod:`llm2comp_train.losses.ebar`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._compression import CompressionStage

if TYPE_CHECKING:
    from torch import Tensor

    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]


class _EBAR(CompressionStage):
    name = "ebar"
    readout = "prompts"
    decodes = False
    about = "Llama2Vec's two prompts: the text's own words, and those of what follows (a comparator)"

    def check(self, settings: Settings) -> None:
        if settings.k < 2:
            raise UsageError(
                f"must be at least 2, not {settings.k}: ebar has two prompts, each with a memory token",
                field="k",
            )

    def loss(self) -> Callable[..., Tensor]:
        from llm2comp_train.losses.ebar import ebar_loss

        return ebar_loss


STAGE = _EBAR()
