"""Which ids a reading has met, and with what content, without holding them in memory."""

from __future__ import annotations

import hashlib
import json
import sqlite3

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import CorpusError

__all__ = ["SeenIds", "content_id"]

_DERIVED_ID_BYTES = 10  # a clash among 10 million documents has a chance of about 1 in 10 billion


def content_id(title: str, text: str) -> str:
    """The id of a document that has none: 20 hex digits of BLAKE2b over title and text."""
    digest = hashlib.blake2b(digest_size=_DERIVED_ID_BYTES)
    digest.update(title.encode())
    digest.update(b"\0")  # no text has a NUL
    digest.update(text.encode())
    return digest.hexdigest()


class SeenIds:
    """A set of ids on disk, each with a digest of its document's content and the place where it was met.

    SQLite keeps a database without a name in a temporary file that vanishes with the connection.
    """

    def __init__(self) -> None:
        # One reading is used by one thread at a time, but not always by the one that began it.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-8192"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute(
            "CREATE TABLE seen (id BLOB PRIMARY KEY, content BLOB NOT NULL, place TEXT NOT NULL) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> SeenIds:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, document: Document, *, derived: bool) -> str | None:
        """Remember ``document``.

        Args:
            document: the document.
            derived: its id says all about its title and text; metadata does not count as content then.

        Returns:
            ``None`` if its id is new, ``""`` if the same document was met before, else the place of the other one.

        Raises:
            CorpusError: no space left for the temporary file.
        """
        key = _digest(document.id)
        metadata = "" if derived else json.dumps(document.metadata, sort_keys=True)
        content = _digest(f"{document.title}\0{document.text}\0{metadata}")
        try:
            new = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, content, document.source))
            if new.rowcount:
                return None
            before = self._database.execute("SELECT content, place FROM seen WHERE id = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CorpusError(
                f"cannot keep the ids seen in a temporary file ({error}); set TMPDIR to a folder with space"
            ) from None
        return "" if before[0] == content else str(before[1])


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
