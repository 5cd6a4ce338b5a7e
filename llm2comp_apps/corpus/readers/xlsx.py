"""Spreadsheets: the cells of each row with tabs between them, a sheet after the other as they are shown.

What a cell shows is read as it is stored: the result of a formula, a number as the program wrote it, and so a date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from llm2comp_apps.corpus.readers.archive import Archive, XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.parts import Job, Part, tidy
from llm2comp_apps.corpus.readers.properties import read_properties
from llm2comp_apps.corpus.readers.relations import relation_targets

__all__ = ["read"]

_BOOK = "xl/workbook.xml"
_STRINGS = "xl/sharedStrings.xml"


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The workbook as one part, or each sheet that has text as a part.

    Raises:
        BrokenFileError: damaged, encrypted or too large.
    """
    with open_archive(file) as archive:
        fields = read_properties(archive, "docProps/core.xml")
        title = fields.pop("title", "")
        targets = relation_targets(archive, _BOOK, "/xl/", job.limit)
        book = _Sheets()
        parse_xml(archive.blocks(_BOOK), book, job.limit)
        strings = _strings(archive, job)
        texts: list[str] = []
        size = 0
        for number, (name, key) in enumerate(book.sheets, 1):
            if targets.get(key) not in archive.names:
                continue
            text = _tidy_rows(parse_xml(archive.blocks(targets[key]), _Cells(strings), job.limit - size))
            size += len(text)
            if job.pages and text:
                about = {**fields, "sheet": name, "sheets": len(book.sheets)}
                yield Part(text=text, title=title or name, name=f"sheet={number}", fields=about)
            elif text:
                texts.append(f"{name}\n{text}")
        if not job.pages:
            yield Part(text="\n\n".join(texts), title=title, fields={**fields, "sheets": len(book.sheets)})


def _tidy_rows(text: str) -> str:
    """Rows without empty cells at their ends, and without empty rows."""
    rows = ([tidy(cell).replace("\n", " ") for cell in row.rstrip("\t").split("\t")] for row in text.split("\n"))
    return "\n".join("\t".join(row) for row in rows if any(row))


def _strings(archive: Archive, job: Job) -> list[str]:
    """The texts that cells point to by number."""
    handler = _Strings()
    if _STRINGS in archive.names:
        parse_xml(archive.blocks(_STRINGS), handler, job.limit)
    return handler.strings


class _Sheets(XmlHandler):
    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sheet":
            self.sheets.append((attributes.get("name", ""), attributes.get("id", "")))


class _Strings(XmlHandler):
    """Reads ``si`` elements: runs of ``t``, without what says how East Asian signs are spoken (``rPh``)."""

    def __init__(self) -> None:
        super().__init__()
        self.strings: list[str] = []
        self._held: list[str] = []
        self._in_text = self._spoken = False

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - signature
        self._in_text = name == "t" and not self._spoken
        self._spoken = self._spoken or name == "rPh"
        if name == "si":
            self._held = []

    def end(self, name: str) -> None:
        self._in_text = False
        if name == "rPh":
            self._spoken = False
        elif name == "si":
            self.strings.append("".join(self._held))

    def data(self, text: str) -> None:
        if self._in_text:
            self._held.append(text)
            self.size += len(text)


class _Cells(XmlHandler):
    """Reads the cells of a sheet: ``v`` with a number, a text or the number of a shared one, or ``is`` with a text."""

    def __init__(self, strings: list[str]) -> None:
        super().__init__()
        self._strings = strings
        self._shared = self._in_value = False
        self._held: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            self._shared = attributes.get("t") == "s"
            self._held = []
        self._in_value = name in ("v", "t")

    def end(self, name: str) -> None:
        self._in_value = False
        if name == "c":
            self.add(f"{self._shown(''.join(self._held))}\t")
        elif name == "row":
            self.add("\n")

    def data(self, text: str) -> None:
        if self._in_value:
            self._held.append(text)
            self.size += len(text)

    def _shown(self, value: str) -> str:
        if not self._shared:
            return value.replace("\t", " ").replace("\n", " ")
        place = int(value) if value.isdigit() else -1
        shared = self._strings[place] if 0 <= place < len(self._strings) else ""
        return shared.replace("\t", " ").replace("\n", " ")
