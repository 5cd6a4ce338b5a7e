"""Everything that an index is made of but its documents: small, and the same on every machine that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.retrieval.plan import EmbeddingPlan

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["IndexBlueprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexBlueprint:
    """An index before it has documents.

    Attributes:
        dimension: of the vectors.
        encoder: what makes them: ``name``, ``fingerprint``, and the ``source`` that loads it.
        settings: as the index keeps them.
        memory_tokens: memory vectors of each row; 0 for none.
    """

    dimension: int
    encoder: Mapping[str, str]
    settings: Mapping[str, Any]
    memory_tokens: int = 0

    @property
    def plan(self) -> EmbeddingPlan:
        """How a document becomes vectors."""
        return EmbeddingPlan.from_settings(dict(self.settings))

    def load_encoder(self, device: str | None = None) -> TextEncoder:
        """Load the encoder.

        Raises:
            EncoderError: it cannot be found, or makes other vectors here.
        """
        from llm2comp_apps.encoder import load_encoder, source_of

        source = source_of(self.encoder)
        if source is None:
            raise EncoderError(f"the encoder {self.encoder['name']} has no name that loads it; give one that is loaded")
        loaded = load_encoder(source, device=device)
        self.check(loaded)
        return loaded

    def check(self, encoder: TextEncoder) -> None:
        """Refuse an encoder whose vectors are others.

        Raises:
            EncoderError: names both.
        """
        if encoder.fingerprint != self.encoder["fingerprint"]:
            raise EncoderError(
                f"the plan was made with the encoder {self.encoder['name']} "
                f"(fingerprint {self.encoder['fingerprint'][:12]}), and this is {encoder.name} "
                f"({encoder.fingerprint[:12]}): their vectors cannot be mixed"
            )

    def create(self, path: str | Path) -> Index:
        """Make the empty index.

        Raises:
            IndexExistsError: the path is taken.
            IndexWriteError: the folder cannot be made.
        """
        from llm2comp_indexes import Index

        return Index.create(
            path,
            dimension=self.dimension,
            encoder=dict(self.encoder),
            settings=dict(self.settings),
            memory_tokens=self.memory_tokens,
        )

    def check_index(self, index: Index) -> None:
        """Refuse an index that was made otherwise.

        Raises:
            UsageError: names what differs.
        """
        if index.encoder.get("fingerprint") != self.encoder["fingerprint"]:
            reason = f"{index.path} was built with the encoder {index.encoder.get('name')}, the vectors with"
            raise UsageError(f"{reason} {self.encoder['name']}; write to another index", field="output")
        for name in (*self.plan.to_settings(), "language"):
            if index.settings.get(name) != self.settings.get(name):
                reason = f"{index.path} was built with `{name}={index.settings.get(name)}`, the vectors with"
                raise UsageError(f"{reason} `{name}={self.settings.get(name)}`; write to another index", field="output")
