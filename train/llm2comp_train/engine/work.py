"""A stage as the loop sees it: what a step does, and what it says about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Outcome", "Provenance", "Work"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did.

    Attributes:
        loss: this process' share of the batch's loss; the shares add up to it.
        tokens: of the batch that went through the encoder, memory tokens included, padding not.
        rows: of the store, for messages.
    """

    loss: float
    tokens: int
    rows: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a stage adds to the checkpoints of its encoder.

    Attributes:
        training: entries of ``encoder.json``'s ``training``, beside the settings.
        space: the encoder in whose space the vectors lie, see :class:`llm2comp_apps.encoder.settings.EncoderSettings`.
        alignment: the map from the teachers' space, ``alignment.safetensors``.
    """

    training: dict[str, Any] = field(default_factory=dict)
    space: dict[str, str] | None = None
    alignment: Tensor | None = None


class Work(ABC):
    """The work of a stage."""

    @abstractmethod
    def backward(self, step: int) -> Outcome:
        """Accumulate this process' share of a step's gradients in the network's parameters."""

    def figures(self) -> dict[str, float]:
        """How held-out rows fare, by name; nothing where none are held out. The network is in ``eval()``."""
        return {}

    def provenance(self) -> Provenance:
        """What the checkpoints say beside the settings."""
        return Provenance()
