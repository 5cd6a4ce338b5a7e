"""Servers of this user that run on this machine: each writes down where it listens and what it serves.

A program that starts often, such as ``llm2comp mcp``, asks a server that is there, and so loads no model of its own.
The folder belongs to the user alone; what is written there was so by a program of the same user.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Running", "announced", "find_running", "running_folder"]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that announced itself.

    Attributes:
        url: where it listens.
        names: of the indexes that were asked for, in that order, as it serves them.
        key: whether it wants a key.
        write: whether its clients may change indexes.
    """

    url: str
    names: tuple[str, ...]
    key: bool
    write: bool


def running_folder() -> Path | None:
    """Where servers write themselves down; ``None`` where no variable names a folder, and this user has no home."""
    try:
        base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "llm2comp" / "running"


@contextlib.contextmanager
def announced(url: str, indexes: Mapping[str, Path], *, key: bool, write: bool) -> Iterator[None]:
    """Let programs of this user find a server while the block runs.

    A machine on which nothing can be written down has a server that is not found, and no error.

    Args:
        url: where it listens.
        indexes: folders by the names under which they are served.
        key: whether it wants a key.
        write: whether its clients may change indexes.
    """
    folder = running_folder()
    if folder is None:
        yield
        return
    record = {
        "url": url,
        "indexes": {name: str(path.resolve()) for name, path in indexes.items()},
        "key": key,
        "write": write,
    }
    path = folder / f"{os.getpid()}.json"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(json.dumps(record), "utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def find_running(indexes: Sequence[Path], *, write: bool = False) -> Running | None:
    """A server that serves all of these indexes.

    Args:
        indexes: their folders.
        write: only one whose clients may change them.
    """
    wanted = [str(path.resolve()) for path in indexes]
    folder = running_folder()
    for path in sorted(folder.glob("*.json")) if folder and folder.is_dir() else ():
        record = _record(path)
        names = {place: name for name, place in record.get("indexes", {}).items()}
        if all(place in names for place in wanted) and record["write"] >= write:
            return Running(record["url"], tuple(names[place] for place in wanted), record["key"], record["write"])
    return None


def _record(path: Path) -> dict[str, Any]:
    """What a server wrote down; empty if it has ended, as after kill -9, or if it is none."""
    try:
        os.kill(int(path.stem), 0)
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            path.unlink()
        return {}
    return found if isinstance(found, dict) and {"url", "indexes", "key", "write"} <= found.keys() else {}
