"""What one predicate of a ``where`` expression asks of one value, in SQL; the rules are in `storage.filters`.

SQLite counts exactly up to 64 bits and makes a float of anything larger. Larger integers are therefore compared digit
by digit, as they are spelled.
"""

# ruff: noqa: S608  this module is what makes SQL: every value in it is a bound parameter

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from llm2comp_indexes.storage.dates import date_key, precision_of

__all__ = ["ID", "Condition", "Date", "Predicates", "Scalar", "number"]

# A number, or a string that spells one, as a number; else NULL. In SQLite's order every text is above every number, and
# comparing with a NUMERIC operand first turns text that spells a number into one: only such a `{v}` is <= infinity.
_INFINITY: Final = "CAST(9e999 AS NUMERIC)"
_NUMBER: Final = f"CASE WHEN {{v}} <= {_INFINITY} THEN CAST({{v}} AS NUMERIC) END"

# An integer as it is spelled, without leading zeros; NULL for anything else.
_DIGITS: Final = (
    "CASE WHEN trim({v}) GLOB '[-+0-9]*[0-9]' AND substr(trim({v}), 2) NOT GLOB '*[^0-9]*' OR trim({v}) GLOB '[0-9]' "
    "THEN CASE WHEN trim({v}) LIKE '-%' THEN '-' ELSE '' END || ltrim(trim({v}), '+-0') END"
)

_NO_FLAG: Final = "NOT IN ('true', 'false')"
_A_NUMBER: Final = "IN ('integer', 'real')"


class Scalar(NamedTuple):
    """SQL for one value that is stored.

    Attributes:
        value: as SQLite has it.
        type: its JSON type.
        raw: its JSON text.
    """

    value: str
    type: str
    raw: str

    @property
    def spelled(self) -> str:
        """The value as text, a large integer in full."""
        return f"CASE {self.type} WHEN 'integer' THEN {self.raw} ELSE {self.value} END"


ID: Final = Scalar("id", "'text'", "id")
"""The id of a document, which is compared as text alone."""

Condition = Callable[[Scalar], str]
"""SQL that tests a scalar."""


class Date(str):
    """A date that was typed without quotes."""

    __slots__ = ()


