"""Words in pictures."""

from __future__ import annotations

__all__ = ["as_it_stands"]


def as_it_stands(text: str) -> str:
    """The text as matplotlib draws it letter by letter: between two dollar signs it would read a formula, or fail."""
    return text.replace("$", r"\$")
