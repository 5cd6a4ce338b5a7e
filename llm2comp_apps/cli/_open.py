"""Opening an index together with the encoder that built it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.encoder import encoder_record, load_encoder
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder import TextEncoder

__all__ = ["encoder_record", "load_index_encoder", "load_named_encoder"]


def load_named_encoder(name: str, device: str | None = None) -> TextEncoder:
    """See :func:`llm2comp_apps.encoder.load_encoder`."""
    return load_encoder(name, device=device)


def load_index_encoder(index: Index, name: str | None = None, device: str | None = None) -> TextEncoder:
    """Load the encoder of an index: the one it remembers, or the one that is named.

    Raises:
        EncoderError: it cannot be found; or the index does not say which it was (imported vectors).
    """
    source = index.encoder.get("source")
    if source is None:
        raise EncoderError(
            f"{index.path} does not say which encoder made its vectors, so it can be searched by words only "
            "(--mode lexical); import the vectors again with --encoder to search them by meaning"
        )
    if name is not None:
        return load_named_encoder(name, device)
    try:
        return load_named_encoder(source, device)
    except EncoderError as error:
        raise EncoderError(
            f"{error} ({index.path} was built with this encoder; if it lies elsewhere now, name it with --encoder)"
        ) from error
