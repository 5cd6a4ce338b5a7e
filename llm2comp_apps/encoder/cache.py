"""Downloaded and derived files: ``$LLM2COMP_CACHE``, else ``$XDG_CACHE_HOME/llm2comp``, else ``~/.cache/llm2comp``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import write_text

__all__ = ["cache_dir", "directory_sha256", "file_sha256", "files_sha256", "remembered_sha256"]

_DIGESTS = "file-digests.json"


def cache_dir() -> Path:
    """The cache directory; it may not exist yet.

    Raises:
        UsageError: no variable names it, and the system knows no home of this user.
    """
    explicit, base = _named("LLM2COMP_CACHE"), _named("XDG_CACHE_HOME")
    try:
        if explicit:
            return Path(explicit).expanduser()
        return (Path(base).expanduser() if base else Path.home() / ".cache") / "llm2comp"
    except RuntimeError as error:
        raise UsageError("no home folder is known to keep a cache in; name a folder by $LLM2COMP_CACHE") from error


def _named(variable: str) -> str:
    """The value of a variable of the environment; empty for a blank one, which names no folder."""
    value = os.environ.get(variable, "")
    return value if value.strip() else ""


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def directory_sha256(directory: Path, patterns: tuple[str, ...]) -> str:
    """One hex SHA-256 over the names and contents of a directory's files that match ``patterns``."""
    return files_sha256(sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()}))


def files_sha256(files: Sequence[Path]) -> str:
    """One hex SHA-256 over the names and contents of files, each digest remembered."""
    digests = [f"{path.name}:{digest}" for path, digest in zip(files, _remembered(files), strict=True)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def remembered_sha256(path: Path) -> str:
    """:func:`file_sha256` of a file that has not changed since it was last asked for."""
    (digest,) = _remembered([path])
    return digest


def _remembered(files: Sequence[Path]) -> list[str]:
    """Digests of files. Weights run to many gigabytes: the cache keeps them by path, size and modification time."""
    known = _known_digests()
    digests, fresh = [], False
    for path in files:
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in known:
            known[key] = file_sha256(path)
            fresh = True
        digests.append(known[key])
    if fresh:
        _remember(known)
    return digests


def _known_digests() -> dict[str, str]:
    """The digest memory; empty where there is none, or none that can be read."""
    with suppress(OSError, ValueError, UsageError):
        known = json.loads((cache_dir() / _DIGESTS).read_text("utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _remember(known: dict[str, str]) -> None:
    """Write the digest memory; a cache that is read-only, full or nowhere only costs the next load some hashing."""
    with suppress(OSError, UsageError):
        memory_file = cache_dir() / _DIGESTS
        memory_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory_file, json.dumps(known, indent=0))
