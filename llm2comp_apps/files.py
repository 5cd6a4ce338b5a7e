"""Files and folders that appear whole or not at all, and the first line of what went wrong.

Whatever is replaced is written beside its place, synced to disk, and renamed over it: a crash, a full disk or ctrl-C
leaves what was there before. The index has its own, ``llm2comp_indexes.storage``, whose every step is fault-tested.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "check_writable",
    "first_line",
    "locked_file",
    "replaced_file",
    "replaced_folder",
    "sync",
    "why",
    "write_text",
]

_OF_SYSTEM = re.compile(r"\(os error (\d+)\)\s*$")
"""How safetensors and tokenizers, written in Rust, end the message of an error that the operating system reported."""
_BEING_FILLED = re.compile(r"\..+\.new", re.DOTALL)
"""Name of a folder that is being filled for another."""


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """Write a file that takes the place of ``target`` when the block ends without an error.

    A pipe or a device cannot be replaced, or nothing would reach who reads it: it is written to as it is. Of a link,
    such as ``/dev/stdout``, that to which it leads is replaced.

    Yields:
        Where to write; in the same folder, so that the rename is atomic.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        yield target
        return
    if target.is_symlink():
        target = target.resolve()
    # By chance, and not by the process: two machines that share the folder may have processes of one number.
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    try:
        yield fresh
        sync(fresh)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync(target.parent)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Fill a folder that takes the place of ``target`` when the block ends without an error.

    No file system replaces a folder that holds something in one step: between two renames ``target`` is missing for a
    moment, and a crash then leaves the old one beside it as ``.NAME.old``, which the next call puts back. Of several
    that write one target at once, each fills a folder of its own, and the last to end stays.

    Yields:
        An empty folder beside ``target``.

    Raises:
        OSError: the folder cannot be written, also where a library in the block says so by an error of its own kind.
    """
    old = target.with_name(f".{target.name}.old")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(target.parent):
        if old.is_dir() and not target.exists():
            old.rename(target)
        for left_behind in (old, *_abandoned(target)):
            _remove(left_behind)
        fresh = _own_folder(target)
        descriptor = os.open(fresh, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield fresh
        _readable_as_usual(fresh)
        for path in (*fresh.rglob("*"), fresh):
            sync(path)
        with _alone_in(target.parent):
            _swap(fresh, target, old)
            sync(target.parent)
            _remove(old)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(error, Exception) and not isinstance(error, OSError) and (found := _OF_SYSTEM.search(str(error))):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(target)) from error
        raise
    finally:
        os.close(descriptor)


@contextmanager
def locked_file(path: Path, held: Exception, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock of the operating system, which a killed process gives back, while the block runs.

    Where the file system has no locks, all go ahead.

    Args:
        path: file of the lock; made if missing.
        held: raised where another program has the lock.
        remove: the file is removed in the end; else it is left.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise held from None
        except OSError:  # no locks
            pass
        if remove and not _is_at(path, descriptor):  # its last holder removed it meanwhile; others may have made it
            raise held
        try:
            yield
        finally:
            if remove:
                with suppress(OSError):
                    path.unlink()
    finally:
        os.close(descriptor)


def check_writable(target: Path, *, folder: bool = False) -> None:
    """See that a result can be written, before hours of work are done for it.

    Something is made beside the target and removed again: permissions alone tell too little, a full disk no lie.

    Args:
        target: where it shall be.
        folder: it is a folder, whose parents are made, too; otherwise a file.

    Raises:
        OSError: it cannot; names the target.
    """
    if not folder and target.exists() and not (target.is_file() or target.is_dir()):  # a pipe, which is written to
        return
    place = (target.resolve() if target.is_symlink() else target.absolute()).parent
    while folder and not place.exists():
        place = place.parent
    probe = place / f".{target.name}.{secrets.token_hex(8)}.new"
    try:
        if target.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def write_text(target: Path, text: str) -> None:
    """Replace a file by one with this text, in UTF-8."""
    with replaced_file(target) as fresh:
        fresh.write_text(text, "utf-8")


def sync(path: Path) -> None:
    """Bring a file's or a folder's changes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip()


def why(error: BaseException | None) -> str:
    """How a line of a log ends: one of our errors says what to do, and of any other its class says most."""
    if error is None:
        return ""
    ours = hasattr(error, "exit_code")  # of either tree
    return f": {first_line(error)}" if ours else f": {type(error).__name__}: {first_line(error)}"


def _readable_as_usual(folder: Path) -> None:
    """Let files in a folder be read by whoever may read the folder, as a plain ``open`` would have made them.

    safetensors makes its files for their owner alone, so that an encoder trained by one user could not be loaded by
    the next, or by the user that a container runs as.
    """
    usual = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | usual)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one at a time begin and end in a folder; where the file system has no locks, all go ahead."""
    if _BEING_FILLED.fullmatch(folder.name):  # its own filler holds it to the end, and is the only one there
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _own_folder(target: Path) -> Path:
    """Make the folder to fill: ``.NAME.new``, or one with a name by chance where somebody is filling that."""
    try:
        (usual := target.with_name(f".{target.name}.new")).mkdir()
    except FileExistsError:
        (other := target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")).mkdir()
        return other
    return usual


def _abandoned(target: Path) -> list[Path]:
    """What was being filled for ``target`` by those who live no more: nobody holds a lock on it."""
    of_target = re.compile(rf"\.{re.escape(target.name)}(\.[0-9a-f]{{16}})?\.new", re.DOTALL)
    left = []
    for path in target.parent.iterdir():
        kind = of_target.fullmatch(path.name)
        if kind and not (kind[1] and not path.is_dir()) and not _is_held(path):  # else of a replaced file, without lock
            left.append(path)
    return left


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _remove(path: Path) -> None:
    """Remove a folder, or a file that stood in its place; what cannot be removed stays, and does no harm."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _swap(fresh: Path, target: Path, old: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
