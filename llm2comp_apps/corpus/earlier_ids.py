"""Ids of files as version 0.1 made them, for what was built by it and is brought up to date now.

The id of a text of a folder was its path inside that folder, ``sub/a.md``; now the folder's name stands before it,
``notes/sub/a.md``, so that two folders keep apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.walk import find_files

__all__ = ["options_as_held"]

_SAMPLE = 500  # files whose ids are looked up
_FORMATS = ("txt", "md")  # files that were one document each


def options_as_held(
    held: Callable[[Sequence[str]], int], sources: Sequence[str | os.PathLike[str]], options: CorpusOptions
) -> CorpusOptions:
    """The options by which files get the ids that they have in an index or a clustering already.

    Args:
        held: how many of some ids are there.
        sources: the corpus.
        options: as wanted.

    Returns:
        The same options; or without ``folder_in_ids``, where more than half of the texts have their ids of version 0.1.
    """
    found = (file for file in find_files(sources, options) if file.found)
    files = list(islice((file for file in found if FORMAT_BY_SUFFIX.get(file.suffix) in _FORMATS), _SAMPLE))
    now, before = held([file.id for file in files]), held([file.relative for file in files])
    return replace(options, folder_in_ids=False) if before > max(now, len(files) // 2) else options
