"""A folder and a collection that follows it: what is new is added, what changed replaced, what is gone deleted.

    from llm2comp_apps import Collection, FolderWatch

    with FolderWatch(Collection.open("notes.index"), "notes/") as watch:
        print(watch.sync())                  # once
        watch.run(on_report=print)           # until ctrl-C

Each look compares size and time of every file with those of the last; only files that differ are read, and only those
whose content differs are parsed. So a look at a folder in which nothing happened loads no model and takes a few
microseconds a file. It works alike on every file system, which news from the operating system does not.

- A file that changed within the last second may still be written, and waits for the next look.
- Of a file with broken records nothing is deleted until it is whole again.
- Where every file has gone at once, nothing is deleted: a disk that is not mounted looks just like that.
- Of a subfolder that cannot be read nothing is deleted until it can be.
- Documents of the collection that came from elsewhere stay as they are.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.files import SourceFile
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.reader import documents_of
from llm2comp_apps.corpus.readers import READERS
from llm2comp_apps.corpus.reading import FileReading
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.walk import find_files, printable
from llm2comp_apps.errors import CorpusError, UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.build import BuildProgress
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.discovery import default_index_path, is_taken
from llm2comp_apps.retrieval.making import options_as_held
from llm2comp_apps.retrieval.settings import check_same_settings
from llm2comp_apps.retrieval.watched_files import FileState, WatchedFiles

__all__ = ["FolderWatch", "SyncReport", "followed_index", "open_or_create"]

_BLOCK = 2**20
_DELETED = 4096
"""Documents deleted in one commit."""
_SETTLE = 1.0
"""Seconds that a file must have been left alone before it is read."""
_SHARE = 0.05
"""Of the time, at most, that is spent looking where nothing happens."""
_NAMED = 10
"""Folders that cannot be read which are named."""
_NAP = 0.2
"""Seconds between two questions whether to stop."""


@dataclass(slots=True)
class SyncReport:
    """What one look at a folder found and did.

    Attributes:
        files: files in the folder.
        changed: of these, read because they are new or their content changed.
        gone: files that are there no more.
        waiting: files that may still be written, left for the next look.
        added: documents encoded and committed, new ones and changed ones.
        unchanged: documents of changed files that the collection held just so.
        deleted: documents deleted.
        interrupted: ended early, because it was asked to; the next look continues.
        seconds: all the time.
        look_seconds: of these, what looking alone took.
        warnings: what is worth a word, each a finished line.
    """

    files: int = 0
    changed: int = 0
    gone: int = 0
    waiting: int = 0
    added: int = 0
    unchanged: int = 0
    deleted: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    look_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def news(self) -> bool:
        """Whether there is something to say."""
        return bool(self.added or self.deleted or self.warnings or self.interrupted)

    def __str__(self) -> str:
        return f"{self.files} files, {self.added} documents added, {self.deleted} deleted"


class FolderWatch:
    """Keeps a collection as a folder is; use it as a context manager, or close it.

    One at a time may follow a folder into a collection, since one program at a time can write to it.

    Args:
        library: the collection.
        folder: with files in any format of a corpus.
        options: how to read the files. A broken record is left out and said, whatever ``on_error``.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(
        self,
        library: Collection,
        folder: str | Path,
        *,
        options: CorpusOptions | None = None,
    ) -> None:
        check_folder(folder)
        self.library = library
        self.folder = Path(folder)
        options = replace(options or CorpusOptions(), on_error="skip")
        self._options = options_as_held(library.index, [str(folder)], options)
        self._how = _way_of_reading(self._options)
        self._files = WatchedFiles(library.path, self.folder)

    def __enter__(self) -> FolderWatch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; the collection stays open."""
        self._files.close()

    def run(
        self,
        *,
        interval: float = 2.0,
        should_stop: Callable[[], bool] = lambda: False,
        on_report: Callable[[SyncReport], None] | None = None,
        on_progress: Callable[[BuildProgress], None] | None = None,
    ) -> None:
        """Look again and again until asked to stop.

        What can pass by itself ends nothing: that another program writes to the collection, or that the folder cannot
        be read at the moment. It is reported, and the next look tries again.

        Args:
            interval: seconds between two looks; more where looking itself takes long.
            should_stop: asked five times a second, and after every slice of encoding.
            on_report: called after the first look, and after each that has news.
            on_progress: as in :meth:`.Collection.update`.

        Raises:
            UsageError: ``interval`` is not above 0.
        """
        if interval <= 0:
            raise UsageError(f"must be above 0, not {interval:g}", field="interval")
        first, told = True, set[str]()
        while True:
            report = self._tried(on_progress, should_stop)
            told, report.warnings = {*report.warnings}, [line for line in report.warnings if line not in told]
            if on_report is not None and (first or report.news):
                on_report(report)
            first = False
            until = time.monotonic() + max(interval, report.look_seconds / _SHARE)
            while not should_stop() and time.monotonic() < until:
                time.sleep(min(_NAP, interval))
            if should_stop():
                return

    def _tried(
        self, on_progress: Callable[[BuildProgress], None] | None, should_stop: Callable[[], bool]
    ) -> SyncReport:
        from llm2comp_indexes import IndexLockedError, IndexMissingError

        try:
            return self.sync(settle=_SETTLE, on_progress=on_progress, should_stop=should_stop)
        except (IndexLockedError, IndexMissingError, CorpusError) as error:
            return SyncReport(warnings=[f"{error}; tried again at the next look"])

    def sync(
        self,
        *,
        settle: float = 0.0,
        on_progress: Callable[[BuildProgress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SyncReport:
        """Look once, and bring the collection up to date.

        Args:
            settle: seconds that a file must have been left alone before it is read.
            on_progress: as in :meth:`.Collection.update`.
            should_stop: as in :meth:`.Collection.update`.

        Raises:
            CorpusError: the folder is not there or cannot be read; nothing is deleted.
            IndexLockedError: another program writes to the collection, or takes files of a folder in.
            IndexMissingError: the collection was removed.
        """
        start = time.perf_counter()
        report = SyncReport()
        self._renew()
        changed, gone = self._look(settle, report)
        report.look_seconds = time.perf_counter() - start
        if changed or gone:
            with self._files.alone():
                self._take_in(changed, gone, report, on_progress, should_stop)
        report.seconds = time.perf_counter() - start
        return report

    def _renew(self) -> None:
        """Begin anew where the index was removed and made again: it holds nothing of the folder then."""
        if self._files.replaced:
            self.library.index.refresh()  # complains where there is none
            self._files.close()
            self._files = WatchedFiles(self.library.path, self.folder)

    def _take_in(
        self,
        changed: dict[SourceFile, FileState],
        gone: list[str],
        report: SyncReport,
        on_progress: Callable[[BuildProgress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        known = self._files.states()  # another program may have done some of it since the look
        before = {path: state.digest for path, state in known.items()}
        for file, state in list(changed.items()):
            if state.digest == before.get(file.relative):  # of the same content as before, or taken in meanwhile
                self._files.set_state(file.relative, state)
                del changed[file]
        gone = [path for path in gone if path in known]
        report.changed, report.gone = len(changed), len(gone)
        if changed and not self._add(changed, report, on_progress, should_stop):
            report.interrupted = True
        elif gone:
            self._drop(gone, report)

    def _look(self, settle: float, report: SyncReport) -> tuple[dict[SourceFile, FileState], list[str]]:
        """The files that are new or have another size, time or content, and the paths of those that are gone."""
        known = self._files.states()
        changed: dict[SourceFile, FileState] = {}
        walked, seen = ReadReport(), set[str]()
        for file in self._walked(walked):
            report.files += 1
            if file.relative in seen:
                reason = "is not read: but for what is not UTF-8, its name is that of another file; rename one"
                report.warnings.append(f"{file.name}: {reason}")
                continue
            seen.add(file.relative)
            before = known.pop(file.relative, None)
            now = _state_of(file)
            if now is None or (before is not None and before.digest.startswith(self._how) and before.looks_like(now)):
                continue
            if 0 <= time.time() - now.modified / 1e9 < settle:
                report.waiting += 1
                continue
            now = replace(now, digest=self._digest(file))
            if now.digest:
                changed[file] = now
            else:
                report.warnings.append(f"{file.name}: cannot be read; what the index holds of it stays")
        gone = self._gone(known, walked)
        report.warnings += [f"{folder}; what the index holds of it stays" for folder in walked.passed_over[:_NAMED]]
        if (more := walked.unread.total() - _NAMED) > 0:
            report.warnings.append(f"{more} more folders of {self.folder} cannot be read")
        if gone and not report.files:
            line = f"{self.folder} holds no file any more: nothing is deleted, in case its disk is not mounted"
            report.warnings.append(line)
            return {}, []
        return changed, gone

    def _gone(self, unseen: Iterable[str], walked: ReadReport) -> list[str]:
        """Those of the files that were not seen that do not lie in a folder that could not be read."""
        if walked.unread.total() > len(walked.passed_over):  # more than a report remembers
            return []
        unread = tuple(f"{folder.path}/" for folder in walked.passed_over)
        return [path for path in unseen if not printable(self.folder / path).startswith(unread)]

    def _walked(self, report: ReadReport) -> Iterator[SourceFile]:
        if not self.folder.is_dir():
            raise CorpusError(f"{self.folder}: no such folder")
        return find_files([self.folder], self._options, report)

    def _digest(self, file: SourceFile) -> str:
        """Of the content and of how it is read; empty where it cannot be read now."""
        digest = hashlib.blake2b(digest_size=16)
        assert file.path is not None
        try:
            with file.path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        except OSError:
            return ""
        return self._how + digest.hexdigest()

    def _add(
        self,
        changed: Mapping[SourceFile, FileState],
        report: SyncReport,
        on_progress: Callable[[BuildProgress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> bool:
        """Take the documents of changed files in, and delete what these held before; whether all was done."""
        self._files.begin_look()
        reading, broken = ReadReport(), dict[str, bool]()
        documents = self._documents(changed, reading, broken, report)
        update = self.library.update(documents, on_progress=on_progress, should_stop=should_stop)
        report.added, report.unchanged = update.added, update.unchanged
        report.warnings += [*reading.warnings(), *update.warnings]
        if update.interrupted:
            return False
        whole = [file.relative for file in changed if file.relative not in broken]
        self._delete({path: self._files.claims(path, older=True) for path in whole}, report)
        for file, state in changed.items():
            again = broken.get(file.relative, False)
            self._files.set_state(file.relative, replace(state, digest="") if again else state)
        return True

    def _documents(
        self,
        changed: Mapping[SourceFile, FileState],
        reading: ReadReport,
        broken: dict[str, bool],
        report: SyncReport,
    ) -> Iterator[Document]:
        """The documents of files; ``broken`` gets those with faults, and whether to try them again as they are."""
        twice: list[str] = []
        for file in changed:
            before, read = reading.skipped + reading.unread.total(), FileReading(file, self._options, reading)
            for document in documents_of([read], self._options, reading):
                if self._files.claim(file.relative, document.id):
                    yield document
                else:
                    twice.append(f"{document.id!r} in {document.source}")
            if reading.skipped + reading.unread.total() > before:
                # Of a file that could not be read since the look, or has changed, nobody knows that it is broken.
                broken[file.relative] = read.failed or self._digest(file) != changed[file].digest
        if twice:
            more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
            report.warnings.append(f"an id stands for two documents, of which the first is taken: {twice[0]}{more}")

    def _drop(self, gone: Sequence[str], report: SyncReport) -> None:
        """Delete what files that are gone had brought."""
        self._files.begin_look()
        self._delete({path: self._files.claims(path, older=False) for path in gone}, report)
        for path in gone:
            self._files.forget(path)

    def _delete(self, held: Mapping[str, Sequence[str]], report: SyncReport) -> None:
        """Delete documents that their files no longer hold, but for those that other files hold, too."""
        with self._files.releasing(held) as ids:
            for block in batched(ids, _DELETED):
                report.deleted += self.library.delete(block).deleted


def followed_index(folder: str, device: str | None = None) -> str:
    """The index beside a folder that follows it, made where there is none.

    Raises:
        UsageError: there is no such folder.
        EncoderError: the default encoder cannot be loaded.
    """
    check_folder(folder, field="watch")
    path = default_index_path(folder)
    open_or_create(path, device=device).close()
    return str(path)


def check_folder(folder: str | Path, field: str = "folder") -> None:
    """Refuse what is no folder; ``field`` is the setting that names it.

    Raises:
        UsageError: says so.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"must be a folder: {folder} is none", field=field)


