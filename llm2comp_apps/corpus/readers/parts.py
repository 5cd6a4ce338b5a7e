"""What readers take and give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm2comp_apps.corpus.records import TOO_LARGE, BrokenFileError

__all__ = ["Job", "Part", "clean", "noted", "read_bytes", "tidy"]

# What no text has: C0 but tab and newline, DEL, C1, lone surrogates, and the two that are no characters.
_NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACES = re.compile(r"[ \t\u00a0]+")
_GAP = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a file is read.

    Attributes:
        pages: give each page, slide or chapter as a part.
        limit: characters that a part may have; more are refused.
        name: the file's name, without folders.
        depth: how many files this one lies in: an attachment of a mail in a mail has 2.
        notes: takes what is worth a line and no reason to refuse the file.
    """

    pages: bool = False
    limit: int = 64 * 2**20
    name: str = ""
    depth: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A document that a file holds.

    Attributes:
        text: the body.
        title: may be empty.
        name: tells it from the others of its file, as the end of its id (``page=3``); empty for the whole file.
        fields: JSON-shaped metadata.
    """

    text: str
    title: str = ""
    name: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class _Noted:
    def __init__(self, job: Job, what: str) -> None:
        self._job, self._what = job, what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return False
        told = isinstance(error, BrokenFileError)
        reason = str(error) if told else f"{type(error).__name__}: {clean(str(error))[:200]}"
        self._job.notes.append(f"{self._what} cannot be read: {reason}")
        return True


def noted(job: Job, what: str) -> _Noted:
    """Context in which whatever is wrong with a piece of a file costs that piece alone, and becomes a note."""
    return _Noted(job, what)


def clean(text: str) -> str:
    """The text without characters that no text has."""
    return _NO_TEXT.sub("", text)


def tidy(text: str) -> str:
    """The text with single spaces, no space at the ends of lines, and one empty line at most between paragraphs."""
    lines = (_SPACES.sub(" ", line).strip() for line in clean(text).split("\n"))
    return _GAP.sub("\n\n", "\n".join(lines)).strip()


def read_bytes(file: Any, limit: int) -> bytes:
    """All of a file.

    Raises:
        BrokenFileError: it is longer than ``limit``.
    """
    data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise BrokenFileError(0, f"longer than {limit} bytes", TOO_LARGE)
    return data


def within(parts: Iterator[str], limit: int) -> str:
    """Pieces of a text as one.

    Raises:
        BrokenFileError: they have more than ``limit`` characters.
    """
    held: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise BrokenFileError(0, f"its text is longer than {limit} characters", TOO_LARGE)
        held.append(part)
    return "".join(held)
