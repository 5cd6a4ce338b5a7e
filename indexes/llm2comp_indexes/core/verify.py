"""Comparing every byte of a generation with what was committed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from llm2comp_indexes.core.writer import Writer
from llm2comp_indexes.errors import IndexDamagedError, OlderFormatError
from llm2comp_indexes.storage.checked import difference
from llm2comp_indexes.storage.lock import Pin
from llm2comp_indexes.storage.store import (
    STORE_NAME,
    Manifest,
    connect_reader,
    damaged_pages,
    has_pages_beyond,
    newest_commit,
    read_manifest,
)
from llm2comp_indexes.types import Damage

__all__ = ["file_damages", "store_damages", "verify_index"]


def verify_index(index: str | Path) -> list[Damage]:
    """Compare every byte of the newest generation with what was committed, also where it is too damaged to be opened.

    Raises:
        IndexMissingError: nothing is there.
        IndexFormatError: it is not an index, or of a newer format.
    """
    index = Path(index)
    try:
        try:
            return _verify_newest(index)
        except OlderFormatError:
            Writer(index).close()  # migrates
            return _verify_newest(index)
    except IndexDamagedError as error:  # the list of files cannot be read
        return [Damage(STORE_NAME, str(error).removeprefix(f"{index / STORE_NAME}: "))]


def _verify_newest(index: Path) -> list[Damage]:
    while True:
        with contextlib.ExitStack() as stack:
            connection = connect_reader(index)
            stack.callback(connection.close)
            manifest = read_manifest(index, connection)
            for record in manifest.records:
                with contextlib.suppress(OSError):  # what is missing is reported below
                    stack.callback(Pin(index / record.directory).release)
            found = _damages(index, manifest, connection)
        # Files are also missing where a writer replaced this generation before it was pinned.
        if not found or newest_commit(index) == manifest.commit:
            return found


def _damages(index: Path, manifest: Manifest, connection: apsw.Connection) -> list[Damage]:
    """Every file of a generation that is missing or changed, and what is wrong inside ``store.db``.

    Args:
        index: the index directory.
        manifest: of the generation.
        connection: to ``store.db``, inside a read transaction that sees this generation.
    """
    return [*store_damages(index, connection), *file_damages(index, manifest)]


def store_damages(index: Path, connection: apsw.Connection) -> Iterator[Damage]:
    """What is wrong inside ``store.db``: pages that do not match their checksums, tables that do not agree."""
    pages = list(damaged_pages(index))
    if pages:
        more = f" and {len(pages) - 1} more" if len(pages) > 1 else ""
        yield Damage(STORE_NAME, f"page {pages[0]}{more}: does not match its checksum")
    try:
        if has_pages_beyond(index, connection):
            yield Damage(STORE_NAME, "is longer or shorter than what was committed")
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield Damage(STORE_NAME, line)
        count = connection.execute("SELECT count(*) FROM documents JOIN texts USING (num)").get
        stated = connection.execute("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'documents'").get
        if count != stated:
            yield Damage(STORE_NAME, f"holds {count} documents where {stated} were committed")
    except apsw.Error as error:
        yield Damage(STORE_NAME, f"cannot be read ({error})")


def file_damages(index: Path, manifest: Manifest) -> Iterator[Damage]:
    """Every file of a generation's directories that is missing or changed."""
    for record in manifest.records:
        for file in record.files:
            if reason := difference(index / record.directory / file.name, file):
                yield Damage(f"{record.directory}/{file.name}", reason)