def open_or_create(
    path: str | Path, *, encoder: str | None = None, device: str | None = None, **settings: Any
) -> Collection:
    """Open a collection, or make an empty one where none is.

    Args:
        path: its folder.
        encoder: by name; ``None`` for the one that the collection remembers, or the default.
        device: where the encoder runs; ``None`` for the best there is.
        **settings: those of :meth:`.Collection.create` that were given; a collection that is there must have the same.

    Raises:
        UsageError: a setting makes no sense, or differs from that of the collection.
        EncoderError: the encoder cannot be found or loaded.
        IndexStoreError: the index cannot be read or made.
    """
    if not is_taken(Path(path)):
        return Collection.create(path, encoder=encoder or "default", device=device, **settings)
    library = Collection.open(path, encoder=encoder, device=device)
    check_same_settings(library.index, settings)
    return library


def _way_of_reading(options: CorpusOptions) -> str:
    """A digest of what decides what a file gives: the options, and the readers that are not installed (yet)."""
    missing = [name for name, form in READERS.items() if form.missing]
    told = repr(options) + (repr(missing) if missing else "")
    return hashlib.blake2b(told.encode(), digest_size=4).hexdigest()


def _state_of(file: SourceFile) -> FileState | None:
    """What a file looks like; ``None`` if it has vanished this moment."""
    assert file.path is not None
    try:
        found = file.path.stat()
    except OSError:
        return None
    return FileState(found.st_size, found.st_mtime_ns)
