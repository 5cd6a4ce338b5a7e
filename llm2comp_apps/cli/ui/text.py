"""Texts of documents on their way to a terminal."""

from __future__ import annotations

import re

__all__ = ["printable"]

# C0, DEL and C1, but for tab and newline: a terminal takes these for commands (clear the screen, set the title).
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without the control characters by which it could command a terminal."""
    return _CONTROL.sub("", text)
