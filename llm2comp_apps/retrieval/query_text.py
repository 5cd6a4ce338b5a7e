"""Queries and other texts that people type, checked before anything is loaded for them."""

from __future__ import annotations

import re

from llm2comp_apps.errors import UsageError

__all__ = ["check_query", "check_text"]

# What Python makes of arguments whose bytes are not UTF-8 (PEP 383); nothing can encode it again.
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_query(query: str, k: int | None = None) -> None:
    """Refuse what cannot be looked for.

    Args:
        query: as it was given.
        k: how many hits are wanted; ``None`` for all.

    Raises:
        UsageError: the query is empty, or no text, or ``k`` is below 1.
    """
    if k is not None and k < 1:
        raise UsageError(f"must be at least 1, not {k}", field="k")
    if not query.strip():
        raise UsageError("is empty; say what to look for", field="query")
    check_text(query, "query")


def check_text(text: str | None, field: str) -> None:
    """Refuse an argument whose bytes are no text.

    Args:
        text: as it was given; ``None`` is fine.
        field: the setting that it was given for.

    Raises:
        UsageError: it is not valid UTF-8.
    """
    if text is not None and _SURROGATE.search(text):
        shown = text.encode("utf-8", "replace").decode()
        raise UsageError(f"is not valid UTF-8 ({shown!r}); type it again as text", field=field)
