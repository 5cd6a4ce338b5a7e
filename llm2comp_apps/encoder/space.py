"""Whose vectors can be compared: an encoder's own, and those of the encoder that it was aligned to.

A small encoder that was trained to give a text the vector that a large one gives it can ask for what the large one has
indexed (asymmetric search, as LEAF does, arXiv 2509.12539). Its checkpoint records the large one's fingerprint. The
reverse is not offered: an index is searched by its own encoder or by one aligned to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from llm2comp_apps.encoder.protocol import TextEncoder

if TYPE_CHECKING:
    from llm2comp_apps.encoder.names import Identity

__all__ = ["Aligned", "same_space"]


@runtime_checkable
class Aligned(Protocol):
    """An encoder that may have been aligned to another one."""

    @property
    def space(self) -> Mapping[str, str] | None:
        """Name and fingerprint of the other one."""
        ...


def same_space(encoder: TextEncoder | Identity, record: Mapping[str, str]) -> bool:
    """Whether queries encoded by ``encoder`` may be compared with the vectors of the encoder in ``record``.

    Args:
        encoder: for the queries, or who it is.
        record: what an index remembers of its encoder; its ``fingerprint`` is read.
    """
    indexed = record.get("fingerprint")
    aligned_to = (encoder.space or {}) if isinstance(encoder, Aligned) else {}
    return indexed is not None and indexed in (encoder.fingerprint, aligned_to.get("fingerprint"))
