"""Opening an index together with the encoder that built it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder import TextEncoder

__all__ = ["encoder_record", "encoder_source", "load_named_encoder"]


def load_named_encoder(name: str, device: str | None = None) -> TextEncoder:
    """Load an encoder (imports torch)."""
    from llm2comp_apps.encoder import load_encoder

    return load_encoder(name, device=device)


def encoder_record(encoder: TextEncoder, source: str) -> dict[str, str]:
    """What an index remembers of its encoder: enough to refuse another one, and to load this one again."""
    if Path(source).is_dir():
        source = str(Path(source).resolve())
    return {"name": encoder.name, "fingerprint": encoder.fingerprint, "source": source}


def encoder_source(index: Index) -> str:
    """What to load for searching an index, when nothing else is asked for.

    Raises:
        EncoderError: the index does not say (its vectors were imported).
    """
    record = index.encoder
    source = record.get("source") or record.get("name")
    if not source:
        raise EncoderError(
            f"{index.path} does not say which encoder made its vectors; name it with --encoder, or use --mode lexical"
        )
    return source
