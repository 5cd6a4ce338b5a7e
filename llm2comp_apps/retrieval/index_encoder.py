"""The encoder of an index: loaded by the name that the index remembers, and refused if its vectors are others.

Queries may also come from an encoder that was aligned to it, see :mod:`llm2comp_apps.encoder.space`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.encoder.space import same_space
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder.names import Identity

__all__ = ["UNKNOWN_ENCODER", "check_encoder", "check_query_encoder", "load_index_encoder", "load_query_encoder"]

UNKNOWN_ENCODER = {"name": "unknown", "fingerprint": "unknown"}
"""What an index says of vectors whose encoder nobody named. No encoder has this fingerprint, so no search takes them
for its own."""


def load_index_encoder(
    index: Index, encoder: str | TextEncoder | None = None, device: str | None = None
) -> TextEncoder:
    """Load the encoder of an index (imports torch).

    Args:
        index: an open index.
        encoder: its name, if it lies elsewhere now; an encoder that is loaded already; ``None`` for the one that the
            index remembers.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found, its vectors are not those of the index, or the index does not say which
            encoder made them (imported vectors).
    """
    if encoder is not None and not isinstance(encoder, str):
        check_encoder(index, encoder)
        return encoder
    from llm2comp_apps.encoder import load_encoder, source_of
    from llm2comp_apps.encoder.names import identity_of

    source = source_of(index.encoder)
    if index.encoder["fingerprint"] != UNKNOWN_ENCODER["fingerprint"] and source is encoder is None:
        raise EncoderError(
            f"{index.path} was built by the encoder {index.encoder['name']}, given as an object that no name "
            "loads, so it can be searched by words only here (`mode=lexical`); open it in Python with that object"
        )
    if source is encoder is None or index.encoder["fingerprint"] == UNKNOWN_ENCODER["fingerprint"]:
        raise EncoderError(
            f"{index.path} does not say which encoder made its vectors, so it can be searched by words only "
            "(`mode=lexical`); import the vectors again with their `encoder` to search them by meaning"
        )
    if encoder is not None and (known := identity_of(encoder)) is not None:
        check_encoder(index, known)  # before it is made ready, which may take half a minute
    try:
        loaded = load_encoder(encoder or str(source), device=device)
    except EncoderError as error:
        if encoder is not None:
            raise
        raise EncoderError(
            f"{error} ({index.path} was built with this encoder; if it lies elsewhere now, name it by `encoder`)"
        ) from error
    check_encoder(index, loaded)
    return loaded


def check_encoder(index: Index, encoder: TextEncoder | Identity) -> None:
    """Refuse an encoder whose vectors mean something else than those in the index.

    Raises:
        EncoderError: the fingerprints differ.
    """
    if index.encoder.get("fingerprint") != encoder.fingerprint:
        if same_space(encoder, index.encoder):
            raise EncoderError(
                f"{_two_encoders(index, encoder)}, which was aligned to it: search with the second as the "
                "`query_encoder`, or build the index again"
            )
        advice = "search with the first, or build another index with the second"
        if index.encoder.get("name") == encoder.name:  # so that the first cannot be told by its name
            advice = "it has other weights or settings now; build the index again, or name what built it by `encoder`"
        raise _other_vectors(index, encoder, advice)


def load_query_encoder(index: Index, encoder: str | TextEncoder, device: str | None = None) -> TextEncoder:
    """Load another encoder for the queries of an index.

    Raises:
        EncoderError: it cannot be found, or its queries mean nothing to the index.
    """
    if isinstance(encoder, str):
        from llm2comp_apps.encoder import load_encoder
        from llm2comp_apps.encoder.names import identity_of

        if (known := identity_of(encoder)) is not None:
            check_query_encoder(index, known)
        encoder = load_encoder(encoder, device=device)
    check_query_encoder(index, encoder)
    return encoder


def check_query_encoder(index: Index, encoder: TextEncoder | Identity) -> None:
    """Refuse an encoder of queries that is neither the index's own nor aligned to it.

    Raises:
        EncoderError: names both encoders.
    """
    if not same_space(encoder, index.encoder):
        raise _other_vectors(index, encoder, "search with the first, or with one that was aligned to it")


def _other_vectors(index: Index, encoder: TextEncoder | Identity, advice: str) -> EncoderError:
    return EncoderError(f"{_two_encoders(index, encoder)}: their vectors cannot be compared; {advice}")


def _two_encoders(index: Index, encoder: TextEncoder | Identity) -> str:
    built_by = index.encoder
    return (
        f"{index.path} was built with the encoder {built_by.get('name', 'unknown')} "
        f"(fingerprint {str(built_by.get('fingerprint'))[:12]}), not with {encoder.name} ({encoder.fingerprint[:12]})"
    )
