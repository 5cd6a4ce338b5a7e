"""Word documents: paragraphs, headings, tables and notes of the text; not what was deleted under revision."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO

from llm2comp_apps.corpus.readers.archive import XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.parts import Job, Part, noted, tidy
from llm2comp_apps.corpus.readers.properties import read_properties

__all__ = ["read"]

_BODY = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
_STYLES = "word/styles.xml"
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
        styles = _Styles()
        if _STYLES in archive.names:
            with noted(job, _STYLES):  # only the title needs them
                parse_xml(archive.blocks(_STYLES), styles, job.limit)
        body = _Story(styles.of_titles)
        text = parse_xml(archive.blocks(_BODY), body, job.limit)
        for name in _NOTES:
            if name in archive.names:
                text += "\n" + parse_xml(archive.blocks(name), _Story(), job.limit)
        yield Part(text=tidy(text), title=title or tidy(body.title), fields={**fields})


class _Styles(XmlHandler):
    """The styles of titles: a Word in another language gives them ids in it, such as ``berschrift1``, and our names."""

    def __init__(self) -> None:
        super().__init__()
        self.of_titles: set[str] = set()
        self._style = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name" and _plain(attributes) in _TITLE_STYLES:
            self.of_titles.add(self._style)

    def end(self, name: str) -> None:
        if name == "style":
            self._style = ""


class _Story(XmlHandler):
    """One flow of text; the first paragraph in one of ``title_styles`` is its title."""

    def __init__(self, title_styles: Collection[str] = ()) -> None:
        super().__init__()
        self.title = ""
        self._title_styles = title_styles
        self._in_text = self._not_read = 0
        self._is_title = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "t":
            self._in_text += 1
        elif name in _NOT_READ:
            self._not_read += 1
        elif name == "pStyle" and not self.title:
            self._is_title = attributes.get("val") in self._title_styles or _plain(attributes) in _TITLE_STYLES

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


def _plain(attributes: dict[str, str]) -> str:
    """The ``val`` of an element as :data:`_TITLE_STYLES` has it."""
    return attributes.get("val", "").lower().replace(" ", "")
