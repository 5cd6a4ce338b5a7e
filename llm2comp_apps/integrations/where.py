"""Writing ``where`` conditions (``llm2comp_indexes.storage.filters``) from what frameworks call filters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from llm2comp_apps import UsageError

__all__ = ["EVERYTHING", "NOTHING", "all_of", "any_of", "compared", "equal", "field", "listed", "literal"]

EVERYTHING = "_id is not null"
NOTHING = "_id is null"


def field(name: str) -> str:
    """A field by its name; dots lead into objects. Every part is quoted, so that it is no keyword.

    Raises:
        UsageError: the index has no way to name it.
    """
    if name == "_id":
        return name
    if not all(name.split(".")) or any(sign in name for sign in '"\\\0'):
        raise UsageError(f"a condition cannot name the field {name!r}")
    return ".".join(f'"{part}"' for part in name.split("."))


def literal(value: Any) -> str:
    """A value as it is typed.

    Raises:
        UsageError: it is no string, number or flag.
    """
    if isinstance(value, np.bool_ | np.number):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and not math.isnan(value):
        return repr(value).replace("inf", "1e999")  # which is read as infinity
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    raise UsageError(f"a condition compares with strings, numbers and flags, not with {value!r}")


def compared(name: str, operator: str, value: Any) -> str:
    """A field beside a value: ``"year" >= 2020``; with ``None``, whether it is missing.

    A string equals itself alone: frameworks know no dates and no numbers that strings may spell.
    """
    if operator in ("=", "!=") and (value is None or isinstance(value, str)):
        return f"{field(name)} is {'not ' if operator == '!=' else ''}{'null' if value is None else literal(value)}"
    return f"{field(name)} {operator} {literal(value)}"


def listed(name: str, values: Iterable[Any], *, negated: bool = False) -> str:
    """A field that is one of some values, or none of them; ``None`` among them is a field that is missing.

    Raises:
        UsageError: one text in place of several values, or a value that has no literal.
    """
    if isinstance(values, str):  # it would count by its letters
        raise UsageError(f"{name!r} is compared with a list of values, not with one text; write [{values[:60]!r}]")
    texts: list[str] = []
    others: list[str] = []
    missing = False
    for value in values:
        if value is None:
            missing = True
            continue
        (texts if isinstance(value, str) else others).append(literal(value))
    kinds = (("is in", texts), ("in", others))
    parts = [f"{field(name)} {operator} ({', '.join(written)})" for operator, written in kinds if written]
    parts += [compared(name, "=", None)] if missing else []
    found = " or ".join(parts) or NOTHING  # nothing is one of no values
    return f"not ({found})" if negated else found


def equal(filters: Mapping[str, Any]) -> str:
    """Every field has its value, or one of its values where these are a list."""
    return all_of(
        listed(name, value) if isinstance(value, list | tuple | set) else compared(name, "=", value)
        for name, value in filters.items()
    )


def all_of(conditions: Iterable[str]) -> str:
    """All conditions."""
    return " and ".join(f"({condition})" for condition in conditions)


def any_of(conditions: Iterable[str]) -> str:
    """At least one condition."""
    return " or ".join(f"({condition})" for condition in conditions)
