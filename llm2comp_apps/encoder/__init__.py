"""Text -> k memory vectors -> one embedding: backbones, the network, poolings, checkpoints, training-free baselines."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["BASELINES", "FALLBACK", "TextEncoder", "load_encoder", "require_baseline", "split_baseline"]

BASELINES = ("lt", "wmp", "ee", "prompteol", "metaeol")
"""The training-free baselines; :mod:`llm2comp_apps.encoder.baselines` tells what each does."""

FALLBACK = "baseline:prompteol"
"""What ``default`` means where no trained encoder is shipped for the default backbone: of the five training-free
baselines the best on STS-B dev and a sample of SciFact (72.6 and 38.1; ``llm2comp eval --suite dev`` measures it)."""


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
            ``baseline:ee``, ``baseline:prompteol``, ``baseline:metaeol`` for a training-free baseline, on another
            backbone than the default one with ``@``: ``baseline:prompteol@path/to/llm``.
        backbone: backbone of a baseline that names none, or where a checkpoint's backbone lies.
        device: by default the best there is.
        dtype: by default what the hardware multiplies fastest.
        max_length: in tokens; by default the encoder's own.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    if name == "default" and backbone is None and not _trained_default():
        warnings.warn(f"no trained default encoder is installed; using {FALLBACK}, which is much weaker.", stacklevel=2)
        name = FALLBACK
    if name.startswith("baseline:"):
        from llm2comp_apps.encoder.baselines import Baseline

        kind, named = split_baseline(name)
        return Baseline.load(kind, named or backbone, device=device, dtype=dtype, max_length=max_length)
    from llm2comp_apps.encoder.model import LLM2Comp

    return LLM2Comp.from_pretrained(name, backbone=backbone, device=device, dtype=dtype, max_length=max_length)


def split_baseline(name: str) -> tuple[str, str | None]:
    """Kind and backbone of ``baseline:KIND@BACKBONE``; the backbone is ``None`` where none is named.

    Raises:
        UsageError: there is no such baseline, or nothing follows the ``@``.
    """
    kind, at, backbone = name.removeprefix("baseline:").partition("@")
    require_baseline(kind)
    if at and not backbone:
        raise UsageError(f"encoder {name}: after the @ comes a backbone: a directory or a Hugging Face id")
    return kind, backbone or None


def require_baseline(kind: str) -> None:
    """Refuse a kind of baseline that there is not, before anything is loaded.

    Raises:
        UsageError: naming those that there are.
    """
    if kind not in BASELINES:
        raise UsageError(f"baseline {kind!r} is unknown; choose one of {', '.join(BASELINES)}.")


def _trained_default() -> bool:
    from pathlib import Path

    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE

    return (Path(__file__).parent / "pretrained" / DEFAULT_BACKBONE / "encoder.json").is_file()
