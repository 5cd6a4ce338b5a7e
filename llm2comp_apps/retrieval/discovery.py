"""Which index a command means when none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llm2comp_apps.corpus.files import COMPRESSION_SUFFIXES, FORMAT_BY_SUFFIX
from llm2comp_apps.errors import UsageError

__all__ = ["INDEX_ENV", "default_index_path", "find_index"]

INDEX_ENV = "LLM2COMP_INDEX"
_SUFFIX = ".index"
#: Endings that are taken off a corpus's name before ``.index`` is put on.
_CORPUS_SUFFIXES = {*FORMAT_BY_SUFFIX, *COMPRESSION_SUFFIXES}


def find_index(
    named: str | Path | None,
    *,
    origin: str = "--index",
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Path:
    """Find the index to use: the one named, else ``$LLM2COMP_INDEX``, else the one ``*.index`` in the directory.

    Args:
        named: what the person gave, if anything.
        origin: where the person gives it, for messages.
        environ: instead of ``os.environ``.
        directory: instead of the working directory.

    Raises:
        UsageError: nothing was named and the directory holds no index or several, or what was named does not exist.
    """
    if named is not None:
        return _existing(Path(named), origin)
    from_environment = (os.environ if environ is None else environ).get(INDEX_ENV)
    if from_environment:
        return _existing(Path(from_environment), f"${INDEX_ENV}")
    directory = Path() if directory is None else directory
    found = sorted(path for path in directory.glob(f"*{_SUFFIX}") if path.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"no index here: {directory.resolve()} holds no *{_SUFFIX} directory; name one with {origin}, "
            "or make one with: llm2comp index build CORPUS"
        )
    names = ", ".join(path.name for path in found)
    raise UsageError(f"several indexes here ({names}); name one with {origin} or ${INDEX_ENV}")


def _existing(path: Path, origin: str) -> Path:
    if path.is_file():
        raise UsageError(f"{path} (from {origin}) is a file, not an index; an index is the folder that a build makes")
    if not path.is_dir():
        raise UsageError(f"no index at {path} (from {origin}); make one with: llm2comp index build CORPUS -o {path}")
    return path


def default_index_path(source: str) -> Path:
    """Where ``index build`` writes when not told: ``corpus.index`` beside ``corpus.jsonl.gz`` or beside a folder.

    Raises:
        UsageError: the corpus is standard input, which lies beside nothing.
    """
    if source == "-":
        raise UsageError("a corpus from standard input has no place of its own; say where the index goes with -o DIR")
    path = Path(source)
    name = path.resolve().name if path.is_dir() else path.name
    while path.is_file() and Path(name).suffix.lower() in _CORPUS_SUFFIXES:
        name = Path(name).stem
    parent = path.resolve().parent if path.is_dir() else path.parent
    return parent / f"{name}{_SUFFIX}"
