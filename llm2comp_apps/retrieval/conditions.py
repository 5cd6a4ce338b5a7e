"""Conditions on fields that no document has: most likely a slip of the pen, and worth a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.retrieval.query_text import check_text

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["check_condition", "unknown_field_lines"]

_LISTED = 20  # fields named in a line


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
