"""A collection of a corpus: made where none is, else opened to be brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from llm2comp_apps.corpus import CorpusOptions, earlier_ids, read_corpus
from llm2comp_apps.corpus.files import readable_once
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.creation import NewIndex, remove_unfilled
from llm2comp_apps.retrieval.discovery import is_taken
from llm2comp_apps.retrieval.models import Models
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.settings import IndexSettings, check_same_settings

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["check_sources", "make_collection", "options_as_held"]


T = TypeVar("T")
Look: TypeAlias = "Callable[[Index | None, EmbeddingPlan, TextEncoder], T]"
"""Reads the corpus once, as :func:`~llm2comp_apps.retrieval.build.survey` does; the index is ``None`` before it is
made."""


@contextmanager
def make_collection(
    path: str | Path,
    settings: Mapping[str, Any],
    look: Look[T],
    *,
    encoder: str | None = None,
    device: str | None = None,
) -> Iterator[tuple[Collection, T]]:
    """Open the collection of a corpus or make it, after a look at the corpus: a broken one leaves nothing behind.

    Nor does what fails in the block before its first commit, such as a pipe that brings no document.

    Args:
        path: its folder.
        settings: those of :class:`~llm2comp_apps.retrieval.settings.IndexSettings` that were given; a collection that
            is there must have the same.
        look: at the corpus; may raise.
        encoder: by name; ``None`` for the one that the collection remembers, or the default.
        device: where the encoder runs; ``None`` for the best there is.

    Yields:
        The collection, and what ``look`` gave.

    Raises:
        UsageError: a setting makes no sense, or differs from that of the collection.
        EncoderError: the encoder cannot be found or loaded.
        IndexStoreError: the index cannot be read or made.
    """
    wanted = IndexSettings(**settings)
    if is_taken(Path(path)):
        library = Collection.open(path, encoder=encoder, device=device)
        check_same_settings(library.index, settings)
        yield library, look(library.index, library.plan, library.encoder)
        return
    new = NewIndex.prepare(path, wanted, encoder=encoder or "default", device=device)
    seen = look(None, new.plan, new.encoder)
    index = new.create()
    try:
        yield Collection(Models(index, new.encoder, device=device)), seen
    except BaseException:
        remove_unfilled(index)
        raise


def check_sources(sources: Sequence[str], options: CorpusOptions) -> bool:
    """Find out now if a source is missing, not after a model has been loaded.

    Returns:
        Whether all sources can be read more than once: standard input and pipes cannot.

    Raises:
        CorpusError: a source is missing.
    """
    read_corpus(sources, options)
    return not any(map(readable_once, sources))


def options_as_held(index: Index | None, sources: Sequence[str], options: CorpusOptions) -> CorpusOptions:
    """The options by which files get the ids that they have in an index already.

    Args:
        index: an open index; ``None`` before it is made.
        sources: the corpus.
        options: as wanted.
    """
    if index is None or not len(index):
        return options
    return earlier_ids.options_as_held(lambda ids: len(index.hashes(ids)), sources, options)
