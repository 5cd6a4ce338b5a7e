"""How documents become what an index holds, and how a change of one is seen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from llm2comp_apps.corpus.chunking import MIN_CHUNK_TOKENS
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import CorpusError, UsageError

__all__ = ["EmbeddingPlan", "check_document"]


def check_document(document: Document) -> None:
    """Refuse a document whose parts are not what they are called.

    Raises:
        UsageError: it is no document, but a text for instance.
        CorpusError: the id, title or text is no text, the id is empty, or the metadata are no dictionary.
    """
    if not isinstance(document, Document):
        raise UsageError(f"must each be a Document(id, text), not {document!r:.60}", field="documents")
    for name, value in (("id", document.id), ("title", document.title), ("text", document.text)):
        if not isinstance(value, str):
            raise _refused(document, f"its {name} must be text, not {value!r:.60}")
    if not document.id:
        raise _refused(document, "its id is empty")
    if not isinstance(document.metadata, dict):
        raise _refused(document, f"its metadata must be a dictionary, not {document.metadata!r:.60}")


def _refused(document: Document, reason: object) -> CorpusError:
    where = f"{document.source}: " if document.source else ""
    return CorpusError(f"{where}document {document.id!r:.200} cannot be stored: {reason}")


def _field_that_is_no_json(document: Document) -> str:
    """Which field of the metadata cannot be written down, and what to do; empty if it is none of them."""
    for name, value in document.metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except TypeError as error:
            return f"{error}; make the field {name!r:.60} text, a number, a flag, a list or a dictionary"
        except ValueError as error:
            return f"{error}; leave the field {name!r:.60} out, or make it None"
        except RecursionError:
            break
    return ""


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """How a document becomes vectors; part of every content hash and kept in the index's settings.

    Attributes:
        chunk: tokens per chunk; ``None`` gives one vector per document, of its first tokens if it is long.
        overlap: tokens that neighbouring chunks share at most.
        prompt: put in front of every text when encoding.
        memory: store memory vectors too, for reranking by them.
    """

    chunk: int | None = None
    overlap: int = 0
    prompt: str = ""
    memory: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that make no chunks.

        Raises:
            UsageError: says which.
        """
        if self.chunk is None:
            if self.overlap:
                raise UsageError("is between chunks; give their size as `chunk`", field="overlap")
            return
        if self.chunk < MIN_CHUNK_TOKENS:
            raise UsageError(f"must be at least {MIN_CHUNK_TOKENS} tokens, not {self.chunk}", field="chunk")
        if not 0 <= self.overlap < self.chunk:
            raise UsageError(f"must be at least 0 and below `chunk`, not {self.overlap}", field="overlap")

    def to_settings(self) -> dict[str, Any]:
        """As an index keeps it."""
        return {"chunk": self.chunk, "overlap": self.overlap, "prompt": self.prompt, "memory": self.memory}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> EmbeddingPlan:
        """The plan that an index was built by; what it does not say is the default."""
        known = {name: settings[name] for name in ("chunk", "overlap", "prompt", "memory") if name in settings}
        return cls(**known)

    def content_hash(self, document: Document, fingerprint: str) -> str:
        """Hex digest of everything that decides what the index holds of a document.

        Metadata belong to it: a document whose metadata changed must not stay as it was.

        Raises:
            CorpusError: something in the document cannot be written down: half a surrogate pair, metadata that are
                not JSON-shaped, not a number or nested too deep, or a NUL character in the name of a field.
        """
        from llm2comp_indexes import check_metadata

        parts = [document.title, document.text, document.metadata, fingerprint, self.to_settings()]
        try:
            encoded = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            check_metadata(document.metadata, encoded)
            digest = hashlib.blake2b(encoded.encode(), digest_size=16)
        except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate is a ValueError
            raise _refused(document, _field_that_is_no_json(document) or error) from error
        return digest.hexdigest()
