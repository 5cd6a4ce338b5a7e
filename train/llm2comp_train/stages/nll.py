"""``nll``; see :mod:`llm2comp_train.losses.nll`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm2comp_train.stages._compression import CompressionStage

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STAGE"]


class _NLL(CompressionStage):
    name = "nll"
    about = "continuation: the frozen LM continues the text from its memory"

    def loss(self) -> Callable[..., Tensor]:
        from llm2comp_train.losses.nll import nll_loss

        return nll_loss


STAGE = _NLL()
