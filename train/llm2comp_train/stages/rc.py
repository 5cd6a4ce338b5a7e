"""``rc``; see :mod:`llm2comp_train.losses.rc`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm2comp_train.stages._compression import CompressionStage

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STAGE"]


class _RC(CompressionStage):
    name = "rc"
    reconstruct = True
    about = "reconstruction: the frozen LM repeats the text from its memory"

    def loss(self) -> Callable[..., Tensor]:
        from llm2comp_train.losses.rc import rc_loss

        return rc_loss


STAGE = _RC()
