"""Electronic books: the chapters in the order in which they are read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote

from llm2comp_apps.corpus.readers.archive import Archive, XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.html import decode, page_of
from llm2comp_apps.corpus.readers.parts import Job, Part
from llm2comp_apps.corpus.readers.properties import Properties
from llm2comp_apps.corpus.records import ENCRYPTED, TOO_LARGE, BrokenFileError

__all__ = ["read"]

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The book as one part, or each chapter that has text as a part.

    Raises:
        BrokenFileError: damaged, encrypted or too large.
    """
    with open_archive(file) as archive:
        package = _found(archive, _CONTAINER, "rootfile", "full-path", job)
        if not package:
            raise BrokenFileError(0, f"{_CONTAINER} names no book")
        book = _Package()
        parse_xml(archive.blocks(package[0]), book, job.limit)
        folder = posixpath.dirname(package[0])
        chapters = [posixpath.normpath(posixpath.join(folder, unquote(href))) for href in book.chapters()]
        locked = (
            set(_found(archive, _ENCRYPTION, "CipherReference", "URI", job)) if _ENCRYPTION in archive.names else set()
        )
        if locked.intersection(chapters):  # fonts alone are often hidden so in books that anybody may read
            raise BrokenFileError(0, "protected against reading (DRM)", ENCRYPTED)
        fields = dict(book.found)
        title = fields.pop("title", "")
        texts: list[str] = []
        size = 0
        for number, name in enumerate(chapters, 1):
            heading, text, _ = page_of(decode(archive.read(name)))
            size += len(text)
            if size > job.limit:
                raise BrokenFileError(0, f"its text is longer than {job.limit} characters", TOO_LARGE)
            if not job.pages:
                texts.append(text)
            elif text:
                about = {**fields, "book": title, "chapter": number}
                yield Part(text=text, title=heading or title, name=f"chapter={number}", fields=about)
        if not job.pages:
            yield Part(text="\n\n".join(filter(None, texts)), title=title, fields={**fields})


def _found(archive: Archive, entry: str, element: str, attribute: str, job: Job) -> list[str]:
    """The values of an attribute in an entry."""
    handler = _Attributes(element, attribute)
    parse_xml(archive.blocks(entry), handler, job.limit)
    return handler.values


class _Attributes(XmlHandler):
    def __init__(self, element: str, attribute: str) -> None:
        super().__init__()
        self.values: list[str] = []
        self._wanted = (element, attribute)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == self._wanted[0] and self._wanted[1] in attributes:
            self.values.append(attributes[self._wanted[1]])


class _Package(Properties):
    """What the book is called, and its parts."""

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[str, str] = {}
        self._spine: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        if name == "item" and "html" in attributes.get("media-type", ""):
            self._items[attributes.get("id", "")] = attributes.get("href", "")
        elif name == "itemref":
            self._spine.append(attributes.get("idref", ""))

    def chapters(self) -> list[str]:
        """Their places, in the order of reading."""
        return [self._items[each] for each in self._spine if each in self._items]
