"""What a task is, and what it may ask of an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.evaluation.results import TaskScores

__all__ = ["Embed", "Ranker", "Role", "Search", "Task"]

Role = Literal["query", "document"]
Data = TypeVar("Data")


class Embed(Protocol):
    """Embeds texts for one task: the encoder, the task's prompts and the cache are behind it."""

    def __call__(self, texts: Sequence[str], role: Role = "query") -> FloatArray:
        """``(n, d)`` rows in the order of ``texts``. Symmetric tasks embed everything as ``query``."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """A retrieval system without embeddings (BM25): only retrieval tasks can use it."""

    @property
    def name(self) -> str:
        """A short name for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that changes a ranking."""
        ...

    def search(
        self, corpus: Mapping[str, str], queries: Mapping[str, str], top_k: int, titles: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, float]]:
        """The ``top_k`` best documents of each query.

        Args:
            corpus: texts by document id, each with its title in front.
            queries: texts by query id.
            top_k: how many documents.
            titles: of documents that have one, for what weighs them.

        Returns:
            ``{query id: {document id: score}}``.
        """
        ...


class Search(Protocol):
    """A way of searching that makes a ranker of an encoder, or needs none.

    :func:`llm2comp_apps.retrieval.judged.search_rows` makes those of this program.
    """

    @property
    def needs_encoder(self) -> bool:
        """Whether it makes a row with each encoder, instead of one row."""
        ...

    def ranker(self, encoder: TextEncoder | None = None, source: str | None = None) -> Ranker:
        """What ranks the documents of a task; ``source`` is the name by which the encoder was loaded."""
        ...


@dataclass(frozen=True)
class Task(ABC, Generic[Data]):
    """One dataset with one way of scoring it.

    Attributes:
        name: the dataset's name, ``NAME:SPLIT`` where the split is not the one usually reported.
        load: reads the data; each evaluation calls it again, so that a table over many tasks holds one at a time.
        origin: where the data come from and what was drawn from them (file, split, sample), for the report.
        files: what ``load`` reads; a score is kept for as long as their content is the same.
    """

    name: str
    load: Callable[[], Data]
    origin: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    category: ClassVar[str]
    main_metric: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-shaped settings that decide the score, apart from encoder and prompts."""
        return dict(self.origin)

    def texts(self) -> list[tuple[Role, list[str]]]:
        """What :meth:`evaluate` embeds, call by call, to say before how much work there is; empty if that is unknown.

        Raises:
            EvaluationError: the data cannot be read.
        """
        return []

    @abstractmethod
    def evaluate(self, embed: Embed) -> TaskScores:
        """Embed the dataset and score it."""
