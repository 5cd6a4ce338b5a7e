"""Where a result goes if nobody says: beside the corpus that it is made from."""

from __future__ import annotations

from pathlib import Path

from llm2comp_apps.corpus.files import COMPRESSION_SUFFIXES, FORMAT_BY_SUFFIX
from llm2comp_apps.corpus.walk import pattern_root

__all__ = ["beside"]

#: Endings that are taken off a corpus's name before that of the result is put on.
_SUFFIXES = {*FORMAT_BY_SUFFIX, *COMPRESSION_SUFFIXES}


def beside(source: str, suffix: str) -> Path:
    """The corpus's name with another ending: ``corpus.index`` beside ``corpus.jsonl.gz`` or beside a folder."""
    path = pattern_root(source) or Path(source)
    name = path.resolve().name if path.is_dir() else path.name
    while path.is_file() and Path(name).suffix.lower() in _SUFFIXES:
        name = Path(name).stem
    parent = path.resolve().parent if path.is_dir() else path.parent
    return parent / f"{name}{suffix}"
