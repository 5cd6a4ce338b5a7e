"""OpenDocument texts and presentations: paragraphs, headings, lists and tables; not comments and deleted text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from llm2comp_apps.corpus.readers.archive import XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.parts import Job, Part, tidy
from llm2comp_apps.corpus.readers.properties import read_properties
from llm2comp_apps.corpus.records import ENCRYPTED, BrokenFileError

__all__ = ["read"]

_LONGEST_TITLE = 300
_SIGNS = {"tab": "\t", "line-break": "\n", "p": "\n", "h": "\n\n", "table-cell": "\t", "table-row": "\n", "page": "\n"}
_NOT_READ = ("annotation", "tracked-changes")
_MANIFEST = "META-INF/manifest.xml"
_MOST_SPACES = 100


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The document as one part; its title is that of its properties, else its first heading.

    Raises:
        BrokenFileError: damaged, encrypted or too large.
    """
    with open_archive(file) as archive:
        if _MANIFEST in archive.names:
            seen = _Manifest()
            parse_xml(archive.blocks(_MANIFEST), seen, job.limit)
            if seen.encrypted:
                raise BrokenFileError(0, "a password is needed to open it", ENCRYPTED)
        fields = read_properties(archive, "meta.xml")
        title = fields.pop("title", "")
        content = _Content()
        text = parse_xml(archive.blocks("content.xml"), content, job.limit)
        yield Part(text=tidy(text), title=title or tidy(content.title), fields={**fields})


class _Manifest(XmlHandler):
    """Whether entries are encrypted."""

    encrypted = False

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - the signature of a handler
        self.encrypted = self.encrypted or name == "encryption-data"


class _Content(XmlHandler):
    """The text of the body."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._paragraphs = self._not_read = 0
        self._heading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in ("p", "h"):
            self._paragraphs += 1
            self._heading = name == "h" and not self.title
        elif name in _NOT_READ:
            self._not_read += 1
        elif name == "s" and self._paragraphs:
            count = attributes.get("c", "1")
            self.data(" " * min(int(count) if count.isdecimal() else 1, _MOST_SPACES))

    def end(self, name: str) -> None:
        if name in ("p", "h"):
            self._paragraphs -= 1
            self._heading = False
        elif name in _NOT_READ:
            self._not_read -= 1
        if name in _SIGNS and not self._not_read:
            self.add(_SIGNS[name])
            if self._heading and self.title:
                self.title += " "

    def data(self, text: str) -> None:
        if self._paragraphs and not self._not_read:
            self.add(text)
            if self._heading and len(self.title) < _LONGEST_TITLE:
                self.title += text
