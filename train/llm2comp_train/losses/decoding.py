"""What the compression objectives share: a batch of split texts, and the frozen LM reading memory for the context."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork

__all__ = ["SplitBatch", "decoder_states"]


@dataclass(frozen=True, slots=True)
class SplitBatch:
    """Texts split into a context x and a target y.

    Attributes:
        context: ``(B, C)`` token ids, left-padded.
        context_mask: ``(B, C)``, or ``None`` where no row is padded.
        target: ``(B, T)`` token ids, right-padded: what follows the context, or (``rc``) the context itself.
        lengths: ``(B,)`` real tokens of each target.
    """

    context: Tensor
    context_mask: Tensor | None
    target: Tensor
    lengths: Tensor

    def positions(self, *, extra: int) -> Tensor:
        """``(B, T + extra)`` bool: the first ``lengths + extra`` places of each row. By length, never by eos id."""
        width = torch.arange(self.target.shape[1] + extra, device=self.lengths.device)
        return width[None] < self.lengths[:, None] + extra


def decoder_states(network: CompressionNetwork, memory: Tensor, target: Tensor) -> Tensor:
    """Last hidden states of the frozen LM over [memory, y], from the last memory vector on.

    Args:
        network: its decoder role is g.
        memory: ``(B, k, d)`` as the encoder made them.
        target: ``(B, T)`` token ids; attention is causal, so padding on the right disturbs nothing before it.

    Returns:
        ``(B, 1 + T, d)``; state t (from 0) predicts y_{t+1}.
    """
    embeds = torch.cat([network.decoder_input(memory), network.embed(target)], dim=1)
    return network.decode(embeds)[:, memory.shape[1] - 1 :]
