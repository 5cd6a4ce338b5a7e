"""Files that are zip archives of XML: opened and parsed within bounds, whatever they claim of themselves."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from xml.parsers import expat

from llm2comp_apps.corpus.records import ENCRYPTED, TOO_LARGE, BrokenFileError

__all__ = ["Archive", "XmlHandler", "local_name", "open_archive", "parse_xml"]

_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # the container of .doc, and of office documents with a password
_MAX_ENTRIES = 20_000
_MAX_BYTES = 512 * 2**20  # of all entries that are read
_MAX_ENTRY = 256 * 2**20
_BLOCK = 2**18


class Archive:
    """A zip file whose entries are read within bounds.

    What an entry holds is counted while it is unpacked, since the size that it claims may be a lie.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = _MAX_BYTES
        self.names = frozenset(archive.namelist())

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of an entry, a block at a time.

        Raises:
            BrokenFileError: it is missing, encrypted, damaged or too large.
        """
        try:
            with self._archive.open(name) as entry:
                size = 0
                while block := entry.read(_BLOCK):
                    size += len(block)
                    self._left -= len(block)
                    if size > _MAX_ENTRY or self._left < 0:
                        raise BrokenFileError(0, f"{name} unpacks to more than a document holds: a bomb?", TOO_LARGE)
                    yield block
        except KeyError:
            raise BrokenFileError(0, f"there is no {name} in it") from None
        except RuntimeError as error:  # so zipfile says that there is a password
            raise BrokenFileError(0, f"{name}: {error}", ENCRYPTED) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise BrokenFileError(0, f"{name} is damaged: {error}") from None

    def read(self, name: str) -> bytes:
        """The whole content of an entry; raises what :meth:`blocks` does."""
        return b"".join(self.blocks(name))


@contextmanager
def open_archive(file: IO[bytes]) -> Iterator[Archive]:
    """Open a zip file.

    Raises:
        BrokenFileError: it is none, or has more entries than a document.
    """
    start = file.read(len(_OLD_OFFICE))
    file.seek(0)
    if start == _OLD_OFFICE:
        raise BrokenFileError(0, "protected by a password, or of an office program before 2007", ENCRYPTED)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise BrokenFileError(0, f"not a whole file of its kind: {error}") from None
    with archive:
        if len(archive.filelist) > _MAX_ENTRIES:
            reason = f"an archive of {len(archive.filelist)} entries, more than a document has"
            raise BrokenFileError(0, reason, TOO_LARGE)
        yield Archive(archive)


class XmlHandler:
    """What meets the elements of an XML file as they come; names are without namespaces.

    Of two attributes that then have one name, that with a namespace counts.

    Attributes:
        pieces: text found so far.
        size: its length.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """A run of characters."""

    def add(self, text: str) -> None:
        """Take a piece of text."""
        self.pieces.append(text)
        self.size += len(text)


def parse_xml(blocks: Iterator[bytes], handler: XmlHandler, limit: int) -> str:
    """Parse XML as a stream: no tree is built, entities are refused, nothing outside is read.

    Args:
        blocks: the file.
        handler: meets the elements.
        limit: characters that it may take.

    Returns:
        The pieces that the handler took, as one.

    Raises:
        BrokenFileError: not well formed; more text than ``limit``; or it declares entities, which bombs are made of and
            office documents never do.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.buffer_size = 2**16

    def began(name: str, attributes: dict[str, str]) -> None:
        plain = {key: value for key, value in attributes.items() if " " not in key}
        spaced = {local_name(key): value for key, value in attributes.items() if " " in key}
        handler.start(local_name(name), plain | spaced)

    def entity(*_: object) -> None:
        raise BrokenFileError(0, "it declares XML entities, which no document of its kind does: a bomb?", TOO_LARGE)

    parser.StartElementHandler = began
    parser.EndElementHandler = lambda name: handler.end(local_name(name))
    parser.CharacterDataHandler = handler.data
    parser.EntityDeclHandler = entity
    try:
        for block in blocks:
            parser.Parse(block, False)
            if handler.size > limit:
                raise BrokenFileError(0, f"its text is longer than {limit} characters", TOO_LARGE)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BrokenFileError(0, f"its XML is damaged: {error}") from None
    return "".join(handler.pieces)


def local_name(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition(" ")[2]
