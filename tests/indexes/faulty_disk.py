"""A disk that fails on demand and forgets what was not synced, under everything an index writes.

Our own files are watched through `storage.fs.observed`, those of SQLite through a VFS below its checksum VFS. That VFS
must be there before the index room makes its first connection, so this is a program of its own. Files that tantivy
writes count as synced once the directory that holds them is: tantivy calls fdatasync on each of them itself.

    python faulty_disk.py errors DIRECTORY --error full|io|short [--first N] [--stride N]
    python faulty_disk.py power-loss DIRECTORY [--stride N] [--seed N]

Prints one JSON line: what was tried, what survived, and how often the index said so in one line (`refused`).
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import apsw
from llm2comp_indexes import Index, IndexStoreError
from llm2comp_indexes.storage import fs

SQLITE_ERRORS = {"full": apsw.FullError, "io": apsw.IOError}
SYSTEM_ERRORS = {"full": errno.ENOSPC, "io": errno.EIO}


class Disk:
    """Counts operations, fails one of them, and knows what would survive a power cut."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        self.fail_at = 0
        self.error = ""
        self.before_each: Callable[[], None] | None = None
        self._content: dict[Path, bytes] = {}  # of each file, as it was synced
        self._listing: dict[Path, set[str]] = {}  # names in each directory, as it was synced
        self._database: dict[Path, bytearray] = {}
        self._unsynced: dict[Path, list[tuple[int, bytes]]] = {}
        self._pending: Callable[[], None] | None = None

    def mine(self, path: str | Path | None) -> bool:
        """Whether a file belongs to the index under test."""
        return path is not None and Path(path).is_relative_to(self.root)

    def announce(self) -> bool:
        """Count an operation; returns whether it must fail. A full disk stays full for a while."""
        self.settle()
        if self.before_each is not None:
            self.before_each()
        self.count += 1
        if self.error == "full":
            return self.fail_at <= self.count < self.fail_at + 50 and self.fail_at > 0
        return self.count == self.fail_at

    def settle(self) -> None:
        """Let the last operation of our own take effect: it was announced before it happened."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending()

    def observe(self, operation: str, path: Path, size: int) -> int:
        """The observer of `llm2comp_indexes.storage.fs`."""
        if operation.startswith("point:") or not self.mine(path):
            return size
        writing = operation not in ("fsync_directory", "remove")
        if self.announce():
            if self.error == "short":
                return max(1, size // 2) if operation == "write" else size
            if writing or self.error == "io":
                raise OSError(SYSTEM_ERRORS[self.error], "injected", str(path))
        if operation == "open":
            self._content[path] = b""
        elif operation == "fsync":
            self._pending = lambda: self._content.__setitem__(path, path.read_bytes())
        elif operation == "fsync_directory":
            self._pending = lambda: self._sync_directory(path)
        elif operation == "rename":
            self._pending = lambda: self._renamed(path)
        return size

    def _renamed(self, target: Path) -> None:
        """What was synced in a directory still is; its new name waits for the parent to be synced."""
        (source,) = {path for path in self._listing if path.name == target.name} or {target}
        self._listing[target] = self._listing.pop(source, set())
        for path in [path for path in self._content if path.parent == source]:
            self._content[target / path.name] = self._content.pop(path)

    def _sync_directory(self, directory: Path) -> None:
        if directory.is_dir():
            self._listing[directory] = {path.name for path in directory.iterdir()}
            for path in directory.iterdir():
                if path.is_file() and path not in self._content:  # tantivy's, which syncs them itself
                    self._content[path] = path.read_bytes()

    def write_database(self, path: Path, offset: int, data: bytes) -> None:
        """A write of SQLite's: it may or may not survive until the next sync."""
        self._unsynced.setdefault(path, []).append((offset, data))

    def sync_database(self, path: Path) -> None:
        """A sync of SQLite's: everything before it survives."""
        image = self._database.setdefault(path, bytearray())
        for offset, data in self._unsynced.pop(path, []):
            _apply(image, offset, data)

    def truncate_database(self, path: Path, size: int) -> None:
        """A truncation of SQLite's, taken as immediate."""
        self.sync_database(path)
        del self._database[path][size:]

    def delete_database(self, path: Path) -> None:
        """A deletion of SQLite's, taken as immediate."""
        self._database.pop(path, None)
        self._unsynced.pop(path, None)

    def after_power_loss(self, target: Path, chance: random.Random) -> None:
        """What is on the platter: synced bytes under synced names, and any part of what SQLite had not synced."""
        self._restore(self.root, target)
        for path in set(self._database) | set(self._unsynced):
            image = bytearray(self._database.get(path, b""))
            for offset, data in self._unsynced.get(path, []):
                if chance.random() < 0.5:
                    _apply(image, offset, data[: chance.randint(1, len(data))])
            copy = target / path.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(image)

    def _restore(self, directory: Path, copy: Path) -> None:
        copy.mkdir()
        for name in self._listing.get(directory, ()):
            path = directory / name
            if path in self._listing:
                self._restore(path, copy / name)
            elif not name.startswith("store.db"):
                (copy / name).write_bytes(self._content.get(path, b""))

    def adopt(self) -> None:
        """Take what is there now, a freshly made index, as durable."""
        for path in [self.root, *self.root.rglob("*")]:
            if path.is_dir():
                self._sync_directory(path)
            elif path.name.startswith("store.db") and not path.name.endswith("-shm"):
                self._database[path] = bytearray(path.read_bytes())


