"""Text -> k memory vectors -> one embedding: backbones, the network, poolings, checkpoints, training-free baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.encoder.protocol import TextEncoder

if TYPE_CHECKING:
    import torch

__all__ = ["TextEncoder", "load_encoder"]


def load_encoder(
    name: str = "default",
    *,
    backbone: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
) -> TextEncoder:
    """Load any encoder of ours by name.

    Args:
        name: ``default``; a checkpoint directory or Hugging Face id; or ``baseline:lt``, ``baseline:wmp``,
            ``baseline:ee``, ``baseline:prompteol``, ``baseline:metaeol`` for a training-free baseline.
        backbone: backbone of a baseline, or where a checkpoint's backbone lies.
        device: by default the best there is.
        dtype: by default what the hardware multiplies fastest.
        max_length: in tokens; by default the encoder's own.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    if name.startswith("baseline:"):
        from llm2comp_apps.encoder.baselines import Baseline

        return Baseline.load(
            name.removeprefix("baseline:"), backbone, device=device, dtype=dtype, max_length=max_length
        )
    from llm2comp_apps.encoder.model import LLM2Comp

    return LLM2Comp.from_pretrained(name, backbone=backbone, device=device, dtype=dtype, max_length=max_length)
