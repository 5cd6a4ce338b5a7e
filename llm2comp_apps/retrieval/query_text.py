"""Queries and other texts that people type, checked before anything is loaded for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Integral

from llm2comp_apps.errors import UsageError

__all__ = ["check_count", "check_query", "check_text", "listed"]

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
    if k is not None:
        check_count(k, "k")
    if query is None:
        raise UsageError("must be text, not None", field="query")
    check_text(query, "query")
    if not query.strip():
        raise UsageError("is empty; say what to look for", field="query")


def check_count(count: int, field: str, *, least: int = 1) -> None:
    """Refuse what is no number of hits.

    Args:
        count: as it was given.
        field: the setting that it was given for.
        least: the smallest that makes sense.

    Raises:
        UsageError: it is no whole number, or too small.
    """
    if not isinstance(count, Integral):
        raise UsageError(f"must be a whole number, not {count!r}", field=field)
    if count < least:
        raise UsageError(f"must be at least {least}, not {count}", field=field)


def listed(texts: Iterable[str], field: str) -> list[str]:
    """Texts as a list that can be read more than once.

    Raises:
        UsageError: one text was given, which would pass for a list of its letters.
    """
    if isinstance(texts, str):
        raise UsageError(f"must be a list, not one text; write [{texts[:60]!r}]", field=field)
    return list(texts)


def check_text(text: str | None, field: str) -> None:
    """Refuse an argument that is no text, or whose bytes are none.

    Args:
        text: as it was given; ``None`` is fine.
        field: the setting that it was given for.

    Raises:
        UsageError: it is no text, or not valid UTF-8.
    """
    if text is not None and not isinstance(text, str):
        raise UsageError(f"must be text, not {text!r:.60}", field=field)
    if text is not None and _SURROGATE.search(text):
        shown = text.encode("utf-8", "replace").decode()
        raise UsageError(f"is not valid UTF-8 ({shown!r}); type it again as text", field=field)
