"""Comparing every byte of a generation with what was committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from llm2comp_indexes.checked import difference
from llm2comp_indexes.snapshot import Snapshot
from llm2comp_indexes.store import STORE_NAME, SegmentRecord, damaged_pages, has_pages_beyond
from llm2comp_indexes.types import Damage

__all__ = ["verify"]


def verify(snapshot: Snapshot) -> list[Damage]:
    """Every file of the generation that is missing or changed, and what is wrong inside ``store.db``."""
    manifest = snapshot.manifest
    damage = list(_store_damage(snapshot.index, snapshot.connection))
    for record in manifest.records:
        damage.extend(_segment_damage(snapshot.index, record))
    return damage


def _store_damage(index: Path, connection: apsw.Connection) -> Iterator[Damage]:
    """Read every page of the database, each against its checksum, and check that the tables agree."""
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


def _segment_damage(index: Path, record: SegmentRecord) -> Iterator[Damage]:
    directory = index / record.directory
    for file in record.files:
        if reason := difference(directory / file.name, file):
            yield Damage(f"{record.directory}/{file.name}", reason)
