"""The unit that everything passes on: one document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Document"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        id: unique in a corpus; derived from the content where the file gives none.
        text: the body; may be empty only if ``title`` is not.
        title: may be empty.
        metadata: every other field of the source record, JSON-shaped (str, int, float, bool, None, list, dict).
        source: where it came from, ``path:line`` or ``path``, for messages.
    """

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def content(self) -> str:
        """What is embedded and lexically indexed: title and text as BEIR joins them, ``title + " " + text``."""
        return f"{self.title} {self.text}".strip() if self.title else self.text
