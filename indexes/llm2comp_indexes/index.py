"""The index as its users see it."""

from __future__ import annotations

import contextlib
import errno
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.core.snapshot import Snapshot
from llm2comp_indexes.core.verify import file_damages, store_damages
from llm2comp_indexes.core.writer import Writer
from llm2comp_indexes.dense.build import check_kind
from llm2comp_indexes.dense.gpu import check_device
from llm2comp_indexes.dense.kinds import Policy
from llm2comp_indexes.dense.vectors import as_queries
from llm2comp_indexes.errors import (
    IndexExistsError,
    IndexStoreError,
    IndexWriteError,
    InputError,
    OlderFormatError,
    check_whole,
)
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE, check_language
from llm2comp_indexes.operators import Clause
from llm2comp_indexes.statistics import LexicalStatistics
from llm2comp_indexes.storage import documents as rows_of
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.fields import (
    MOST_DOCUMENTS,
    FieldSummary,
    PredicateCount,
    Values,
    all_fields,
    count_predicates,
    summary,
    unknown_fields,
    values_among,
)
from llm2comp_indexes.storage.filters import compile_filter
from llm2comp_indexes.storage.lock import LOCK_NAME
from llm2comp_indexes.storage.memory_forms import INT8
from llm2comp_indexes.storage.schema import FORMAT
from llm2comp_indexes.storage.store import DIRECTORIES, Manifest, check_free, create_store, newest_commit
from llm2comp_indexes.types import Damage, Float32Array, Hit, IndexedDocument, IndexInfo, Listing, QueryWords

__all__ = ["Index"]


