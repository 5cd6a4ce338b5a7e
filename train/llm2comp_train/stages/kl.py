"""``kl``; see :mod:`llm2comp_train.losses.kl`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm2comp_train.stages._compression import CompressionStage

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STAGE"]


class _KL(CompressionStage):
    name = "kl"
    about = "continuation with distillation: the LM that reads memory expects what the LM that reads the text expects"

    def loss(self) -> Callable[..., Tensor]:
        from llm2comp_train.losses.kl import kl_loss

        return kl_loss


STAGE = _KL()
