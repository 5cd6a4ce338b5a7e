"""A document of an index as an explanation needs it: text, stored memory vectors, and the encoder that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm2comp_apps.encoder.names import source_of
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError

__all__ = ["StoredText", "stored_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """Of a document, or of its first chunk where it was cut.

    Attributes:
        text: as it was embedded.
        memory: ``(k, d)``; ``None`` where the index stores none.
        encoder: a name that loads the encoder which made it.
        fingerprint: of that encoder; no other one can read the memory.
    """

    text: str
    memory: FloatArray | None
    encoder: str
    fingerprint: str


def stored_text(index: Path, document: str) -> StoredText:
    """Look a document up.

    Args:
        index: the folder.
        document: its id.

    Raises:
        UsageError: there is none of this id.
    """
    from llm2comp_indexes import Index

    with Index.open(index) as opened:
        try:
            (found,) = opened.get([document])
        except KeyError as error:
            raise UsageError(f"names {document!r}, which {index} does not hold", field="document") from error
        span = found.spans[0] if found.spans else None
        text = found.text[slice(*span)] if span else found.text
        memory = opened.memory([document], [span])[0] if opened.memory_tokens else None
        made_by = opened.encoder
    return StoredText(
        text=f"{found.title} {text}".strip() if found.title else text,
        memory=memory,
        encoder=source_of(made_by) or made_by["name"],
        fingerprint=made_by.get("fingerprint", ""),
    )