class Index:
    """Documents and their vectors in one directory; a reader of one generation until `refresh`.

    Threads may share it: a call that runs while another thread calls `refresh` or `close` ends on the generation that
    it began with, which stays open so long. For several calls that belong together there is `pinned`.

    Args:
        path: the index directory; see `create` and `open`.
        device: where vectors are compared, ``cpu`` or ``cuda`` (see `llm2comp_indexes.dense.gpu`).
    """

    def __init__(self, path: str | Path, device: str = "cpu", *, share: int = 1) -> None:
        check_device(device)
        self.path = Path(path)
        self._device = device
        self._share = share
        self._moving = threading.Lock()
        self._closed = False
        try:
            self._snapshot = Snapshot(self.path, device, share=share)
        except OlderFormatError:
            Writer(self.path).close()  # migrates
            self._snapshot = Snapshot(self.path, device, share=share)

    def _lease(self) -> Snapshot:
        """The generation that this reader sees, kept open until the caller leaves it (``with``)."""
        while True:
            snapshot = self._snapshot
            snapshot.holders.append(None)
            if snapshot is self._snapshot and not self._closed:  # see `Leased`
                return snapshot
            snapshot.release()
            if self._closed:
                raise IndexStoreError(f"{self.path}: this index has been closed; open it again")

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        dimension: int,
        encoder: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
        memory_tokens: int = 0,
    ) -> Index:
        """Make an empty index, all at once or not at all.

        Args:
            path: a directory that does not exist, or is empty.
            dimension: of the vectors.
            encoder: at least ``name`` and ``fingerprint`` of what makes the vectors.
            settings: kept with the index. This room reads ``metric`` (``cosine``, the default, or ``ip``),
                ``language`` (of the stemmer; ``english`` by default, ``none`` for no stemming), and ``kind``,
                ``target_recall`` and ``max_ram`` (see `Policy`).
            memory_tokens: memory vectors per row to keep for reranking; 0 = none.

        Raises:
            IndexExistsError: the path is taken.
            InputError: a value makes no sense.
            KindError: FAISS can make nothing of the kind.
            IndexWriteError: the directory cannot be made.
        """
        path = Path(path)
        policy = Policy.from_settings(settings or {})
        settings = {"metric": "cosine", "language": DEFAULT_LANGUAGE, **(settings or {}), **asdict(policy)}
        for name, value, least in (("dimension", dimension, 1), ("memory_tokens", memory_tokens, 0)):
            check_whole(value, name, least)
        if settings["metric"] not in ("cosine", "ip"):
            raise InputError(f"must be cosine or ip, not {settings['metric']!r}", field="metric")
        if not {"name", "fingerprint"} <= encoder.keys():
            raise InputError("needs a name and a fingerprint", field="encoder")
        check_language(settings["language"])
        check_kind(policy, dimension)
        check_free(path)
        manifest = Manifest(0, int(dimension), int(memory_tokens), dict(encoder), settings)
        if memory_tokens:
            manifest = replace(manifest, memory_form=INT8.name, format=FORMAT)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            for name in (*DIRECTORIES.values(), "tmp"):
                fs.make_directory(temporary / name)
            fs.write_text(temporary / LOCK_NAME, "")
            create_store(temporary, manifest)
            fs.rename(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                fs.remove_tree(temporary)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                made = "another program has just made it; do the same again, and what is there is used"
                raise IndexExistsError(f"{path}: {made}") from error
            if isinstance(error, OSError | IndexWriteError):
                reason = error.strerror if isinstance(error, OSError) else None
                raise IndexWriteError(f"{path}: cannot be created: {reason or error}") from error
            raise
        return cls(path)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "cpu", share: int = 1) -> Index:
        """Open the newest generation for reading.

        Args:
            path: the index directory.
            device: where vectors are compared, ``cpu`` or ``cuda``.
            share: how many indexes are read as one: so many of them keep as much in memory as one does.

        Raises:
            IndexMissingError: nothing is there.
            IndexFormatError: it is not an index, or of another format.
            IndexDamagedError: files are missing or differ from what was committed.
            DependencyError: ``device`` is ``cuda``, and FAISS sees no GPU.
        """
        return cls(path, device, share=share)

    def refresh(self) -> bool:
        """Move on to the newest generation, also of one that replaced this index; returns whether there was one.

        Segments that have not changed stay open, with the FAISS indexes that are loaded. What this reader has used is
        loaded for the new segments before the move, so that no search waits for it. The old generation is closed when
        the last call that reads it, in whatever thread, is done.
        """
        with self._moving:
            (older := self._lease()).release()  # refuses a closed index
            if moved := newest_commit(self.path) != older.manifest.commit:
                newer = Snapshot(self.path, self._device, older, share=self._share)
                newer.load_like(older)
                self._snapshot = newer
                older.release()
            self._snapshot.settle()
        return moved

    def pinned(self) -> Index:
        """This generation as a reader of its own, which stays there while this one moves on.

        For calls that belong together, such as a search and the texts of its hits, while other threads refresh. It
        shares everything that is loaded; close it when done (``with``).
        """
        pinned = object.__new__(type(self))  # a copy would be opened for itself
        pinned.__dict__.update(self.__dict__)
        pinned._moving = threading.Lock()
        pinned._snapshot = self._lease()
        return pinned

    @contextlib.contextmanager
    def writer(self, device: str = "cpu") -> Iterator[Writer]:
        """Take the writer lock; on leaving, this reader moves on to what was committed.

        Segments that have grown enough for it get the FAISS index that the settings ask for, after the commit. If
        that kind is refused, the documents are searched exactly, and `Writer.refusal` says why.

        Args:
            device: where FAISS indexes are trained, ``cpu`` or ``cuda``.

        Raises:
            IndexLockedError: another process (or another writer of this one) holds the lock.
            DependencyError: ``device`` is ``cuda``, and FAISS sees no GPU.
        """
        check_device(device)
        with self._lease() as snapshot:
            snapshot.settle()  # other readers have moved on since this one did
        writer = Writer(self.path)
        try:
            yield writer
            writer.abandon()
            writer.maintain(device=device)
        finally:
            try:
                self.refresh()  # lets go of what the commit replaced, so that the writer can remove it
            finally:
                writer.close()

    def close(self) -> None:
        """Let go of the files, as soon as no other thread reads them."""
        with self._moving:
            closed, self._closed = self._closed, True
        if not closed:
            self._snapshot.release()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, an index is its path: another process, or a copy, opens the newest generation for itself."""
        return _opened, (self.path.absolute(), self._device, self._share)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def generation(self) -> int:
        """Number of the commit that this reader sees."""
        return self._snapshot.manifest.generation

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return self._snapshot.manifest.dimension

    @property
    def memory_tokens(self) -> int:
        """Memory vectors kept per row; 0 = none."""
        return self._snapshot.manifest.memory_tokens

    @property
    def encoder(self) -> dict[str, str]:
        """What made the vectors: name, fingerprint, and what else was given."""
        return dict(self._snapshot.manifest.encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """As given at creation or to `compact` since, defaults filled in."""
        return dict(self._snapshot.manifest.settings)

    def __len__(self) -> int:
        return self._snapshot.manifest.documents

    def search(
        self,
        vectors: npt.ArrayLike,
        k: int,
        *,
        where: str | None = None,
        clauses: Sequence[Clause] = (),
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The k nearest documents of each query vector, one hit per document, best first.

        Args:
            vectors: (q, d) queries, or (d,) for one.
            k: documents wanted; all are returned when there are fewer.
            where: only documents whose metadata satisfies this expression (see `llm2comp_indexes.storage.filters`).
            clauses: only documents whose words meet these (see `llm2comp_indexes.operators`).
            exact: scan every vector even if there is an approximate index.

        Raises:
            InputError: the vectors do not fit the index, or k is below 1.
            FilterError: ``where`` cannot be read.
            IndexDamagedError: a vector that was needed differs from what was committed.
        """
        with self._lease() as snapshot:
            manifest = snapshot.manifest
            queries = as_queries(vectors, manifest.dimension, cosine=manifest.settings["metric"] == "cosine")
            k = _at_most(k, manifest.documents)
            if not manifest.documents or not len(queries):
                return [[] for _ in queries]
            allowed = None
            if where is not None or clauses:
                nums, mask = snapshot.allowed(where, tuple(clauses))
                allowed = (mask, len(nums))
            return snapshot.hits(snapshot.dense.search(queries, k, allowed, exact=exact))

    def lexical_statistics(self, query: str) -> LexicalStatistics:
        """What other indexes must know of this one so that scores by words can be compared; see `ShardedIndex`."""
        with self._lease() as snapshot:
            return snapshot.lexical.statistics(query) if snapshot.lexical is not None else LexicalStatistics()

    def search_lexical(
        self,
        query: str,
        k: int,
        *,
        where: str | None = None,
        clauses: Sequence[Clause] = (),
        statistics: LexicalStatistics | None = None,
    ) -> list[Hit]:
        """The k best documents by BM25 over title and text. Any text is a query; nothing in it is syntax.

        Args:
            query: words.
            k: documents wanted.
            where: only documents whose metadata satisfies this expression.
            clauses: operators, which `llm2comp_indexes.operators.parse_query` finds in what people type.
            statistics: the sum of `lexical_statistics` of all indexes whose hits are compared; None = of this one.

        Raises:
            InputError: k is below 1.
            FilterError: ``where`` cannot be read.
        """
        with self._lease() as snapshot:
            k = _at_most(k, snapshot.manifest.documents)
            if snapshot.lexical is None:
                return []
            allowed = None if where is None else snapshot.allowed(where)[0]
            return snapshot.lexical_hits(*snapshot.lexical.search(query, k, allowed, clauses, statistics))

    def query_words(self, query: str, *, statistics: LexicalStatistics | None = None) -> QueryWords:
        """What a query asks of the words here: by how much BM25 could answer it, and how many words say something.

        Args:
            query: words.
            statistics: of several indexes for this query; None = of this one.
        """
        with self._lease() as snapshot:
            lexical = snapshot.lexical
            return QueryWords(0.0, 0) if lexical is None else lexical.query_words(query, statistics)

    def get(self, ids: Sequence[str]) -> list[IndexedDocument]:
        """The documents of ``ids``, in that order.

        Raises:
            KeyError: an id is not in the index.
        """
        with self._lease() as snapshot, snapshot.store() as connection:
            found = rows_of.read(connection, ids)
        return [found[id_] for id_ in ids]

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hash of each of ``ids`` that is in the index."""
        with self._lease() as snapshot, snapshot.store() as connection:
            return rows_of.hashes(connection, ids)

    def ids(self, *, where: str | None = None) -> Iterator[str]:
        """Every id, or those whose document satisfies ``where``, in the order in which the documents were added.

        Raises:
            FilterError: ``where`` cannot be read.
        """
        with self._lease() as snapshot:
            yield from snapshot.ids(where)

    def listing(self, *, where: str | None = None, offset: int = 0, limit: int, fields: Sequence[str] = ()) -> Listing:
        """A page of the documents that satisfy ``where``, and what all of them have in ``fields``.

        Raises:
            FilterError: ``where`` cannot be read.
        """
        with self.pinned() as pinned:
            ids = list(pinned.ids(where=where))
            counts = {name: pinned.value_counts(name, ids) for name in fields}
        return Listing(len(ids), ids[offset : offset + limit], counts)

    def unknown_fields(self, where: str) -> dict[str, list[str]]:
        """The fields that ``where`` names and no document has: most likely misspelled, and `!=` is true of them.

        Returns:
            For each, the fields that there are in its place: of the documents, or of the object that it is looked
            for in (``author.nmae`` gives ``author.name``).

        Raises:
            FilterError: ``where`` cannot be read.
        """
        with self._lease() as snapshot, snapshot.store() as connection:
            return unknown_fields(connection, compile_filter(where))

    def predicate_counts(self, where: str) -> list[PredicateCount]:
        """How many documents meet each predicate of ``where`` alone: what to look at when none meets them all.

        Predicates on fields that no document has are left out; see `unknown_fields`.

        Raises:
            FilterError: ``where`` cannot be read.
        """
        with self._lease() as snapshot, snapshot.store() as connection:
            return count_predicates(connection, compile_filter(where))

    def field(self, *names: str) -> FieldSummary:
        """What a metadata field holds, in all documents; ``field("author", "name")`` is one inside an object."""
        with self._lease() as snapshot, snapshot.store() as connection:
            return summary(connection, names)

    def fields(self) -> list[FieldSummary]:
        """What all metadata fields hold in the first 100,000 documents, sorted by name; other threads search meanwhile.

        At most `MOST_FIELDS` are described, and an object with more than 200 names inside as one: they are data.
        """
        with self._lease() as snapshot:
            return all_fields(snapshot.metadata(MOST_DOCUMENTS))

    def value_counts(self, field: str, ids: Sequence[str]) -> Values:
        """How many documents of ``ids`` have each value of a field (``year``, ``author.name``), most frequent first."""
        with self._lease() as snapshot, snapshot.store() as connection:
            return values_among(connection, field.split("."), ids)

    def memory(self, ids: Sequence[str], spans: Sequence[tuple[int, int] | None] | None = None) -> Float32Array:
        """Stored memory vectors for reranking.

        Args:
            ids: documents.
            spans: for each the chunk that is wanted (`Hit.span`); None = the first.

        Returns:
            (n, k, d), as near to what was given as their form is, see `llm2comp_indexes.storage.memory_forms`.

        Raises:
            InputError: the index keeps none.
            KeyError: an id, or a span of it, is not in the index.
        """
        with self._lease() as snapshot:
            if not snapshot.manifest.memory_tokens:
                raise InputError(f"{self.path}: keeps no memory vectors; build it with `memory_tokens` set")
            return snapshot.memory(ids, spans or [None] * len(ids))

    def vectors(self, ids: Sequence[str]) -> Float32Array:
        """The vectors of documents as they are stored, all rows of each in turn.

        Raises:
            KeyError: an id is not in the index.
        """
        with self._lease() as snapshot:
            return snapshot.vectors(ids).astype(np.float32)

    def compact(self, policy: Policy | None = None, device: str = "cpu") -> None:
        """Merge all segments into one, drop what was deleted, and see that it has the FAISS index it needs.

        Args:
            policy: how vectors are to be searched from now on; None = as the settings say.
            device: where the FAISS index is trained, ``cpu`` or ``cuda``.

        Raises:
            KindError: the kind is refused; the index keeps the kind that it had.
        """
        with self.writer(device) as writer:
            writer.compact(policy, device)

    def verify(self) -> list[Damage]:
        """Compare every byte of this generation with what was committed; empty = all is well."""
        with self._lease() as snapshot:
            with snapshot.store() as connection:
                found = list(store_damages(self.path, connection))
            return [*found, *file_damages(self.path, snapshot.manifest)]

    def info(self) -> IndexInfo:
        """What the index says of itself."""
        with self._lease() as snapshot:
            return snapshot.info()


def _opened(path: Path, device: str, share: int) -> Index:
    return Index(path, device, share=share)


def _at_most(k: int, documents: int) -> int:
    """The documents that can be found of ``k``."""
    check_whole(k, "k", 1)
    return min(k, max(1, documents))
