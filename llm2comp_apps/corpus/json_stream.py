"""JSON files of any size, one element at a time: an array, an object of id to record, values one after another.

The array may also stand under a key such as ``data``.

The standard library's decoder does the parsing. It is handed a window of the file that grows until one element fits,
so memory follows the largest element and not the file.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from llm2comp_apps.corpus.options import CorpusOptions, find_field
from llm2comp_apps.corpus.records import FOREIGN, BrokenFileError

__all__ = ["JSON", "first_plain_key", "read_json_values", "syntax_problem"]

_BLOCK = 2**16
_RECORD_WINDOW = 2**20
_LONGEST_SIGN = 16  # characters: -Infinity, and \uXXXX\uXXXX
_AFTER_NUMBER = tuple(",:]} \t\r\n")  # anything else, and the number may continue in the next block
_SPACE = re.compile(r"[ \t\r\n]*")
_ANY_KEY = re.compile(r'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_KEYS_NAMED = 6
RECORD, MAPPING = "", "{"
#: Keys under which exports and interfaces put their list of records.
WRAPPERS = (
    "data",
    "documents",
    "docs",
    "corpus",
    "passages",
    "articles",
    "records",
    "rows",
    "items",
    "entries",
    "results",
)
_FIRST_KEY = re.compile(r'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*[^\s{]')


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


# Python writes NaN and Infinity, which JSON does not have; they are read as null so that what we write stays JSON.
JSON = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)


def read_json_values(
    text: io.TextIOBase, options: CorpusOptions, *, named: bool = True
) -> Iterator[tuple[int, str | None, Any]]:
    """Stream the elements of a JSON file.

    Args:
        text: the file, opened as text.
        options: ``id_fields`` and friends tell an object that is a record from an object that maps ids to records.
        named: somebody named the file as a corpus; strings without a field's name are texts then, and not settings.

    Yields:
        The line where the element begins, its key in a mapping (``None`` in an array), and the element.

    Raises:
        BrokenFileError: the syntax is broken, and there is no way to find the next element; or the file is JSON of
            another kind than documents.
    """
    window = _Window(text, options.max_record_chars)
    first = window.skip_space()
    if first == "[":
        if not named and window.look_ahead(_RECORD_WINDOW)[1:].lstrip().startswith('"'):
            raise BrokenFileError(1, "a list of strings; name the file itself to read them as texts", FOREIGN)
        window.expect("[")
        yield from _array(window)
        _expect_end(window)
        return
    shape = _shape(window, options, named=named) if first == "{" else RECORD
    if shape == RECORD:
        while window.skip_space():
            yield window.line, None, window.value()
        return
    window.expect("{")
    yield from _mapping(window) if shape == MAPPING else _wrapped(window, shape)
    _expect_end(window)


def _expect_end(window: _Window) -> None:
    if window.skip_space():
        raise BrokenFileError(window.line, "more data after the end of the JSON value")


def _array(window: _Window) -> Iterator[tuple[int, None, Any]]:
    while window.skip_space() != "]":
        line = window.line
        yield line, None, window.value()
        if window.skip_space() != "]":
            window.expect(",")
    window.expect("]")


def _mapping(window: _Window) -> Iterator[tuple[int, str, Any]]:
    for line, key in _keys(window):
        yield line, key, window.value()


def _wrapped(window: _Window, wrapper: str) -> Iterator[tuple[int, None, Any]]:
    """The elements of the list that stands under the key ``wrapper``; everything beside it is passed over."""
    for _, key in _keys(window):
        if key == wrapper:
            window.expect("[")
            yield from _array(window)
        else:
            window.value()


def _keys(window: _Window) -> Iterator[tuple[int, str]]:
    """The keys of an object with their lines; whoever iterates steps over the value of each."""
    while window.skip_space() != "}":
        line = window.line
        key = window.value()
        window.skip_space()
        window.expect(":")
        window.skip_space()
        if not isinstance(key, str):
            raise BrokenFileError(line, "not JSON: a key that is not a string")
        yield line, key
        if window.skip_space() != "}":
            window.expect(",")
    window.expect("}")


def _shape(window: _Window, options: CorpusOptions, *, named: bool) -> str:
    """What the object that begins here is: a record, a mapping of ids, or a list of records under a key.

    Returns:
        :data:`RECORD`, :data:`MAPPING`, or the key.

    Raises:
        BrokenFileError: none of them: settings, a notebook, a package's description.
    """
    text = window.look_ahead(_RECORD_WINDOW)
    try:
        whole = JSON.raw_decode(text)[0]
    except (ValueError, RecursionError):
        key = _long_list(text)
        # What is too large to be looked at as a whole maps ids to many records, unless its first key says otherwise.
        return key or (RECORD if options.known([first_plain_key(text) or ""]) else MAPPING)
    # An id may be called "text", too, but then an object stands behind it.
    plain = [key for key, value in whole.items() if not isinstance(value, dict)]
    if find_field(plain, (*options.text_fields, *options.joined_fields)):
        return RECORD
    for key in WRAPPERS:
        value = whole.get(key)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return key
    if options.known(plain):
        return RECORD
    kinds = {type(value) for value in whole.values()}
    if kinds <= {dict} or (named and kinds <= {str}):
        return MAPPING
    keys = ", ".join(map(repr, list(whole)[:_KEYS_NAMED]))
    reason = "an object that holds no documents"
    if kinds == {str}:
        reason = "an object of strings; name the file itself to read them as texts"
    raise BrokenFileError(window.line, f"{reason} (its keys: {keys})", FOREIGN)


def _long_list(text: str) -> str:
    """The key of :data:`WRAPPERS` whose list does not end within ``text``; ``""`` if there is none."""
    position = text.index("{") + 1
    while start := _ANY_KEY.match(text, position):
        try:
            _, position = JSON.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            key = start.group(1)
            return key if key in WRAPPERS and text.startswith("[", start.end()) else ""
    return ""


def first_plain_key(text: str) -> str | None:
    """The first key of the JSON object that ``text`` begins with, as it is spelled there, unless its value is one."""
    start = _FIRST_KEY.match(text)
    return start.group(1) if start else None


class _Window:
    """The part of the file that is being parsed: ``text[position:]``, ``line`` being the line of ``position``."""

    def __init__(self, source: io.TextIOBase, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._text = ""
        self._position = 0
        self._at_end = False
        self.line = 1

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it, ``""`` at the end."""
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None  # the pattern matches nothing, too
            self._advance(match.end())
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._fill(_BLOCK):
                return ""

    def expect(self, sign: str) -> None:
        """Step over ``sign``."""
        found = self._text[self._position : self._position + 1]
        if found != sign:
            raise BrokenFileError(self.line, f"not JSON: expected {sign!r}, found {found or 'the end of the file'!r}")
        self._advance(self._position + 1)

    def value(self) -> Any:
        """Parse and step over the value that begins here, reading on until it is whole."""
        while True:
            parsed = self._parse()
            if parsed is not None:
                value, end = parsed
                whole = not isinstance(value, int | float) or self._text[end : end + 1] in _AFTER_NUMBER
                if whole or not self._more_of_value():
                    self._advance(end)
                    return value

    def _parse(self) -> tuple[Any, int] | None:
        """The value that begins here and its end; ``None`` if more of it had to be read first."""
        try:
            return JSON.raw_decode(self._text, self._position)
        except RecursionError:
            raise BrokenFileError(self.line, "not JSON: nested too deeply") from None
        except json.JSONDecodeError as error:
            line = self.line + self._text.count("\n", self._position, error.pos)
            if _may_go_on(error) and self._more_of_value():
                return None
            raise BrokenFileError(line, f"not JSON: {syntax_problem(error)}{_cut(error)}") from None
        except ValueError as error:  # a number of more digits than Python converts
            raise BrokenFileError(self.line, f"not JSON that can be read: {error}") from None

    def _more_of_value(self) -> bool:
        held = len(self._text) - self._position
        if held > self._limit:
            raise BrokenFileError(self.line, f"no end of the record within {self._limit} characters")
        return self._fill(max(_BLOCK, held))  # doubling, so that a long value is not parsed once per block

    def look_ahead(self, size: int) -> str:
        """The next ``size`` characters, or all that are left, without moving."""
        while len(self._text) - self._position < size and self._fill(size):
            pass
        return self._text[self._position : self._position + size]

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _fill(self, size: int) -> bool:
        """Read about ``size`` more characters, dropping those already parsed; false at the end of the file."""
        block = "" if self._at_end else self._source.read(size)
        self._at_end = not block
        self._text = self._text[self._position :] + block
        self._position = 0
        return bool(block)


def syntax_problem(error: json.JSONDecodeError) -> str:
    """The decoder's complaint without the words that its own message continues."""
    return error.msg.removesuffix(" starting at")


def _may_go_on(problem: json.JSONDecodeError) -> bool:
    """Whether more text can mend it: a string that does not end, or what is wrong stands at the end of what is held."""
    return problem.msg.startswith("Unterminated string") or len(problem.doc) - problem.pos < _LONGEST_SIGN


def _cut(problem: json.JSONDecodeError) -> str:
    at_end = problem.pos >= len(problem.doc.rstrip()) or problem.msg.startswith("Unterminated string")
    return " (the file ends in the middle of a value)" if at_end else ""