def _apply(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class FaultyVFS(apsw.VFS):
    """SQLite's file system, reporting to a `Disk`."""

    disk: Disk | None = None

    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return FaultyFile(name, flags)

    def xDelete(self, filename, sync_directory):
        disk = FaultyVFS.disk
        if disk is not None and disk.mine(filename):
            _fail(disk, apsw.SQLITE_IOERR_DELETE)
            disk.delete_database(Path(filename))
        super().xDelete(filename, sync_directory)


class FaultyFile(apsw.VFSFile):
    """One file of SQLite's."""

    def __init__(self, name, flags) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.path = Path(path) if path else None
        super().__init__("unix", name, flags)

    def _disk(self) -> Disk | None:
        disk = FaultyVFS.disk
        return disk if disk is not None and disk.mine(self.path) else None

    def xWrite(self, data, offset):
        if disk := self._disk():
            _fail(disk, apsw.SQLITE_IOERR_WRITE)
            disk.write_database(self.path, offset, bytes(data))
        super().xWrite(data, offset)

    def xSync(self, flags):
        if disk := self._disk():
            _fail(disk, apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        if disk:
            disk.sync_database(self.path)

    def xTruncate(self, size):
        if disk := self._disk():
            _fail(disk, apsw.SQLITE_IOERR_TRUNCATE)
            disk.truncate_database(self.path, size)
        super().xTruncate(size)


def _fail(disk: Disk, code: int) -> None:
    if disk.announce() and disk.error in SQLITE_ERRORS:
        error = SQLITE_ERRORS[disk.error]("injected")
        error.extendedresult = code if disk.error == "io" else apsw.SQLITE_FULL
        raise error


def load_workload() -> ModuleType:
    """The module beside this one."""
    path = Path(__file__).with_name("workload.py")
    specification = importlib.util.spec_from_file_location("index_workload", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["index_workload"] = module
    specification.loader.exec_module(module)
    return module


@dataclass
class Report:
    """What `main` prints, also where a check fails."""

    tried: int = 0
    survived: int = 0
    refused: int = 0
    operations: int = 0


def run_with_errors(workload: ModuleType, directory: Path, error: str, first: int, stride: int, report: Report) -> None:
    """Fail the first operation, then the next, ... until the life of the index ends without a fault."""
    fail_at = first
    while True:
        target = directory / f"{error}-{fail_at}"
        disk = Disk(target)
        steps = list(workload.steps())
        workload.create(target).close()
        FaultyVFS.disk, disk.error, disk.fail_at = disk, error, fail_at
        done, failed_in, refusal = -1, None, ""
        try:
            with fs.observed(disk.observe):
                index = Index.open(target)
                for position, step in enumerate(steps):
                    failed_in = position
                    step.apply(index)
                    done = position
                failed_in = None
                index.close()
        except IndexStoreError as error_raised:
            refusal = str(error_raised)
        FaultyVFS.disk = None
        assert "\n" not in refusal
        report.refused += bool(refusal)
        if disk.count < fail_at:
            report.operations = disk.count
            return
        report.tried += 1
        check_and_finish(workload, target, steps, done, failed_in)
        report.survived += 1
        shutil.rmtree(target, ignore_errors=True)  # a thread of tantivy may still be closing its files
        fail_at += stride


def check_and_finish(workload: ModuleType, target: Path, steps: list, done: int, failed_in: int | None) -> None:
    """The index holds the last finished step, or all of the one that failed; and life goes on."""
    with Index.open(target) as index:
        assert index.verify() == []
        state = workload.contents(index)
        allowed = [steps[done].after if done >= 0 else {}]
        if failed_in is not None:
            allowed.append(steps[failed_in].after)
        assert state in allowed, (done, failed_in, state)
        for step in steps[max(done, 0) :]:
            step.apply(index)
        assert workload.contents(index) == steps[-1].after
        assert index.verify() == []


def run_with_power_loss(workload: ModuleType, directory: Path, stride: int, seed: int, report: Report) -> None:
    """Cut the power at every ``stride``-th operation, in a copy, while the original lives on."""
    target, wreck = directory / "index", directory / "wreck"
    chance = random.Random(seed)
    steps = list(workload.steps())
    workload.create(target).close()
    disk = Disk(target)
    disk.adopt()
    done, position = -1, 0

    def cut() -> None:
        if disk.count % stride:
            return
        FaultyVFS.disk, before = None, disk.before_each
        disk.before_each = None
        shutil.rmtree(wreck, ignore_errors=True)
        disk.after_power_loss(wreck, chance)
        report.tried += 1
        check_and_finish(workload, wreck, steps, done, position)
        report.survived += 1
        FaultyVFS.disk, disk.before_each = disk, before

    with Index.open(target) as index:
        FaultyVFS.disk, disk.before_each = disk, cut
        with fs.observed(disk.observe):
            for position, step in enumerate(steps):
                step.apply(index)
                done = position
        FaultyVFS.disk = None
    report.operations = disk.count


def main() -> None:
    """Run one class of faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["errors", "power-loss"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--error", choices=["full", "io", "short"], default="full")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    vfs = FaultyVFS()
    workload, report = load_workload(), Report()
    try:
        if options.mode == "errors":
            run_with_errors(workload, options.directory, options.error, options.first, options.stride, report)
        else:
            run_with_power_loss(workload, options.directory, options.stride, options.seed, report)
    finally:
        print(json.dumps(asdict(report)))
    vfs.unregister()


if __name__ == "__main__":
    main()
