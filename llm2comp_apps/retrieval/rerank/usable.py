"""Which rerankers an index can use, found without loading any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.encoder.locate import is_local, locate_checkpoint
from llm2comp_apps.encoder.names import parse_name, source_of
from llm2comp_apps.encoder.settings import RERANK, SETTINGS, EncoderSettings, read_settings
from llm2comp_apps.errors import LLM2CompError
from llm2comp_apps.retrieval.rerank.ltr import Network

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["UsableReranker", "usable_lines", "usable_rerankers"]

_PLACES = tuple(f"{folder}{SETTINGS}" for folder in ("", "*/", "encoder/", "*/encoder/", "runs/*/encoder/"))
_MOST = 5  # folders that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableReranker:
    """A reranker.

    Attributes:
        name: as a search takes it; empty for any cross-encoder.
        about: what it reads, in a few words.
        experimental: it was not seen to raise a score.
    """

    name: str
    about: str
    experimental: bool = False

    def line(self) -> str:
        """The reranker for people."""
        about = f"{self.about}; experimental" if self.experimental else self.about
        return f"{self.name} ({about})" if self.name else about


def usable_rerankers(index: Index) -> list[UsableReranker]:
    """The rerankers that searches of an index can use.

    Folders of rerankers are looked for beside the index and in the working directory, in the places where training
    leaves them.
    """
    found = [UsableReranker(name=name, about="a reranker of your own") for name in _folders(index.path)]
    if find_spec("sentence_transformers") is not None:
        found.append(UsableReranker(name="", about="any cross-encoder of sentence-transformers"))
    settings = _encoder_of(index)
    if index.memory_tokens:
        found.append(UsableReranker(name="memory", about="its vectors are stored", experimental=True))
    elif settings is not None and settings.readout == "memory":
        about = "its vectors are made for each query"
        found.append(UsableReranker(name="memory", about=about, experimental=True))
    learned = ", as this index has learned it" if Network.of(index.settings.get("ltr")) else ""
    found.append(UsableReranker(name="ltr", about=f"all that a hybrid search knows of its best hits{learned}"))
    found.append(UsableReranker(name="words", about="the words that tell the best hits apart"))
    if settings is not None:
        found.append(UsableReranker(name="tokens", about="the encoder reads the tokens of texts"))
    if settings is not None and settings.readout == "memory" and not settings.own_layers:
        found.append(UsableReranker(name="likelihood", about="the decoder reads memory vectors", experimental=True))
    if settings is not None:
        found.append(UsableReranker(name="upr", about="the language model reads texts", experimental=True))
    return found


def usable_lines(rerankers: list[UsableReranker]) -> list[str]:
    """The rerankers for people, a line each."""
    return [each.line() for each in rerankers]


def _folders(path: Path) -> Iterator[str]:
    here, seen = Path.cwd(), set[Path]()
    for place in (path.resolve().parent, here):
        for settings in (found for pattern in _PLACES for found in sorted(place.glob(pattern))):
            folder = settings.parent
            if folder in seen or len(seen) >= _MOST:
                continue
            try:
                made = read_settings(folder, task=None).task
            except LLM2CompError:
                continue
            if made == RERANK:
                seen.add(folder)
                yield str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _encoder_of(index: Index) -> EncoderSettings | None:
    """The settings of the checkpoint that made the index, where it lies on this machine."""
    name = source_of(index.encoder) or index.encoder.get("name", "")
    try:
        parsed = parse_name(name)
        if parsed.kind != "checkpoint" or not is_local(parsed.target):
            return None  # looking on the hub takes time
        return read_settings(locate_checkpoint(parsed.target))
    except LLM2CompError:
        return None
