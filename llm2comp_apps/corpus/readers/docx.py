"""Word documents: paragraphs, headings, tables and notes of the text; not what was deleted under revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from llm2comp_apps.corpus.readers.archive import XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.parts import Job, Part, tidy
from llm2comp_apps.corpus.readers.properties import read_properties

__all__ = ["read"]

_BODY = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
_PROPERTIES = "docProps/core.xml"
_TITLE_STYLES = ("title", "heading1")
_LONGEST_TITLE = 300
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "p": "\n", "tc": "\t", "tbl": "\n"}
_NOT_READ = ("del", "moveFrom", "Fallback")


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The document as one part; its title is that of its properties, else the first paragraph styled as one.

    Raises:
        BrokenFileError: damaged, encrypted or too large.
    """
    with open_archive(file) as archive:
        fields = read_properties(archive, _PROPERTIES)
        title = fields.pop("title", "")
        body = _Story()
        text = parse_xml(archive.blocks(_BODY), body, job.limit)
        for name in _NOTES:
            if name in archive.names:
                text += "\n" + parse_xml(archive.blocks(name), _Story(), job.limit)
        yield Part(text=tidy(text), title=title or tidy(body.title), fields={**fields})


class _Story(XmlHandler):
    """One flow of text."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._in_text = self._not_read = 0
        self._is_title = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "t":
            self._in_text += 1
        elif name in _NOT_READ:
            self._not_read += 1
        elif name == "pStyle" and not self.title:
            self._is_title = attributes.get("val", "").lower().replace(" ", "") in _TITLE_STYLES

    def end(self, name: str) -> None:
        if name == "t":
            self._in_text -= 1
        elif name in _NOT_READ:
            self._not_read -= 1
        elif name in _SIGNS and not self._not_read:
            self.add(_SIGNS[name])
            if self._is_title and self.title:
                self.title += " "
        if name == "p":
            self._is_title = False

    def data(self, text: str) -> None:
        if self._in_text and not self._not_read:
            self.add(text)
            if self._is_title and len(self.title) < _LONGEST_TITLE:
                self.title += text
