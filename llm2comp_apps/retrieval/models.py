"""The models of a collection, each loaded when it is needed first, and kept."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_indexes import Index
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE

from llm2comp_apps.encoder.names import given_encoder, source_of
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import first_line
from llm2comp_apps.retrieval.discovery import find_index
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.index_encoder import load_index_encoder, load_query_encoder
from llm2comp_apps.retrieval.rerank import (
    LIKELIHOOD,
    LTR,
    MEMORY,
    TOKENS,
    UPR,
    WORDS,
    LtrReranker,
    MemoryReranker,
    Reranker,
    TokensReranker,
    WordsReranker,
    load_joint_reranker,
    load_likelihood_reranker,
    load_upr_reranker,
)
from llm2comp_apps.retrieval.stopwatch import Stopwatch

if TYPE_CHECKING:
    from llm2comp_apps.retrieval.creation import NewIndex

__all__ = ["Models"]


@dataclass(slots=True)
class Models:
    """Encoders and rerankers of one index.

    Attributes:
        index: an open index.
        named: its encoder, by name or loaded; ``None`` for the one it remembers.
        named_for_queries: another one for the queries; ``None`` for the same.
        device: where they run; ``None`` for the best there is.
        stopwatch: counts the time of loading.
        is_new: the index was made together with them.
    """

    index: Index
    named: str | TextEncoder | None = None
    named_for_queries: str | TextEncoder | None = None
    device: str | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    is_new: bool = False
    _encoder: TextEncoder | None = None
    _query_encoder: TextEncoder | None = None
    _joint_rerankers: dict[str, Reranker] = field(default_factory=dict)

    @classmethod
    def of_new(cls, new: NewIndex, encoder: str | Path | TextEncoder, device: str | None) -> Models:
        """Make a new index and take the encoder that was loaded for it; as ``encoder`` it was given."""
        named = None if isinstance(encoder, str | Path) else encoder
        return cls(new.create(), named, device=device, is_new=True, _encoder=new.encoder)

    @classmethod
    def opened(
        cls,
        path: str | Path | None,
        encoder: str | Path | TextEncoder | None,
        query_encoder: str | Path | TextEncoder | None,
        device: str | None,
    ) -> Models:
        """Open an index, and take the encoders as somebody gave them: loaded, or by name or path.

        Raises:
            UsageError: there is no index, or one of them is no encoder.
            IndexStoreError: it is no index, or a damaged one.
        """
        named = None if encoder is None else given_encoder(encoder)
        for_queries = None if query_encoder is None else given_encoder(query_encoder, "query_encoder")
        stopwatch = Stopwatch()
        with stopwatch.part("open index"):
            index = Index.open(find_index(path), device=index_device(device))
        return cls(index, named, for_queries, device, stopwatch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, they are names, and load again where they are needed; encoders given as objects go along.

        Raises:
            UsageError: such an object cannot be pickled.
        """
        try:
            named = pickle.dumps((self.named, self.named_for_queries))
        except Exception as error:
            reason = f"cannot be pickled ({first_line(error)}); open the collection with its name"
            raise UsageError(reason, field="encoder") from error
        return _unpickled, (self.index, named, self.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Models:
        return replace(
            self, index=copy.deepcopy(self.index, memo), stopwatch=Stopwatch(), is_new=False, _joint_rerankers={}
        )

    @property
    def encoder(self) -> TextEncoder:
        """See :func:`.load_index_encoder`."""
        if self._encoder is None:
            with self.stopwatch.part("load encoder"):
                self._encoder = load_index_encoder(self.index, self.named, self.device)
        return self._encoder

    @property
    def query_encoder(self) -> TextEncoder:
        """See :func:`.load_query_encoder`."""
        if self.named_for_queries is None:
            return self.encoder
        if self._query_encoder is None:
            with self.stopwatch.part("load encoder"):
                self._query_encoder = load_query_encoder(self.index, self.named_for_queries, self.device)
        return self._query_encoder

    def reranker(self, name: str | Reranker) -> Reranker:
        """A reranker by name, see :mod:`.rerank`; by memory vectors, stored ones are read if there are.

        Raises:
            UsageError: it is no name, and no reranker either.
            EncoderError: it cannot be loaded.
        """
        if not isinstance(name, str):
            if isinstance(name, Reranker):
                return name
            raise UsageError(f"must be a reranker or the name of one, not {name!r:.60}", field="rerank")
        if name in (LTR, MEMORY):  # reads what the index stores now, and loads nothing
            return self.encoder_reranker(name)
        if name not in self._joint_rerankers:
            if name == TOKENS:
                _ = self.encoder  # loaded here, so that its time is counted once
            with self.stopwatch.part("load reranker"):
                self._joint_rerankers[name] = self._load(name)
        return self._joint_rerankers[name]

    def encoder_reranker(self, name: str, source: str | None = None) -> Reranker:
        """One that reads what the encoder makes of texts, or asks the language model under it.

        Args:
            name: ``memory``, ``tokens``, ``ltr``, ``words``, ``likelihood`` or ``upr``.
            source: loads the encoder by name where it is loaded already; ``None`` for what the index remembers.
        """
        stored = self.index.memory if self.index.memory_tokens else None
        if name == MEMORY:
            return MemoryReranker(self.encoder, stored)
        if name == TOKENS:
            return TokensReranker(self.encoder)
        if name in (LTR, WORDS):
            language = self.index.settings.get("language", DEFAULT_LANGUAGE)
            return LtrReranker.of(self.index.settings, language) if name == LTR else WordsReranker(language)
        if isinstance(self.named, str):
            source = self.named
        record = self.index.encoder
        encoder = source or source_of(record) or record["name"]
        if name == UPR:
            return load_upr_reranker(encoder, device=self.device)
        return load_likelihood_reranker(encoder, stored=stored, device=self.device)

    def _load(self, name: str) -> Reranker:
        if name in (TOKENS, LTR, WORDS, LIKELIHOOD, UPR):
            return self.encoder_reranker(name)
        return load_joint_reranker(name, self.device)


def _unpickled(index: Index, named: bytes, device: str | None) -> Models:
    encoder, query_encoder = pickle.loads(named)  # noqa: S301 - itself a part of a pickle that is being loaded
    return Models(index, encoder, query_encoder, device)
