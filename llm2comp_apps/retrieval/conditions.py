"""Conditions that meet nothing: most likely a slip of the pen, and worth a word that says which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm2comp_apps.retrieval.query_text import check_text

if TYPE_CHECKING:
    from llm2comp_indexes import FieldSummary, Index, PredicateCount

__all__ = ["check_condition", "unknown_field_lines", "why_nothing_lines"]

_LISTED = 20  # fields named in a line
_SHOWN = 3  # values of a field shown in a line
_FEW = 0.1  # share of the documents that are few


def check_condition(where: str | None) -> None:
    """Refuse a condition that cannot be read.

    Raises:
        UsageError: it is no text.
        FilterError: where it goes wrong.
    """
    if where is None:
        return
    from llm2comp_indexes import compile_filter

    check_text(where, "where")
    compile_filter(where)


def unknown_field_lines(index: Index, where: str) -> list[str]:
    """A line for each field that a condition names and no document of the index has.

    Raises:
        FilterError: the condition cannot be read.
    """
    return [_line(field, known) for field, known in index.unknown_fields(where).items()]


def _line(field: str, known: list[str]) -> str:
    from difflib import get_close_matches

    by_small_letters = {name.lower(): name for name in ["_id", *known]}
    close = get_close_matches(field.lower(), by_small_letters, n=1)
    guess = f", did you mean {by_small_letters[close[0]]!r}?" if close else ""
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"no document has a field {field!r}{guess} (there are: {', '.join(['_id', *known[:_LISTED]])}{more})"


def why_nothing_lines(index: Index, where: str) -> list[str]:
    """Why no document meets a condition, a line for each part of it that is met by none; empty if some documents do.

    Raises:
        FilterError: the condition cannot be read.
    """
    if not len(index) or next(index.ids(where=where), None) is not None:
        return []
    counts = index.predicate_counts(where)
    failing = [count for count in counts if not count.documents]
    if failing or len(counts) < 2:
        return [_why(count, index.field(*count.names), len(index)) for count in dict.fromkeys(failing)]
    listed = ", ".join(f"{count.text} ({count.documents})" for count in counts[:_LISTED])
    return [f"no document meets all of it; alone, its conditions are met by some: {listed}"]


def _why(count: PredicateCount, field: FieldSummary, total: int) -> str:
    """Why no document meets a predicate."""
    line = f"no document meets {count.text}: {_mismatch(count, field)}"
    if field.documents < _FEW * total:
        line += f" (and only {field.documents} of {total} documents have a field {field.name!r})"
    return line


def _mismatch(count: PredicateCount, field: FieldSummary) -> str:
    """What the field holds instead, and what was most likely meant."""
    if not field.values:
        return f"{field.name!r} is empty, null or an object"
    texts = [value for value, _ in field.values if isinstance(value, str)]
    typed = {_kind(value) for value in count.values}
    if variants := [text for text in texts if _folded(text) in {_folded(value) for value in count.values}]:
        return f"capitals and blanks count, and there is {_list(variants)}"
    if typed == {"number"} and set(field.types) == {"text"}:
        dates = [text for text in texts if _is_date(text)]
        if dates:
            return f"{field.name!r} holds dates, such as {_list(dates)}; a date is typed as 2024-06-01"
        return f"{field.name!r} holds text, such as {_list(texts)}, and {_list(count.values)} is a number"
    if "number" not in typed and set(field.types) == {"number"}:
        return f"{field.name!r} holds numbers, {_range(field)}"
    if typed == {"date"} and not any(map(_is_date, texts)):
        return f"{field.name!r} holds no dates that can be read, but {_list(texts)}"
    if guesses := _close(count.values, texts):
        return f"did you mean {_list(guesses)}?"
    return f"{field.name!r} holds {_contents(field, texts)}"


def _kind(value: str | float) -> str:
    if isinstance(value, bool):
        return "flag"
    if not isinstance(value, str):
        return "number"
    return "date" if _is_date(value) else "text"


def _is_date(text: str) -> bool:
    from llm2comp_indexes import date_key

    return date_key(text, "day") is not None


def _folded(value: str | float) -> str | None:
    return " ".join(value.casefold().split()) if isinstance(value, str) else None


def _close(values: Iterable[str | float], texts: list[str]) -> list[str]:
    from difflib import get_close_matches

    asked = [value for value in values if isinstance(value, str)]
    return [text for value in asked for text in get_close_matches(value, texts[:1000], n=1, cutoff=0.75)]


def _contents(field: FieldSummary, texts: list[str]) -> str:
    if set(field.types) == {"number"}:
        return f"numbers, {_range(field)}"
    if texts and all(map(_is_date, texts)):
        return f"dates, from {_list([min(texts)])} to {_list([max(texts)])}"
    more = len(field.values) - _SHOWN
    return _list(value for value, _ in field.values) + (f" and {more} other values" if more > 0 else "")


def _range(field: FieldSummary) -> str:
    numbers = [value for value, _ in field.values if not isinstance(value, str)]
    low, high = min(numbers), max(numbers)
    return f"all of them {low}" if low == high else f"from {low} to {high}"


def _list(values: Iterable[Any]) -> str:
    """The first values as they are typed in a condition."""
    shown = []
    for value, _ in zip(values, range(_SHOWN), strict=False):
        text = f"{value:.60}".replace("'", "''") + ("..." if len(value) > 60 else "") if isinstance(value, str) else ""
        shown.append(f"'{text}'" if isinstance(value, str) else str(value).lower())
    return ", ".join(shown)
