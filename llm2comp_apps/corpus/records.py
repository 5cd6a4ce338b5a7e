"""What the parsers of all formats hand on, and how they say that they cannot."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "DAMAGED",
    "ENCRYPTED",
    "FOREIGN",
    "NOT_OPENED",
    "NO_READER",
    "NO_TEXT",
    "TOO_LARGE",
    "TOO_SLOW",
    "WHY",
    "BrokenFileError",
    "Fault",
    "Record",
    "json_type",
    "place_of",
    "read_lines",
]

DAMAGED = "damaged"
FOREIGN = "not made of documents"
ENCRYPTED = "encrypted"
NO_TEXT = "no text in it"
TOO_LARGE = "too large"
TOO_SLOW = "took too long"
NO_READER = "needs the extra `documents`"
NOT_OPENED = "cannot be opened"
WHY = (FOREIGN, NO_TEXT, NO_READER, ENCRYPTED, TOO_LARGE, TOO_SLOW, DAMAGED, NOT_OPENED)
"""Why a file gives no document, for counts."""


class Fault(Protocol):
    """Called by a parser for a broken record that it can read past; returns only if told to skip.

    ``why`` is one of :data:`WHY`: what it says of a file that has nothing else.
    """

    def __call__(self, line: int, reason: str, why: str = FOREIGN) -> None:
        """Take a fault."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file, before anybody asks what its fields mean.

    Attributes:
        fields: JSON-shaped values by name.
        path: the file, as the user named it.
        line: the line on which the record begins, from 1 (in parquet: the row); 0 when the record is the whole file.
    """

    fields: dict[str, Any]
    path: str
    line: int

    @property
    def place(self) -> str:
        """``path:line``, the form that editors and terminals make clickable."""
        return place_of(self.path, self.line)


def place_of(path: str, line: int) -> str:
    """Where a record is, for messages."""
    return f"{path}:{line}" if line else path


class BrokenFileError(Exception):
    """A parser cannot continue with this file.

    Attributes:
        line: as in :class:`Record`.
        reason: what is wrong, for a message.
        why: the same in a word or two, by which files are counted: one of :data:`WHY`.
    """

    def __init__(self, line: int, reason: str, why: str = DAMAGED) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.why = why


def read_lines(text: io.TextIOBase, limit: int, fault: Fault) -> Iterator[tuple[int, str]]:
    """Number the lines of ``text`` from 1, reading past those longer than ``limit`` characters.

    Args:
        text: opened with the ``newline`` that the format wants.
        limit: a longer line is reported to ``fault`` and never held in memory.
        fault: see :data:`Fault`.

    Yields:
        Line number and line, with its line end if it has one.
    """
    number = 0
    while line := text.readline(limit + 1):
        number += 1
        if len(line) > limit:
            fault(number, f"the line is longer than {limit} characters", TOO_LARGE)
            while line and not line.endswith("\n"):
                line = text.readline(limit)
            continue
        yield number, line


def json_type(value: object) -> str:
    """What a JSON value is, in words for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
