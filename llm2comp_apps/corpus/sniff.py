"""Which format a file is in: by its name, and where the name does not say, by its content."""

from __future__ import annotations

import codecs
import csv
import json
import re

from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, HEAD_BYTES, SourceFile
from llm2comp_apps.corpus.json_stream import first_plain_key
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import BrokenFileError

__all__ = ["DELIMITERS", "encoding_of", "guess_delimiter", "guess_format"]

_MAGIC = {b"PAR1": "parquet", b"%PDF-": "pdf"}
_PAGE = re.compile(r"(?i)<(?:!doctype\s+)?html[\s>]")
DELIMITERS = ",;\t|"
_OBJECT = re.compile(r'\{\s*(?:["}]|\Z)')
_ARRAY = re.compile(r'\[\s*(?:["{\]]|\Z)')  # and not "[a link](...)"


def guess_format(file: SourceFile, head: bytes, options: CorpusOptions) -> str:
    """Name a file's format: ``options.format``, else what the extension says, else what the content looks like.

    A ``.json`` file that holds one object a line is JSON lines. Content without a telling name is, in this order,
    parquet, PDF, JSON, HTML, a table whose header has a field name of :class:`CorpusOptions`, or one text.

    Args:
        file: the file.
        head: its first bytes, decompressed.
        options: ``format``, ``encoding`` and the field names.

    Raises:
        BrokenFileError: the content is binary.
    """
    if options.format != "auto":
        return options.format
    by_name = FORMAT_BY_SUFFIX.get(file.suffix)
    if by_name and by_name != "json":
        return by_name
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    text = head.decode(encoding_of(head, options), errors="replace").lstrip("\ufeff").lstrip()
    if _OBJECT.match(text):
        return "jsonl" if _is_json_lines(text, options) else "json"
    if by_name or _ARRAY.match(text):
        return "json"
    if _PAGE.match(text):
        return "html"
    if "\0" in text:
        raise BrokenFileError(0, "binary data; none of the formats that can be read")
    header = text.split("\n", 1)[0]
    delimiter = guess_delimiter(header, options)
    return ("tsv" if delimiter == "\t" else "csv") if _is_header(header, delimiter, options) else options.plain_format


def encoding_of(head: bytes, options: CorpusOptions) -> str:
    """The codec to open a file with: UTF-16 if it begins with that mark, a UTF-8 mark dropped, else the option."""
    if codecs.lookup(options.encoding).name != "utf-8":
        return options.encoding
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def guess_delimiter(header: str, options: CorpusOptions) -> str:
    """The delimiter with which a table's header line shows most field names that mean something; else a comma."""
    return max(DELIMITERS, key=lambda delimiter: options.known(_cells(header, delimiter)))


def _is_header(line: str, delimiter: str, options: CorpusOptions) -> bool:
    """Whether a first line names columns: ``id,text`` or ``ID,Text``, but not ``Text, with a comma in it``."""
    cells = _cells(line, delimiter)
    sure = options.known(cell for cell in cells if cell == cell.lower())
    return len(cells) > 1 and (sure > 0 or options.known(cells) > 1)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def _is_json_lines(text: str, options: CorpusOptions) -> bool:
    """Whether text that begins with an object is one object a line, and not one object that maps ids to records."""
    lines = [line for line in text.split("\n", 3) if line.strip()]
    if len(lines) == 1:  # a line longer than the window, or one object: the JSON reader tells record from mapping
        return len(text) > HEAD_BYTES // 8 and options.known([first_plain_key(text) or ""]) > 0
    return any(_is_object(line) for line in lines[:2])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
