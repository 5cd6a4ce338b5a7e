"""A new index: everything that can be wrong with its settings is found before anything is written."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.retrieval.blueprint import IndexBlueprint
from llm2comp_apps.retrieval.lengths import check_chunk
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.rerank import encode_memory_with
from llm2comp_apps.retrieval.settings import IndexSettings

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["NewIndex", "draw_blueprint", "remove_unfilled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIndex:
    """An index that can be made; :meth:`create` makes it.

    Attributes:
        path: where nothing is yet.
        settings: as wanted.
        encoder: makes the vectors.
        record: what the index remembers of the encoder.
        plan: how a document becomes vectors.
    """

    path: Path
    settings: IndexSettings
    encoder: TextEncoder
    record: dict[str, str]
    plan: EmbeddingPlan

    @classmethod
    def prepare(
        cls,
        path: str | Path,
        settings: IndexSettings,
        *,
        encoder: str | Path | TextEncoder = "default",
        device: str | None = None,
    ) -> NewIndex:
        """Load the encoder and check that the settings fit it; nothing is written.

        Args:
            path: a folder that does not exist, or is empty.
            settings: of the index.
            encoder: by name, or loaded; the index remembers a name only.
            device: where the encoder runs; ``None`` for the best there is.

        Raises:
            UsageError: a setting makes no sense with this encoder.
            EncoderError: the encoder cannot be found or loaded.
            KindError: FAISS can make nothing of the kind.
        """
        from llm2comp_indexes import check_kind

        from llm2comp_apps.encoder import encoder_record, load_encoder
        from llm2comp_apps.encoder.names import given_encoder

        encoder = given_encoder(encoder)
        if isinstance(encoder, str):
            loaded = load_encoder(encoder, device=device)
            record = encoder_record(loaded, encoder)
        else:
            loaded = encoder
            record = {"name": encoder.name, "fingerprint": encoder.fingerprint}
        check_kind(settings.policy, loaded.dimension)
        plan = replace(settings.plan, prompt=loaded.prompts.get("document", ""))
        check_chunk(plan, loaded)
        if plan.memory:
            encode_memory_with(loaded)
        return cls(path=Path(path), settings=settings, encoder=loaded, record=record, plan=plan)

    @property
    def blueprint(self) -> IndexBlueprint:
        """What another machine needs to make the same index."""
        return IndexBlueprint(
            dimension=self.encoder.dimension,
            encoder=self.record,
            settings={**self.settings.of_search, **self.plan.to_settings()},
            memory_tokens=encode_memory_with(self.encoder).k if self.plan.memory else 0,
        )

    def create(self) -> Index:
        """Make the empty index.

        Raises:
            IndexExistsError: the path is taken.
            IndexWriteError: the folder cannot be made.
        """
        return self.blueprint.create(self.path)


def remove_unfilled(index: Index) -> None:
    """Close an index that was made for what then failed; without a commit it goes, so that its path is free again."""
    from llm2comp_indexes import IndexStoreError

    with suppress(IndexStoreError):
        index.refresh()  # another program may have filled it meanwhile
    index.close()
    if not index.generation:  # what is committed is whole, whatever failed afterwards
        shutil.rmtree(index.path, ignore_errors=True)


def draw_blueprint(
    *, encoder: str | TextEncoder = "default", device: str | None = None, **settings: Any
) -> IndexBlueprint:
    """Load an encoder once and check that the settings of an index fit it; nothing is written.

    Args:
        encoder: by name, or loaded.
        device: where it is loaded; ``None`` for the best there is.
        settings: those of :class:`~llm2comp_apps.retrieval.settings.IndexSettings`.

    Raises:
        UsageError: a setting makes no sense, or not with this encoder.
        EncoderError: the encoder cannot be found or loaded.
        KindError: FAISS can make nothing of the kind.
    """
    return NewIndex.prepare(Path(), IndexSettings(**settings), encoder=encoder, device=device).blueprint
