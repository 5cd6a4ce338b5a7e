"""Dates in metadata: how a condition compares them, however a document spells them.

A literal such as ``2024-06-01`` means a day, ``2024-06`` a month, ``2024-06-01T12:00`` a moment. A stored date is cut
to the precision of the literal before the two are compared, so that ``date = 2024-06-01`` finds
``2024-06-01T12:00:00Z`` and ``date <= 2024-06-01`` the whole of that day. Days and months are compared as they are
written; moments in UTC, which is also where a moment without a zone is taken to be.

Stored dates may be ISO 8601 (``2024-06-01``, ``2024/06/01``, ``2024-06``, with a time and a zone or without; also as
databases print them, ``2024-06-01 12:00:00+00`` and ``2024-06-01 12:00:00 UTC``), the dates of mail
(``Sat, 01 Jun 2024 12:00:00 +0200``), or English with the month as a word (``June 1, 2024``, ``1 Jun 2024``).
``01/06/2024`` is none: nobody can tell its day from its month.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

__all__ = ["LITERAL", "Precision", "date_key", "precision_of"]

Precision: TypeAlias = Literal["month", "day", "moment"]

_OFFSET: Final = r"[+-]\d{2}(?::?\d{2})?"

#: The pattern of a date that may be typed without quotes.
LITERAL: Final = (
    rf"\d{{4}}-\d{{2}}(?:-\d{{2}}(?:T\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,6}})?)?(?:Z|{_OFFSET})?)?)?(?![\w.-])"
)

_TYPED: Final = re.compile(LITERAL.replace("T", "[T ]"))
_ISO: Final = re.compile(
    r"(\d{4})([-/])(\d{1,2})(?:\2(\d{1,2})(?:[T ]+(\d{1,2})(:\d{2}(?::\d{2}(?:[.,]\d+)?)?)"
    rf"\s*(Z|UTC|{_OFFSET})?)?)?",
    re.IGNORECASE,
)
_DAY_FIRST: Final = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?\s+([a-z]{3,9})\.?,?\s+(\d{4})", re.IGNORECASE)
_MONTH_FIRST: Final = re.compile(r"([a-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})", re.IGNORECASE)
_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_LENGTHS: Final = {"month": 7, "day": 10}


def precision_of(literal: str) -> Precision | None:
    """What a literal of a condition means as a date; ``None`` if it is no date, or one of no calendar."""
    if _TYPED.fullmatch(literal) is None:
        return None
    precision: Precision = "month" if len(literal) == 7 else "day" if len(literal) == 10 else "moment"
    return precision if date_key(literal, precision) else None


@lru_cache(maxsize=1 << 14)
def date_key(text: Any, precision: Precision) -> str | None:
    """A string by which dates of a precision sort; ``None`` for what is no date.

    SQLite calls it by this name, with whatever a document holds.
    """
    if not isinstance(text, str) or len(text) > 60:
        return None
    try:
        moment = _read(text.strip())
    except (ValueError, OverflowError):
        return None
    if moment is None:
        return None
    if precision != "moment":
        return moment.isoformat()[: _LENGTHS[precision]]
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:  # the first or last day of the calendar
        return None


def _read(text: str) -> datetime | None:
    if found := _ISO.fullmatch(text):
        year, _, month, day, hour, rest, zone = found.groups()
        date = f"{year}-{month:0>2}-{day or '1':0>2}"
        time = "" if hour is None else f"T{hour:0>2}{rest.replace(',', '.')}{(zone or '').upper().replace('UTC', 'Z')}"
        return datetime.fromisoformat(date + time)
    if found := _DAY_FIRST.fullmatch(text):
        return _spelled(found[1], found[2], found[3])
    if found := _MONTH_FIRST.fullmatch(text):
        return _spelled(found[2], found[1], found[3])
    if re.search(r"\d{1,2} [A-Z][a-z]{2} \d{4} \d{1,2}:", text):
        return parsedate_to_datetime(text)
    return None


def _spelled(day: str, month: str, year: str) -> datetime | None:
    months = [number for number, name in enumerate(_MONTHS, start=1) if name.startswith(month.lower())]
    return datetime(int(year), months[0], int(day)) if months else None
