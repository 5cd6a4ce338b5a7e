"""Topics over time: documents counted by period and topic, from a metadata field with a date."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import IntArray

__all__ = ["Timeline", "day_of", "topics_over_time"]

_MOST_YEARS = 3000
_FIRST_DATE = 1e7  # numbers of eight digits are dates such as 20210609
_LEAST_SECONDS, _LEAST_MILLISECONDS = 1e8, 1e11  # numbers from here on count from 1970 on
_NUMBER = r"[1-9]\d{4,}(?:\.\d*)?|\d{4}\.0+"  # as text
# The unit of a span of so many days at most, so that there are at most some thirty periods.
_UNITS = ((31, "day"), (31 * 7, "week"), (3 * 366, "month"), (8 * 366, "quarter"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How many documents each topic has in each period.

    Attributes:
        unit: ``day``, ``week``, ``month``, ``quarter`` or ``year``.
        periods: P names in order, without gaps: ``2024-06``, ``2024-Q2``; weeks by their Monday.
        counts: ``(P, C + 1)``, the last column outliers.
        undated: documents without a date that can be read.
    """

    unit: str
    periods: list[str]
    counts: npt.NDArray[np.int64]
    undated: int


def topics_over_time(values: Sequence[Any], labels: IntArray, topics: int) -> Timeline:
    """Count documents by period and topic.

    Args:
        values: what the field of each document holds, see :func:`day_of`.
        labels: ``(n,)``, 0 to C - 1 or -1.
        topics: C.
    """
    days = [day_of(value) for value in values]
    dated = [day for day in days if day is not None]
    if not dated:
        return Timeline(unit="year", periods=[], counts=np.zeros((0, topics + 1), np.int64), undated=len(days))
    span = (max(dated) - min(dated)).days
    years_only = all((day.month, day.day) == (1, 1) for day in dated)
    unit = "year" if years_only else next((name for most, name in _UNITS if span <= most), "year")
    starts = [_start(min(dated), unit)]
    while starts[-1] < _start(max(dated), unit):
        starts.append(_next(starts[-1], unit))
    place = {start: number for number, start in enumerate(starts)}
    counts = np.zeros((len(starts), topics + 1), dtype=np.int64)
    for day, label in zip(days, labels.tolist(), strict=True):
        if day is not None:
            counts[place[_start(day, unit)], label] += 1  # -1 is the last column
    names = [_name(start, unit) for start in starts]
    return Timeline(unit=unit, periods=names, counts=counts, undated=len(days) - len(dated))


def day_of(value: Any) -> date | None:
    """The day that a value names: a year, a date or a time (ISO 8601 or as in mail), or seconds since 1970.

    Numbers may be written as text, and dates without hyphens as numbers: readers of tables turn one into the other.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _of_number(value)
    text = str(value or "").strip()
    if re.fullmatch(_NUMBER, text):
        return _of_number(float(text))
    if found := re.fullmatch(r"(\d{4})(?:[-/](\d{1,2}))?", text):
        return _date(int(found[1]), int(found[2] or 1), 1)
    if found := re.match(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)", text):
        return _date(*(int(part) for part in found.groups()))
    try:
        return datetime.fromisoformat(text).date() if len(text) >= 8 else None
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).date()
    except (ValueError, TypeError, IndexError):
        return None


def _of_number(value: float) -> date | None:
    if not math.isfinite(value):
        return None
    if value == int(value) and 0 < value < _MOST_YEARS:
        return _date(int(value), 1, 1)
    if value == int(value) and _FIRST_DATE <= value < _LEAST_SECONDS:
        return _date(int(value) // 10_000, int(value) // 100 % 100, int(value) % 100)
    try:
        seconds = value / 1000 if value >= _LEAST_MILLISECONDS else value
        return datetime.fromtimestamp(seconds, tz=UTC).date() if value >= _LEAST_SECONDS else None
    except (OverflowError, ValueError, OSError):
        return None


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _start(day: date, unit: str) -> date:
    """The first day of the period that a day lies in."""
    if unit == "week":
        return day - timedelta(days=min(day.weekday(), (day - date.min).days))
    if unit == "day":
        return day
    month = {"month": day.month, "quarter": day.month - (day.month - 1) % 3, "year": 1}[unit]
    return date(day.year, month, 1)


def _next(start: date, unit: str) -> date:
    days = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}[unit]  # at least one period, less than two
    return _start(start + timedelta(days=days), unit)


def _name(start: date, unit: str) -> str:
    if unit in ("day", "week"):
        return start.isoformat()
    return {
        "month": f"{start.year:04}-{start.month:02}",
        "quarter": f"{start.year:04}-Q{(start.month + 2) // 3}",
        "year": f"{start.year:04}",
    }[unit]
