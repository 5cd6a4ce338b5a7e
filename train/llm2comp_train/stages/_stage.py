"""What a training stage is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backbones import Backbone
    from llm2comp_apps.encoder.network import CompressionNetwork
    from llm2comp_apps.encoder.protocol import TextEncoder
    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.data.store import TokenStore
    from llm2comp_train.engine.processes import Processes
    from llm2comp_train.engine.work import Work
    from llm2comp_train.judging.live import LiveEncoder
    from llm2comp_train.settings import Settings

__all__ = ["Bench", "Family", "Rows", "Stage"]

Rows = Literal["text", "sentences", "pairs", "any"]
"""What a row of a stage's data is: a whole text, a sentence of a text, a query with its answers, any of these."""
Family = Literal["adapting", "contrastive", "aligning", "reranking"]
"""Stages of a family share the settings that a recipe has for the family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a run lays before its stage.

    Attributes:
        settings: of the stage.
        network: what is trained.
        backbone: its LLM and tokenizer.
        store: the rows of :meth:`Stage.read` as token ids.
        processes: who shares the work.
        live: the network as an encoder.
        teachers: what :meth:`Stage.teachers` loaded.
        prompts: what the queries of each data file begin with; empty strings where there are no queries.
        folder: of the run, for what the stage has to keep beside its checkpoints.
        init: the encoder that the run started from, if any.
        say: takes a line that says what is being prepared.
    """

    settings: Settings
    network: CompressionNetwork
    backbone: Backbone
    store: TokenStore
    processes: Processes
    live: LiveEncoder
    teachers: Sequence[TextEncoder]
    prompts: Sequence[str]
    folder: Path
    init: Path | None
    say: Callable[[str], None] = lambda _line: None

    @property
    def pad_id(self) -> int:
        """Token id to pad with."""
        return int(self.backbone.tokenizer.pad_token_id or 0)


class Stage(ABC):
    """One kind of training.

    Attributes:
        name: as `stage` spells it.
        about: one line for people.
        family: whose settings of a recipe it takes.
        rows: what its data are made of.
        readout: what the vectors of a text are read from; ``None`` to keep what the encoder has.
        decodes: the whole LM reads memory, beside what the encoder runs.
        reranks: what it makes scores pairs of texts, and is no encoder.
        embeds: texts are read for their embeddings and for nothing else, so that those of a pass may stand in one row,
            and token embeddings be rounded.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    family: ClassVar[Family]
    rows: ClassVar[Rows]
    readout: ClassVar[str | None] = None
    decodes: ClassVar[bool] = False
    reranks: ClassVar[bool] = False
    embeds: ClassVar[bool] = False

    @property
    def has_queries(self) -> bool:
        """Whether rows have a query, which a prompt may precede."""
        return self.rows in ("pairs", "any")

    def check(self, settings: Settings) -> None:
        """Refuse settings with which this stage cannot run; called before anything is loaded.

        Raises:
            UsageError: naming the setting.
        """
        if self.family == "contrastive" and settings.batch_size < 2:
            reason = f"must be at least 2 in stage {self.name}, which tells the texts of a batch apart"
            raise UsageError(f"{reason}, not {settings.batch_size}", field="batch_size")

    @abstractmethod
    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:
        """Rows of a data file; ``prompt`` goes in front of queries.

        Raises:
            CorpusError: a broken row, by file and line.
        """

    def teachers(self, settings: Settings, device: str) -> list[TextEncoder]:  # noqa: ARG002 - for those that have some
        """Other encoders that the stage learns from; loaded before anything is written."""
        return []

    @abstractmethod
    def work(self, bench: Bench) -> Work:
        """What a step does, and how held-out rows fare."""
