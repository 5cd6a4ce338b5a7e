"""What is in ``store.db``: tables, format version, migrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

__all__ = ["APPLICATION_ID", "FORMAT", "MIGRATIONS", "OLDEST", "OLDEST_MEMORY_FORM", "TABLES"]

FORMAT: Final = 2
"""Newest version of the whole index directory; a reader refuses a larger one by name.

2 came with memory vectors in int8, and an index without them still has 1, which older versions read.
"""
OLDEST: Final = 1
"""Oldest version that is read and written as it is; what is older is migrated to it."""
OLDEST_MEMORY_FORM: Final = "float16"
"""How format 1 stores memory vectors, see `memory_forms`."""

APPLICATION_ID: Final = 0x4C32434D  # "L2CM", so that `file` and we recognise the database

# Text lives apart from metadata, so that a filter scans a compact table and never reads a text page.
TABLES: Final = """
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
  num          INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  content_hash TEXT NOT NULL,
  spans        TEXT NOT NULL,
  metadata     TEXT NOT NULL
) STRICT;

CREATE TABLE texts (
  num   INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  text  TEXT NOT NULL
) STRICT;

CREATE TABLE tombstones (
  num INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE segments (
  ordinal INTEGER PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  role    TEXT NOT NULL CHECK (role IN ('vectors', 'lexical', 'ann')),
  rows    INTEGER NOT NULL,
  detail  TEXT NOT NULL
) STRICT;

CREATE TABLE files (
  segment   TEXT NOT NULL REFERENCES segments (name) ON DELETE CASCADE,
  name      TEXT NOT NULL,
  size      INTEGER NOT NULL,
  sha256    TEXT NOT NULL,
  checksums BLOB NOT NULL,
  PRIMARY KEY (segment, name)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Final[dict[int, Callable[[apsw.Connection], None]]] = {}
"""For each older format, what turns it into the next one, inside the migrating transaction."""