def number(text: str) -> int | float:
    """What a numeric literal means; integers are exact."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,4000}", text) else float(text)


def _spelled(text: str) -> int | float | None:
    """The number that a quoted literal spells."""
    return number(text.strip()) if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text) else None


def _is_large(value: object) -> bool:
    """Whether it is an integer that SQLite would make a float of."""
    return isinstance(value, int) and not -(2**63) < value < 2**63


class Predicates:
    """Makes conditions whose values are bound parameters.

    Attributes:
        parameters: what was bound, by name.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def bind(self, value: Any) -> str:
        """A parameter for a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def _bind_all(self, values: Sequence[Any]) -> str:
        """The values as a table of one column."""
        return f"(SELECT value FROM json_each({self.bind(json.dumps(values))}))"

    def like(self, pattern: str) -> Condition:
        """``%`` any run of characters, ``_`` any one."""
        bound = self.bind(pattern)
        return lambda scalar: f"{scalar.type} {_NO_FLAG} AND {scalar.spelled} LIKE {bound}"

    def contains(self, piece: str) -> Condition:
        """A substring."""
        bound = self.bind("%" + re.sub(r"([%_\\])", r"\\\1", piece) + "%")
        return lambda scalar: f"{scalar.type} {_NO_FLAG} AND {scalar.spelled} LIKE {bound} ESCAPE '\\'"

    def exactly(self, texts: Sequence[str]) -> Condition:
        """One of these strings, whatever else they may spell."""
        table = self._bind_all(texts)
        return lambda scalar: f"{scalar.type} = 'text' AND {scalar.value} IN {table}"

    def compare(self, operator: str, value: str | float) -> Condition:
        """A literal: a bool, a string for what was in quotes, a date that was not, or a number."""
        if isinstance(value, bool):
            word = self.bind("true" if value else "false")
            return lambda scalar: (
                f"{scalar.type} = {word} OR ({scalar.type} = 'text' AND lower({scalar.value}) = {word})"
            )
        if not isinstance(value, str):
            return self._counted(operator, value, strings=True)
        if dated := self._dated(operator, value):
            return dated
        textual, spelled = self.bind(value), _spelled(value)
        counted = None if spelled is None else self._counted(operator, spelled, strings=False)

        def compare(scalar: Scalar) -> str:
            if scalar is ID:  # an id: the plainest form can use its index
                return f"{scalar.value} {operator} {textual}"
            as_text = f"({scalar.value} {operator} {textual} AND {scalar.type} = 'text')"
            return as_text if counted is None else f"({as_text} OR {counted(scalar)})"

        return compare

    def _dated(self, operator: str, value: str) -> Condition | None:
        """Comparison with a date: of dates as such; of other texts as texts if it was in quotes. None for no date."""
        precision = precision_of(value)
        if precision is None or (precision == "month" and not isinstance(value, Date)):
            return None  # '2024-06' in quotes may be any number of things, and sorts like a month anyway
        textual, key = self.bind(str(value)), self.bind(date_key(value, precision))

        def compare(scalar: Scalar) -> str:
            as_text = f"{scalar.value} {operator} {textual}"
            if scalar is ID:
                return as_text
            stored = f"date_key({scalar.value}, '{precision}')"
            otherwise = "0" if isinstance(value, Date) else as_text
            tested = f"CASE WHEN {stored} IS NULL THEN {otherwise} ELSE {stored} {operator} {key} END"
            return f"({scalar.type} = 'text' AND {tested})"

        return compare

    def _counted(self, operator: str, value: float, *, strings: bool) -> Condition:
        """Comparison with a number, of strings that spell one too or of numbers alone."""
        if _is_large(value):
            return self._large(operator, int(value), strings=strings)
        numeric = f"CAST({self.bind(value)} AS NUMERIC)"
        # Any text that spells no number lies above all numbers, so only > and >= could take it for one.
        guard = f" AND {{v}} <= {_INFINITY}" if strings and operator in (">", ">=") else ""
        types = _NO_FLAG if strings else _A_NUMBER
        # The comparison first: it fails for most rows, and the type costs another look into the JSON.
        return lambda scalar: (
            f"({scalar.value} {operator} {numeric}{guard.format(v=scalar.value)} AND {scalar.type} {types})"
        )

    def _large(self, operator: str, value: int, *, strings: bool) -> Condition:
        """Comparison with an integer that SQLite would round: digit by digit where what is stored is one, too."""
        digits, size = self.bind(str(abs(value))), len(str(abs(value)))
        side = 1 if value > 0 else -1
        rounded = self._counted(operator, side * math.inf if size > 300 else float(value), strings=strings)

        def exactly(text: str) -> str:
            stored = _DIGITS.format(v=text)
            magnitude = f"ltrim({stored}, '-')"
            opposite = f"{stored} LIKE '-%'" if side > 0 else f"{stored} NOT LIKE '-%'"
            larger = f"length({magnitude}) > {size} OR length({magnitude}) = {size} AND {magnitude} > {digits}"
            order = f"WHEN {opposite} THEN {-side} WHEN {magnitude} = {digits} THEN 0 WHEN {larger} THEN {side}"
            return f"(CASE {order} ELSE {-side} END {operator} 0)"

        def compare(scalar: Scalar) -> str:
            value, kind, raw = scalar
            spelled = f" WHEN {kind} = 'text' AND ({_DIGITS.format(v=value)}) IS NOT NULL THEN {exactly(value)}"
            return (
                f"CASE WHEN {kind} = 'integer' THEN {exactly(raw)}{spelled if strings else ''} "
                f"ELSE {rounded(scalar)} END"
            )

        return compare

    def among(self, values: Sequence[Any]) -> Condition:
        """Equality with one of many literals."""
        quoted = [value for value in values if isinstance(value, str)]
        flags = dict.fromkeys(value for value in values if isinstance(value, bool))  # beside numbers, False is 0
        typed = [value for value in values if not isinstance(value, str | bool)]
        texts = self._bind_all(quoted)
        conditions: list[Condition] = [self.compare("=", flag) for flag in flags]
        conditions += [dated for dated in (self._dated("=", text) for text in quoted) if dated]
        conditions += self._among_numbers(typed, strings=True)
        conditions += self._among_numbers([x for x in map(_spelled, quoted) if x is not None], strings=False)

        def among(scalar: Scalar) -> str:
            if scalar is ID:  # an id, with which all is compared as text
                return f"{scalar.value} IN {texts}"
            listed = f"({scalar.type} = 'text' AND {scalar.value} IN {texts})"
            return " OR ".join([listed, *(f"({condition(scalar)})" for condition in conditions)])

        return among

    def _among_numbers(self, values: Sequence[int | float], *, strings: bool) -> list[Condition]:
        """The same with numbers, of strings that spell one too or of numbers alone."""
        conditions: list[Condition] = []
        if small := [value for value in values if not _is_large(value) and math.isfinite(value)]:
            table, types = self._bind_all(small), _NO_FLAG if strings else _A_NUMBER
            conditions.append(lambda scalar: f"{scalar.type} {types} AND {_NUMBER.format(v=scalar.value)} IN {table}")
        if large := [str(value) for value in values if _is_large(value)]:
            spellings = self._bind_all(large)
            conditions.append(
                lambda scalar: f"{scalar.type} = 'integer' AND {_DIGITS.format(v=scalar.raw)} IN {spellings}"
            )
            if strings:
                conditions.append(
                    lambda scalar: f"{scalar.type} = 'text' AND {_DIGITS.format(v=scalar.value)} IN {spellings}"
                )
        return conditions
