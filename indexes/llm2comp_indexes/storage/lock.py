"""One writer, any number of readers, by locks of the operating system: a killed process holds none."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from llm2comp_indexes.errors import IndexLockedError, IndexWriteError

__all__ = ["LOCK_NAME", "Pin", "WriterLock"]

LOCK_NAME = "LOCK"


class WriterLock:
    """The exclusive right to write to an index, held until `release`."""

    def __init__(self, index: Path) -> None:
        path = index / LOCK_NAME
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise IndexWriteError(f"{index}: cannot write here: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 64).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise IndexLockedError(f"{index}: {who} is writing to this index; try again when it is done") from None
        # The number only serves the message above, so a full disk must not stop us here.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next writer in."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


class Pin:
    """A shared lock on a directory of immutable files: a writer does not remove it while a reader holds one."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            directory.stat()  # removed between open and lock: gone for us too
        except (BlockingIOError, FileNotFoundError):
            self.release()
            raise FileNotFoundError(f"{directory} was removed") from None

    def release(self) -> None:
        """Allow the removal."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
