"""Text -> k memory vectors -> one embedding: backbones, the network, poolings, checkpoints, training-free baselines.

:func:`load_encoder` is the way in; :mod:`.names` lists what it loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.encoder.names import BASELINES, FALLBACK, encoder_record, load_encoder, parse_name, source_of

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["BASELINES", "FALLBACK", "TextEncoder", "encoder_record", "load_encoder", "parse_name", "source_of"]


def __getattr__(name: str) -> object:
    if name == "TextEncoder":  # brings numpy, which the command line needs for no help text
        from llm2comp_apps.encoder.protocol import TextEncoder

        return TextEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
