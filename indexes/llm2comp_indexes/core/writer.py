"""Changing an index: everything since the last commit becomes visible, and durable, in one step.

    rows stream into tmp/<uuid>/   ->  fsync, rename to segments/<uuid>/  --+
    words into tmp/<uuid>/         ->  fsync, rename to lexical/<uuid>/   --+->  ONE transaction of store.db
    documents, tombstones          ->  an open transaction of store.db    --+

Until that transaction commits, readers and a process that restarts after a crash see the previous generation whole;
what a crash leaves in ``tmp`` or unnamed by the manifest is removed by the next writer.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.dense.build import build_ann, check_kind, declined, serves
from llm2comp_indexes.dense.kinds import Policy, is_small
from llm2comp_indexes.dense.vectors import RowError, as_matrix, narrow, normalised
from llm2comp_indexes.errors import DamageWarning, IndexWriteError, InputError, KindError
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE, LexicalWriter, is_outdated
from llm2comp_indexes.storage import documents as rows_of
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import difference
from llm2comp_indexes.storage.lock import WriterLock
from llm2comp_indexes.storage.memory_forms import Stored
from llm2comp_indexes.storage.merging import segments_to_absorb
from llm2comp_indexes.storage.rewrite import rewrite
from llm2comp_indexes.storage.segment import RowShape, Segment, SegmentWriter
from llm2comp_indexes.storage.store import (
    DIRECTORIES,
    Manifest,
    SegmentRecord,
    connect_writer,
    migrate,
    read_manifest,
    translated,
    write_manifest,
)
from llm2comp_indexes.types import Float16Array, IndexedDocument, Int64Array

__all__ = ["Writer"]


class Writer:
    """The one writer of an index; made by `Index.writer`. Leaving without `commit` changes nothing."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._segment: SegmentWriter | None = None
        self._lexical: LexicalWriter | None = None
        self._intact: set[str] = set()  # lexical files that this writer made or has checked
        self._changed = self._failed = False
        self._refusals: list[tuple[int, str]] = []  # rows of the segment, and why
        self._lock = WriterLock(index)
        try:
            self._connection = connect_writer(index)
        except BaseException:
            self._lock.release()
            raise
        try:
            migrate(index, self._connection)
            self._manifest = read_manifest(index, self._connection)
        except BaseException:
            self._failed = True
            self.close()
            raise
        self._next_num = self._manifest.next_num
        self._documents = self._manifest.documents
        self._clean()

    @property
    def generation(self) -> int:
        """The last commit."""
        return self._manifest.generation

    @property
    def documents(self) -> int:
        """How many there are, those that wait for the next commit among them."""
        return self._documents

    @property
    def refusal(self) -> str | None:
        """Why the kind that the settings ask for is refused, for the largest segment that it does not fit."""
        return max(self._refusals)[1] if self._refusals else None

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hash of each of ``ids`` that is there, be it committed or waiting for the next commit."""
        with translated(self._index):
            return rows_of.hashes(self._connection, ids)

    def add(
        self,
        documents: Sequence[IndexedDocument],
        vectors: npt.ArrayLike,
        memory: npt.ArrayLike | None = None,
    ) -> None:
        """Add documents, replacing those whose id is already there; of one id given twice the last counts.

        Args:
            documents: each with one vector, or one for each of its spans.
            vectors: (rows, d), the rows of each document in turn.
            memory: (rows, k, d), if the index keeps memory vectors.

        Raises:
            InputError: they do not fit each other or the index; nothing of this call is added.
            IndexWriteError: the operating system refused; leave without commit.
        """
        if not documents:
            return
        try:
            matrix, rows_memory = self._check(documents, vectors, memory)
        except RowError as error:  # whoever adds many batches knows a document, and not the rows of this call
            owners = [document.id for document in documents for _ in range(document.rows)]
            owner = f" (document {owners[error.row]!r})" if error.row < len(owners) else ""
            raise InputError(f"{error}{owner}") from None
        last = {document.id: position for position, document in enumerate(documents)}
        kept = [position for position, document in enumerate(documents) if last[document.id] == position]
        if len(kept) < len(documents):
            counts = np.array([document.rows for document in documents])
            mask = np.repeat(np.isin(np.arange(len(documents)), kept), counts)
            matrix, rows_memory = matrix[mask], None if rows_memory is None else rows_memory[mask]
            documents = [documents[position] for position in kept]
        first = self._next_num
        encoded = rows_of.encode(first, documents)
        with self._writing():
            self._begin()
            lexical = self._open_lexical()  # before the new documents are there: if damaged, it is made of all that are
            self._drop(list(rows_of.numbers(self._connection, list(last)).values()))
            rows_of.insert(self._connection, encoded)
            nums = np.arange(first, first + len(documents))
            self._open_segment().append(np.repeat(nums, [doc.rows for doc in documents]), matrix, rows_memory)
            for num, document in enumerate(documents, first):
                lexical.add(num, document)
            self._next_num += len(documents)
            self._documents += len(documents)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents by id; ids that are not there are ignored. Returns how many were deleted."""
        with self._writing():
            self._begin()
            nums = list(rows_of.numbers(self._connection, ids).values())
            self._drop(nums)
            return len(nums)

    def commit(self) -> int:
        """Make everything since the last commit visible and durable; returns the generation."""
        if self._changed:
            with self._writing():
                self._publish(self._seal(merge_all=False))
        return self.generation

    def compact(self, policy: Policy | None = None, device: str = "cpu") -> int:
        """Commit, with everything merged into one segment and nothing deleted left in any file.

        Args:
            policy: how vectors are to be searched from now on; None = as before.
            device: where a FAISS index is trained, ``cpu`` or ``cuda``.

        Raises:
            KindError: the kind of ``policy`` is refused. If FAISS does not know it, nothing happens; if it misses its
                target, the rest of the compaction stands, and the index has the kind that it had.
        """
        if policy is not None:
            check_kind(policy, self._manifest.dimension)
        with self._writing():
            self._begin()
            self._open_lexical(fresh=True)
            self._publish(self._seal(merge_all=True))
            self._connection.execute("VACUUM")
        try:
            return self.maintain(policy, device)
        except KindError:
            self.maintain(device=device)  # the merged segment has no FAISS index yet
            raise

    def maintain(self, policy: Policy | None = None, device: str = "cpu") -> int:
        """Give each segment the FAISS index that the policy asks for, one commit each; returns the generation.

        The documents are committed before, so an interruption costs speed and never a document. A kind of the settings
        that is refused is no error either: the segment is searched exactly, and `refusal` says why. That is recorded,
        so that the next writer does not try again.

        Raises:
            KindError: the kind of ``policy`` is refused; nothing changes.
            InputError: something waits for a commit.
        """
        self._require_committed()
        wanted = policy or Policy.from_settings(self._manifest.settings)
        for record in self._manifest.segments:
            if self._is_served(record, wanted):
                continue
            refused = None
            with self._writing():
                segment = self._reader(record)
                try:
                    made = build_ann(self._index, segment, wanted, device)
                except KindError as error:
                    made, refused = declined(segment, wanted, str(error)), error
            if refused is not None:
                if policy is not None:
                    raise refused
                self._refusals.append((record.rows, str(refused)))
            with self._writing():
                self._begin()
                others = tuple(ann for ann in self._manifest.anns if ann.detail["segment"] != record.name)
                self._publish(self._next(anns=(*others, made) if made else others))
        if policy is not None and policy != Policy.from_settings(self._manifest.settings):
            with self._writing():
                self._begin()
                self._publish(self._next(settings={**self._manifest.settings, **asdict(policy)}))
        return self.generation

    def keep(self, **settings: Any) -> int:
        """Keep more settings with the index, in one commit; ``None`` forgets one. Returns the generation.

        Raises:
            InputError: something waits for a commit.
        """
        self._require_committed()
        kept = {name: value for name, value in self._manifest.settings.items() if name not in settings}
        kept |= {name: value for name, value in settings.items() if value is not None}
        with self._writing():
            self._begin()
            self._publish(self._next(settings=kept))
        return self.generation

    def _require_committed(self) -> None:
        """Refuse a commit of its own while documents wait for theirs: it would commit half of what belongs to them."""
        if self._changed:
            raise InputError("documents wait for `commit`; commit or abandon them first")

    def _is_served(self, record: SegmentRecord, policy: Policy) -> bool:
        """Whether a segment has the intact FAISS index that ``policy`` asks for, or needs none."""
        ann = self._manifest.ann(record.name)
        if ann is None:
            return is_small(policy, record.rows)
        if not serves(ann, policy):
            return False
        return not any(difference(self._index / ann.directory / file.name, file) for file in ann.files)

    def abandon(self) -> None:
        """Drop what was not committed."""
        if self._segment is not None:
            self._segment.abandon()
        self._segment = self._lexical = None
        with translated(self._index):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._changed = False
        if not self._failed:
            self._next_num, self._documents = self._manifest.next_num, self._manifest.documents

    def close(self) -> None:
        """Drop what was not committed and let the next writer in."""
        try:
            self.abandon()
            with translated(self._index):
                self._connection.close()
            # After a failed write only a fresh look at store.db can tell what is committed: the next writer's.
            if not self._failed:
                self._clean()
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the operating system says into our errors; after one of them this writer writes no more."""
        if self._failed:
            raise IndexWriteError(f"{self._index}: a write failed; the index stays at generation {self.generation}")
        completed = False
        try:
            with translated(self._index):
                yield
            completed = True
        except OSError as error:
            raise IndexWriteError(
                f"{error.filename or self._index}: {error.strerror or error}; "
                f"the index stays at generation {self.generation}"
            ) from error
        finally:
            self._failed |= not completed

    def _check(
        self, documents: Sequence[IndexedDocument], vectors: npt.ArrayLike, memory: npt.ArrayLike | None
    ) -> tuple[Float16Array, Stored | None]:
        manifest = self._manifest
        matrix = as_matrix(vectors, manifest.dimension, "vectors")
        rows = sum(document.rows for document in documents)
        if len(matrix) != rows:
            raise InputError(f"vectors: {len(matrix)} rows for {len(documents)} documents that need {rows}")
        nameless = next((position for position, document in enumerate(documents) if not document.id), None)
        if nameless is not None:
            raise InputError(f"document {nameless} of this batch has an empty id")
        if manifest.settings.get("metric", "cosine") == "cosine":
            matrix = normalised(matrix, "vectors")
        vectors_f16 = narrow(matrix, "vectors")
        if not manifest.memory_tokens:
            if memory is not None:
                raise InputError("memory: this index keeps no memory vectors; build it with `memory_tokens` set")
            return vectors_f16, None
        shape = (rows, manifest.memory_tokens, manifest.dimension)
        tokens = np.asarray([] if memory is None else memory, dtype=np.float32)
        if tokens.shape != shape:
            raise InputError(f"memory: shape {tokens.shape} where {shape} is needed")
        return vectors_f16, RowShape.of(manifest).form.pack(tokens)

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._changed = True

    def _open_segment(self) -> SegmentWriter:
        if self._segment is None:
            self._segment = SegmentWriter(self._index / "tmp", RowShape.of(self._manifest))
        return self._segment

    def _open_lexical(self, *, fresh: bool = False) -> LexicalWriter:
        """The lexical snapshot in the making: on top of the last one, or made again from all documents."""
        if self._lexical is None or fresh:
            base = None if fresh else self._manifest.lexical
            if base and is_outdated(base):
                base, fresh = None, True
            if base and (damage := self._damaged_lexical(base)):
                warnings.warn(f"{damage}; rebuilding the lexical index", DamageWarning, stacklevel=4)
                base, fresh = None, True
            language = self._manifest.settings.get("language", DEFAULT_LANGUAGE)
            self._lexical = LexicalWriter(self._index / "tmp", self._index, base, language)
            if fresh:
                for num, document in rows_of.iterate(self._connection):
                    self._lexical.add(num, document)
        return self._lexical

    def _damaged_lexical(self, record: SegmentRecord) -> str | None:
        for file in record.files:
            path = self._index / record.directory / file.name
            if file.sha256 not in self._intact and (reason := difference(path, file)):
                return f"{path}: {reason}"
            self._intact.add(file.sha256)
        return None

    def _drop(self, nums: list[int]) -> None:
        """Delete documents by number, wherever they live."""
        if nums:
            self._open_lexical().delete(nums)
            rows_of.delete_numbers(self._connection, nums)
            self._documents -= len(nums)

    def _next(self, **changes: Any) -> Manifest:
        """The manifest of the next generation."""
        return replace(self._manifest, generation=self._manifest.generation + 1, **changes)

    def _publish(self, manifest: Manifest) -> None:
        """The commit point: name the files of a generation in one transaction, together with its documents."""
        write_manifest(self._connection, manifest)
        fs.point("before-commit")
        self._connection.execute("COMMIT")
        fs.point("after-commit")
        self._manifest = manifest
        self._segment, self._lexical, self._changed = None, None, False
        self._clean()

    def _seal(self, *, merge_all: bool) -> Manifest:
        """Put the new files in place and describe the generation that they make."""
        dead = np.array(rows_of.tombstones(self._connection), dtype=np.int64)
        lexical = self._manifest.lexical
        if self._lexical is not None:
            lexical = self._lexical.seal(self._index / "lexical")
            self._intact.update(file.sha256 for file in lexical.files)
        segments, purged = self._merge(dead, merge_all=merge_all)
        self._connection.executemany("DELETE FROM tombstones WHERE num = ?", ((num,) for num in purged.tolist()))
        names = {record.name for record in segments}
        return self._next(
            documents=self._documents,
            next_num=self._next_num,
            segments=segments,
            lexical=lexical,
            anns=tuple(record for record in self._manifest.anns if record.detail["segment"] in names),
        )

    def _merge(self, dead: Int64Array, *, merge_all: bool) -> tuple[tuple[SegmentRecord, ...], Int64Array]:
        """Seal the new rows, alone or with the segments that the policy absorbs.

        Returns:
            The segments of the next generation, and the tombstones that no segment needs any more.
        """
        old = [self._reader(record) for record in self._manifest.segments]
        live = [int((~np.isin(segment.nums, dead)).sum()) for segment in old]
        absorbed = segments_to_absorb(live, self._segment.rows if self._segment else 0)
        if merge_all:
            settled = len(old) == 1 and self._segment is None and live[0] == len(old[0].nums)
            absorbed = 0 if settled else len(old)
        border = len(old) - absorbed
        kept = [segment for segment, rows in zip(old[:border], live[:border], strict=True) if rows]
        new = rewrite(self._index, self._manifest, old[border:], self._segment, dead)
        needed = np.concatenate([np.empty(0, dtype=np.int64), *(segment.nums for segment in kept)])
        records = [segment.record for segment in kept] + ([new] if new else [])
        return tuple(records), np.setdiff1d(dead, needed)

    def _reader(self, record: SegmentRecord) -> Segment:
        return Segment(self._index, record, RowShape.of(self._manifest))

    def _clean(self) -> None:
        """Remove what no generation names: leftovers of a crash, and directories that this commit replaced."""
        named = {record.directory for record in self._manifest.records}
        with contextlib.suppress(OSError):  # what stays behind costs space, not truth; the next writer tries again
            for parent in (*DIRECTORIES.values(), "tmp"):
                fs.make_directory(self._index / parent)
                for path in (self._index / parent).iterdir():
                    if f"{parent}/{path.name}" not in named and path.is_dir():
                        fs.remove_tree(path)
