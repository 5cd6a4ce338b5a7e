"""One file of a corpus while it is read: its records, and what becomes of its faults.

A file that was named is a corpus, so a broken record in it is worth stopping for. A file that a folder brought along
may be anything: as long as it has given nothing, its faults say that it is no corpus, and it is passed over as a whole.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, OpenFile, SourceFile, open_file
from llm2comp_apps.corpus.formats import parse
from llm2comp_apps.corpus.options import RECORD_FORMATS, CorpusOptions
from llm2comp_apps.corpus.records import DAMAGED, FOREIGN, NOT_OPENED, BrokenFileError, Fault, Record, place_of
from llm2comp_apps.corpus.report import PassedOver, ReadReport

__all__ = ["FileReading", "Parser"]

Parser = Callable[[OpenFile, ReadReport, Fault], Iterator[Record]]
"""Gives the records of an open file, and calls the fault for those that are broken."""

_PATIENCE = 100  # faults of a file that has given nothing, before the rest of it is not looked at
# Lone surrogates: those from U+DC80 to U+DCFF are bytes that could not be decoded (PEP 383), the others came escaped.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class FileReading:
    """Reads one file.

    Whoever takes its records says of each whether it could be used, by :meth:`accept` or :meth:`fault`.

    Attributes:
        kind: its format, once it is known.
        failed: whether the operating system ended the reading, so that another try may go further.
    """

    def __init__(
        self, file: SourceFile, options: CorpusOptions, report: ReadReport, parser: Parser | None = None
    ) -> None:
        """Read a file by the parser of its format, or by another one."""
        self.kind = file.suffix or "?"
        self.failed = False
        self._parser = parser
        self._file = file
        self._options = options
        self._report = report
        self._lenient = file.found and options.on_error != "stop"
        self._accepted = False
        self._given = 0
        self._faults: list[tuple[int, str, str]] = []

    def records(self) -> Iterator[Record]:
        """The records, in order.

        Raises:
            CorpusError: the options say that a fault ends the reading.
        """
        self._report.files += 1
        line = 0
        try:
            with open_file(self._file, self._report) as opened:
                if self._parser is None:
                    self.kind, found = parse(opened, self._options, self._report, self._unreadable)
                else:
                    found = self._parser(opened, self._report, self._unreadable)
                for record in found:
                    line = record.line
                    problem, fields = _checked(record.fields, self._options)
                    if problem:
                        self.fault(line, problem, DAMAGED)
                    else:
                        yield Record(fields, record.path, line)
                    if len(self._faults) >= _PATIENCE:
                        break
        except BrokenFileError as error:
            self.fault(error.line, error.reason, error.why)
        except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
            self.failed = isinstance(error, OSError) and error.errno is not None
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self.fault(line, f"the file cannot be read{' beyond this record' if line else ''}: {reason}", NOT_OPENED)
        self._close()

    def accept(self, documents: int = 0) -> None:
        """A record could be used, and gave so many documents: none where the same one came before."""
        if not self._accepted:
            self._accepted = True
            self._report.count(self.kind, files=1)
            for line, reason, _ in self._faults:
                self._report.skip(place_of(self._file.name, line), reason)
            self._faults.clear()
        self._report.count(self.kind, documents=documents)
        self._given += documents

    def fault(self, line: int, reason: str, why: str = FOREIGN) -> None:
        """A record cannot be used.

        ``why`` is what that says of a file that gives no document.

        Raises:
            CorpusError: the options say that this ends the reading.
        """
        place = place_of(self._file.name, line)
        if not self._lenient:
            self._report.reject(place, reason, self._options)
        elif self._accepted:
            self._report.skip(place, reason)
        elif len(self._faults) < _PATIENCE:
            self._faults.append((line, reason, why))

    def _unreadable(self, line: int, reason: str, why: str = FOREIGN) -> None:
        """What the parser reads past: not for ever, where nothing else comes."""
        self.fault(line, reason, why)
        if len(self._faults) >= _PATIENCE:
            raise BrokenFileError(line, reason, why)

    def _close(self) -> None:
        if self._faults:
            # A file with damage in it may be a corpus, whatever else is said of it.
            line, reason, why = next((fault for fault in self._faults if fault[2] != FOREIGN), self._faults[0])
            known = "" if self._has_records() else self._file.id
            self._report.pass_over(PassedOver(self._file.name, self.kind, why, reason, known, line))
        elif not self._given:
            self._report.give_nothing(self._file.name, repeats=self._accepted)

    def _has_records(self) -> bool:
        """Whether the file's documents have ids of their own; told by its name, if it could not be opened."""
        kind = FORMAT_BY_SUFFIX.get(self.kind, self.kind) if self._options.format == "auto" else self._options.format
        return kind in RECORD_FORMATS


def _checked(fields: dict[str, Any], options: CorpusOptions) -> tuple[str, dict[str, Any]]:
    """Look for characters that no text has; a complaint or ``""``, and the fields, cleaned if the options say so."""
    found = next((string for string in _strings(fields) if _NO_TEXT.search(string)), None)
    if found is None:
        return "", fields
    if options.encoding_errors == "replace":
        return "", _replaced(fields)
    match = _NO_TEXT.search(found)
    assert match is not None
    return _describe(match.group(), options), fields


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value or not value.isascii():
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return [_replaced(item) for item in value] if isinstance(value, list) else value


def _describe(character: str, options: CorpusOptions) -> str:
    code = ord(character)
    if not code:
        return "a NUL character; is this a text?"
    if 0xDC80 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02x} is not valid {options.encoding} (`encoding` names another one)"
    return f"half a surrogate pair (\\u{code:04x})"
