"""Opening an index together with the encoder that built it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.cli._device import check_device
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.encoder import TextEncoder

__all__ = ["encoder_record", "load_index_encoder", "load_named_encoder"]


def load_named_encoder(name: str, device: str | None = None) -> TextEncoder:
    """Load an encoder (imports torch).

    The garbage collector rests meanwhile: it would walk the growing heap of torch's and transformers' modules again and
    again, a fifth of the loading time, and none of what it sees is garbage.

    Raises:
        UsageError: there is no such device here.
        EncoderError: the encoder cannot be found or loaded.
    """
    gc.disable()
    try:
        check_device(device)
        from llm2comp_apps.encoder import load_encoder

        return load_encoder(name, device=device)
    finally:
        gc.freeze()
        gc.enable()


def encoder_record(encoder: TextEncoder, source: str) -> dict[str, str]:
    """What an index remembers of its encoder: enough to refuse another one, and to load this one again."""
    from llm2comp_apps.encoder import FALLBACK

    if source == "default" and encoder.name.startswith(FALLBACK):
        source = FALLBACK  # what default means may change with the next version; what built this index does not
    return {"name": encoder.name, "fingerprint": encoder.fingerprint, "source": _absolute(source)}


def _absolute(source: str) -> str:
    """A name of an encoder as it can be loaded from any folder."""
    from llm2comp_apps.encoder import split_baseline

    if source.startswith("baseline:"):
        kind, backbone = split_baseline(source)
        return source if backbone is None else f"baseline:{kind}@{_absolute(backbone)}"
    directory = Path(source).expanduser()
    return str(directory.resolve()) if directory.is_dir() and source != "default" else source


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
