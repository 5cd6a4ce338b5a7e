"""Queries and other texts that people type, checked before anything is loaded for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError

__all__ = [
    "check_count",
    "check_number",
    "check_query",
    "check_text",
    "check_time",
    "check_whole",
    "listed",
    "listed_texts",
    "one_row",
]

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
    check_whole(count, field)
    if count < least:
        raise UsageError(f"must be at least {least}, not {count}", field=field)


def check_whole(value: int, field: str) -> None:
    """Refuse what is no whole number; arguments as :func:`check_number`, and ``None`` is none.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, Integral):
        raise UsageError(f"must be a whole number, not {value!r:.60}", field=field)


def check_number(value: float | None, field: str) -> None:
    """Refuse what is no number.

    Args:
        value: as it was given; ``None`` is fine.
        field: the setting that it was given for.

    Raises:
        UsageError: it is none.
    """
    if value is not None and not isinstance(value, Real):
        raise UsageError(f"must be a number, not {value!r:.60}", field=field)


def check_time(value: float | None, field: str) -> None:
    """Refuse what is no time; arguments as :func:`check_number`.

    Raises:
        UsageError: it is no number, or below 0.
    """
    check_number(value, field)
    if value is not None and not value >= 0:
        raise UsageError(f"must be at least 0, which is no limit, not {value:g}", field=field)


def one_row(vector: FloatArray | Sequence[float] | None, dimension: int) -> FloatArray | None:
    """The vector of a query as the only row of a matrix, ``(1, d)``; ``None`` for none.

    Args:
        vector: ``(d,)``, an array or a list of numbers.
        dimension: d.

    Raises:
        UsageError: it is no vector, of another length, or a number in it is not finite.
    """
    if vector is None:
        return None
    try:
        found = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"must be a vector of {dimension} numbers, not {vector!r:.60}", field="vector") from error
    if isinstance(vector, str) or found.shape != (dimension,):
        raise UsageError(f"must be a vector of {dimension} numbers, not of the shape {found.shape}", field="vector")
    if not np.isfinite(found).all():
        raise UsageError("must be of finite numbers", field="vector")
    return found[None]


def listed(texts: Iterable[str], field: str) -> list[str]:
    """Texts as a list that can be read more than once.

    Raises:
        UsageError: one text was given, which would pass for a list of its letters; or no list.
    """
    if isinstance(texts, str):
        raise UsageError(f"must be a list, not one text; write [{texts[:60]!r}]", field=field)
    if not isinstance(texts, Iterable):
        raise UsageError(f"must be a list, not {texts!r:.60}", field=field)
    return list(texts)


def listed_texts(texts: Iterable[str], field: str) -> list[str]:
    """The same, of texts that can be read.

    Raises:
        UsageError: as :func:`listed`; or one of them is no text.
    """
    found = listed(texts, field)
    for text in found:
        check_text(text, field)
    return found


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
