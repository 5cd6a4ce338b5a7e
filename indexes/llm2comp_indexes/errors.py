"""Errors of the index room, each one finished line: what is wrong, where, and what to do.

An error about a setting names it as its ``field``, by its name in Python (``k``, ``max_ram``), and has the message
without it as its ``reason``: a command line can put its option there, a server can answer 422. Advice that names a
setting has it in backquotes, `` `language=none` ``.

    IndexStoreError
    +-- IndexMissingError   there is no index at that path
    +-- IndexExistsError    something is already there
    +-- IndexFormatError    it is not an index, or one that a newer version wrote
    |   +-- OlderFormatError    it waits for its migration
    +-- IndexLockedError    another process is writing to it
    +-- IndexDamagedError   bytes on disk are not the bytes that were written
    +-- IndexWriteError     the operating system refused to write (disk full, I/O error); the last commit stands
    +-- InputError          vectors, documents or settings that do not fit the index
    +-- FilterError         a ``where`` expression that cannot be read (exit 2)
    +-- KindError           an index kind that is unknown, cannot be built, or misses its recall target
    +-- DependencyError     a library that this operation needs is not installed

A file that can be derived again (lexical, FAISS) and is doubtful is not an error: readers warn with
`DamageWarning`, answer from the vectors and documents themselves, and the next writer rebuilds it. One that is sound
but of an older version is used, with an `OutdatedWarning`, and rebuilt likewise.
"""

from __future__ import annotations

from numbers import Integral

__all__ = [
    "DamageWarning",
    "DependencyError",
    "FilterError",
    "IndexDamagedError",
    "IndexExistsError",
    "IndexFormatError",
    "IndexLockedError",
    "IndexMissingError",
    "IndexStoreError",
    "IndexWriteError",
    "InputError",
    "KindError",
    "OlderFormatError",
    "OutdatedWarning",
]


class IndexStoreError(Exception):
    """Base of every error that an index raises on purpose.

    Attributes:
        field: the setting that is wrong, by its name in Python; None where it is not one alone.
        reason: the message without the field.
    """

    exit_code = 1

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        """Say what is wrong: ``InputError("must be at least 1, not 0", field="k")``."""
        super().__init__(f"{field} {reason}" if field else reason)
        self.reason = reason
        self.field = field


class IndexMissingError(IndexStoreError):
    """There is no index at the given path."""


class IndexExistsError(IndexStoreError):
    """The path at which an index was to be created is taken."""


class IndexFormatError(IndexStoreError):
    """The path is not an index, or its format is newer than this version reads."""


class OlderFormatError(IndexFormatError):
    """The index is of an older format; opening it for writing migrates it."""


class IndexLockedError(IndexStoreError):
    """Another process holds the writer lock."""


class IndexDamagedError(IndexStoreError):
    """A file that cannot be derived from others differs from what was committed."""


class IndexWriteError(IndexStoreError):
    """The operating system refused a write; the index stays at its last commit."""


class InputError(IndexStoreError):
    """Vectors, documents or settings do not fit the index: width, count, NaN, an empty id, k below 1."""


class FilterError(IndexStoreError):
    """A ``where`` expression cannot be parsed."""

    exit_code = 2


class KindError(IndexStoreError):
    """An index kind is unknown, cannot be built, or misses its recall target."""


class DependencyError(IndexStoreError):
    """A library that this operation needs is missing."""


class DamageWarning(UserWarning):
    """A derived file is doubtful: it is not used, the answer comes from the vectors or documents themselves."""


class OutdatedWarning(UserWarning):
    """A derived file was made by an older version, which did less: it is used until the next commit replaces it."""


def check_whole(value: int, field: str, least: int) -> None:
    """Refuse an argument that is no whole number, or too small a one.

    Raises:
        InputError: it is.
    """
    if not isinstance(value, Integral):
        raise InputError(f"must be a whole number, not {value!r:.60}", field=field)
    if value < least:
        raise InputError(f"must be at least {least}, not {value}", field=field)
