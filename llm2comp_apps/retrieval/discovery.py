"""Which index is meant when none is named, and where a new one goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm2comp_apps.corpus.files import readable_once
from llm2comp_apps.corpus.naming import beside
from llm2comp_apps.errors import UsageError

__all__ = ["INDEX_ENV", "default_index_path", "find_index", "is_taken", "new_index_path"]

INDEX_ENV = "LLM2COMP_INDEX"
_SUFFIX = ".index"


def find_index(
    named: str | Path | None, *, environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> Path:
    """Find the index to use: the one named, else ``$LLM2COMP_INDEX``, else the one ``*.index`` in the directory.

    Args:
        named: what the person gave, if anything.
        environ: instead of ``os.environ``.
        directory: instead of the working directory.

    Raises:
        UsageError: nothing was named and the directory holds no index or several, or what was named does not exist.
    """
    if named is not None:
        return _existing(Path(named), "")
    from_environment = (os.environ if environ is None else environ).get(INDEX_ENV)
    if from_environment:
        return _existing(Path(from_environment), f" (from ${INDEX_ENV})")
    directory = Path() if directory is None else directory
    found = sorted(path for path in directory.glob(f"*{_SUFFIX}") if path.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"no index here: {directory.resolve()} holds no *{_SUFFIX} folder; name one, or make one with: "
            "llm2comp index build CORPUS"
        )
    names = ", ".join(path.name for path in found)
    raise UsageError(f"several indexes here ({names}); name one, or set ${INDEX_ENV}")


def _existing(path: Path, origin: str) -> Path:
    if path.is_file():
        raise UsageError(f"{path}{origin} is a file, not an index; an index is the folder that a build makes")
    if not path.is_dir():
        raise UsageError(f"no index at {path}{origin}; make one with: llm2comp index build CORPUS")
    return path


def new_index_path(sources: Sequence[str], output: Path | None = None) -> Path:
    """Where the index of a corpus goes.

    Args:
        sources: the corpus.
        output: as wanted; ``None`` for beside the corpus.

    Raises:
        UsageError: a file has that name, or the corpus lies in several places or in none.
    """
    if output is None:
        if len(sources) > 1:
            raise UsageError("is needed to place the index of several corpora", field="output")
        return default_index_path(sources[0])
    if output.is_file():
        reason = f"{output} is a file, not an index; an index is a folder, such as {output.stem}{_SUFFIX}"
        raise UsageError(reason, field="output")
    return output


def is_taken(path: Path) -> bool:
    """Whether something is there already, an empty folder aside."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def default_index_path(source: str) -> Path:
    """Where an index goes if nobody says: ``corpus.index`` beside ``corpus.jsonl.gz`` or beside a folder.

    Raises:
        UsageError: the corpus is standard input or a pipe, which lies beside nothing.
    """
    if readable_once(source):
        what = "standard input" if source == "-" else "a pipe"
        raise UsageError(f"is needed to place the index of {what}", field="output")
    return beside(source, _SUFFIX)
