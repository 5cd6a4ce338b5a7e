"""A collection as the mirror of a corpus: brought up to date, and what the corpus does not hold is named or removed.

report = ReadReport()
with Collection.open("notes.index") as library:
    mirror(library, read_corpus(["notes/"], report=report), report, prune=True)
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator

from llm2comp_apps.corpus import Document, ReadReport
from llm2comp_apps.errors import CorpusError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.build import IDS_NAMED, BuildProgress, UpdateReport
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.removal import MostDocumentsError

__all__ = ["mirror"]

_BATCH = 512


def mirror(
    library: Collection,
    documents: Iterable[Document],
    reading: ReadReport | None = None,
    *,
    prune: bool = False,
    allow_most: bool = False,
    on_progress: Callable[[BuildProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> UpdateReport:
    """Update a collection from a corpus that is to be all that it holds.

    Args:
        library: the collection.
        documents: the corpus.
        reading: the report of the reading that gives the documents. What could not be read this time is not taken for
            gone: documents of files that were passed over stay. Nothing is deleted where nobody can tell which those
            are: records have ids of their own, and a folder that cannot be read may hold anything.
        prune: delete what the corpus does not hold; else it is counted and named.
        allow_most: delete even more than half of the documents.
        on_progress: as for :meth:`.Collection.update`, like the next one.
        should_stop: an update that was stopped counts and deletes nothing.

    Raises:
        MostDocumentsError: more than half of the documents would go; the update is committed, nothing is deleted.
    """
    with _Ids() as seen:
        report = library.update(seen.noting(documents), on_progress=on_progress, should_stop=should_stop)
        if report.interrupted or len(library) <= seen.count:
            return report
        reading = reading or ReadReport()
        unread = tuple(file.id for file in reading.passed_over if file.id)
        others = 0
        doomed: list[str] = []
        for id_ in seen.missing(library.index.ids()):
            others += 1
            if len(report.other_ids) < IDS_NAMED:
                report.other_ids.append(id_)
            if prune and not _belongs(id_, unread):
                doomed.append(id_)
        if doomed and (untold := reading.untold()):
            report.warnings.append(f"{untold}: no document is removed")
            doomed.clear()
        if not allow_most and 2 * len(doomed) > len(library):
            found, total = len(doomed), len(library)
            reason = f"would remove {found} of the {total} documents, more than half (`allow_most=True` removes them)"
            raise MostDocumentsError(reason, field="prune", found=found, total=total)
        for block in batched(doomed, _BATCH):
            report.removed += library.delete(block).deleted
        report.others = others - report.removed
        return report


def _belongs(id_: str, unread: tuple[str, ...]) -> bool:
    """Whether a document came from a file that could not be read now, or is a part of one."""
    return any(id_ == file or id_.startswith(f"{file}#") for file in unread)


class _Ids:
    """A set of ids in a temporary file, so that memory does not grow with the corpus.

    Attributes:
        count: ids in it, each counted once however often the corpus has it.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-8192"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self.count = 0

    def __enter__(self) -> _Ids:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def noting(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents; their ids are noted as they pass by.

        Raises:
            CorpusError: there is no room to note them.
        """
        for document in documents:
            try:
                done = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_digest(document.id),))
            except sqlite3.Error as error:
                reason = f"cannot keep the ids of the corpus in a temporary file ({error})"
                raise CorpusError(f"{reason}; set TMPDIR to a folder with space") from None
            self.count += done.rowcount
            yield document

    def missing(self, ids: Iterable[str]) -> Iterator[str]:
        """Those that were not noted."""
        for id_ in ids:
            if self._database.execute("SELECT 1 FROM seen WHERE id = ?", (_digest(id_),)).fetchone() is None:
                yield id_


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
