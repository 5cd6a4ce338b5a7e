"""Digests that tell encoders apart, computed without loading a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.cache import remembered_sha256
from llm2comp_apps.encoder.checkpoint import weights_file
from llm2comp_apps.encoder.readout import DEFAULT_READOUT
from llm2comp_apps.encoder.settings import RERANK
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    import numpy.typing as npt

    from llm2comp_apps.encoder.settings import EncoderSettings

__all__ = ["checkpoint_digests", "encoder_fingerprint", "fingerprint_of", "network_digest", "with_head"]

_MEMORY = "memory_tokens.safetensors"
_HEAD = "head.safetensors"


def fingerprint_of(parts: Mapping[str, Any]) -> str:
    """Hex digest of a JSON-shaped description."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def encoder_fingerprint(settings: EncoderSettings, memory: npt.NDArray[Any], weights_sha256: str) -> str:
    """Digest of everything that changes a vector of a checkpoint.

    The precision that it runs in is no part of it: every precision that is offered gives the same vectors up to a
    cosine that was measured (:mod:`.backends`), and an index made by one is searched by the others.

    Args:
        settings: with the pooling and the maximum length that are used.
        memory: the memory tokens, ``(k, d)``.
        weights_sha256: digest of the file with the adapter or the encoder's own layers; empty where there is none.
    """
    return fingerprint_of(
        {
            "kind": "llm2comp",
            "backbone": settings.backbone_sha256,
            "adapter": weights_sha256,
            "memory": _memory_digest(memory),
            "pooling": settings.pooling,
            "max_length": settings.max_length,
            "prompts": dict(settings.prompts),
            # Left out where it is the usual one, so that fingerprints in indexes stay as they are.
            **({} if settings.readout == DEFAULT_READOUT.name else {"readout": settings.readout}),
            **({} if settings.layers is None else {"layers": settings.layers}),
            **_text_layers(settings),
            **_tokens(settings),
        }
    )


def network_digest(settings: EncoderSettings, memory: npt.NDArray[Any], weights_sha256: str) -> str:
    """Digest of the network alone: what turns token ids into memory vectors, whatever is read from these."""
    return fingerprint_of(
        {
            "backbone": settings.backbone_sha256,
            "weights": weights_sha256,
            "memory": _memory_digest(memory),
            "readout": settings.readout,
            "layers": settings.layers,
            **_text_layers(settings),
            **_tokens(settings),
        }
    )


def checkpoint_digests(
    directory: Path, settings: EncoderSettings, sha256: Callable[[Path], str] = remembered_sha256
) -> tuple[str, str]:
    """:func:`encoder_fingerprint` and :func:`network_digest` of a checkpoint on disk.

    Args:
        directory: of the checkpoint.
        settings: with the pooling and the maximum length that are used.
        sha256: digest of a file.

    Raises:
        EncoderError: its memory tokens are missing or damaged, or its weights are missing.
    """
    path = directory / _MEMORY
    try:
        memory = open_arrays(path)["memory_tokens"]
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error
    file = weights_file(directory, settings)
    weights = sha256(file) if file else ""
    if settings.task == RERANK and (directory / _HEAD).is_file():
        weights = with_head(weights, sha256(directory / _HEAD))
    return encoder_fingerprint(settings, memory, weights), network_digest(settings, memory, weights)


def with_head(weights_sha256: str, head_sha256: str) -> str:
    """Digest of a reranker's weights and its head."""
    return fingerprint_of({"weights": weights_sha256, "head": head_sha256})


def _text_layers(settings: EncoderSettings) -> dict[str, int]:
    """Where the text stops; nothing where it goes through all layers."""
    return {} if settings.text_layers is None else {"text_layers": settings.text_layers}


def _tokens(settings: EncoderSettings) -> dict[str, int]:
    """What tells token embeddings from the backbone's; nothing where they are these."""
    return {} if settings.token_bits == 8 else {"token_bits": settings.token_bits}


def _memory_digest(memory: npt.NDArray[Any]) -> str:
    return fingerprint_of({"memory": memory.astype("float64").tolist()})
