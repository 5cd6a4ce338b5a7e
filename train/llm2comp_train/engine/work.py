"""A stage as the loop sees it: what a step does, and what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Outcome", "Work"]


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


class Work(Protocol):
    """The work of a stage."""

    def backward(self, step: int) -> Outcome:
        """Accumulate this process' share of a step's gradients in the network's parameters."""
        ...

    def figures(self) -> dict[str, float]:
        """How held-out rows fare, by name; empty where the stage holds none out. The network is in ``eval()``."""
        ...
