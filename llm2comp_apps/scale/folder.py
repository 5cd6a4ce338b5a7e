"""Where a job lives: a folder that all its machines see, or a place in object storage.

    job/
      plan.json               what is to be done; written once
      parts/00017.parquet     a part that is done
      parts/00017.json        that it is: size, SHA-256, counts; written after the part
      leases/00017.json       who works on it, and when it was last heard of
      failures/00017.json     what went wrong with it so far

Files appear whole or not at all. Object storage goes by fsspec (``s3://bucket/job``), if its package for the protocol
is installed.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from llm2comp_apps import LLM2CompError, UsageError
from llm2comp_apps.files import replaced_file, sync

__all__ = ["JobFolder", "open_folder"]


class JobFolder(Protocol):
    """Files by name, names with ``/``."""

    @property
    def location(self) -> str:
        """Where it is, as a person would name it."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a file; ``None`` if it is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless it is there; whether it was not. Of several that call at once, one makes it."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def names(self, folder: str) -> dict[str, int]:
        """The files of a folder that are whole, with their sizes."""
        ...

    def upload(self, name: str) -> Any:
        """Context of a path to write a large file to, which gets its name when the block ends without an error."""
        ...

    def download(self, name: str) -> Any:
        """Context of a path to read a large file from."""
        ...


def open_folder(location: str | os.PathLike[str]) -> JobFolder:
    """A folder by its path, or a place in object storage by its URL.

    Raises:
        UsageError: the URL is of no protocol that fsspec knows.
        LLM2CompError: fsspec, or its package for the protocol, is not installed.
    """
    name = os.fspath(location)
    if "://" not in name:
        return _LocalFolder(Path(name))
    try:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(name)
    except ImportError as error:
        raise LLM2CompError(f"{name}: cannot be reached: {error}") from error
    except ValueError as error:
        raise UsageError(f"{name}: {error}", field="job") from error
    return _RemoteFolder(filesystem, root.rstrip("/"), name)


_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
"""How file systems without hard links say so."""


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class _LocalFolder:
    """A folder of a file system; on a network if need be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def location(self) -> str:
        return str(self._path)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        with self.upload(name) as path:
            path.write_bytes(data)

    def create(self, name: str, data: bytes) -> bool:
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: who is killed before its first byte must not leave an empty file that nobody gives back.
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            _write_new(fresh, data)
            try:
                os.link(fresh, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _write_new(target, data)
        except FileExistsError:
            return False
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def names(self, folder: str) -> dict[str, int]:
        found = {}
        with suppress(FileNotFoundError), os.scandir(self._path / folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):  # removed since
                        found[entry.name] = entry.stat().st_size
        return found

    @contextmanager
    def upload(self, name: str) -> Iterator[Path]:
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(target) as path:
            yield path

    @contextmanager
    def download(self, name: str) -> Iterator[Path]:
        yield self._path / name


class _RemoteFolder:
    """A place in object storage, where an upload is whole or not there."""

    def __init__(self, filesystem: Any, root: str, location: str) -> None:
        self._files, self._root, self.location = filesystem, root, location

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def read(self, name: str) -> bytes | None:
        self._files.invalidate_cache()
        try:
            data: bytes = self._files.cat_file(self._at(name))
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
        try:
            self._files.pipe_file(self._at(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def names(self, folder: str) -> dict[str, int]:
        self._files.invalidate_cache()
        try:
            entries = self._files.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return {}
        files = [entry for entry in entries if entry["type"] == "file"]
        return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in files}

    @contextmanager
    def upload(self, name: str) -> Iterator[Path]:
        with _scratch() as path:
            yield path
            sync(path)
            self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._at(name))

    @contextmanager
    def download(self, name: str) -> Iterator[Path]:
        with _scratch() as path:
            self._files.get_file(self._at(name), str(path))
            yield path


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="llm2comp-part-"))
    try:
        yield folder / secrets.token_hex(4)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
