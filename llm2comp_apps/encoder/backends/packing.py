"""A checkpoint that works by itself: its folder ``graph`` holds all that encoding needs, rounded to 8 bits.

    encoder.json, memory_tokens.safetensors, README.md    as in every checkpoint
    graph/                                                an export (:mod:`.exported`)

The rounded weights are the encoder's own weights then, its only ones: torch multiplies the integers out again and runs
them in its own precision, so both runtimes have one encoder and one fingerprint. A checkpoint of twelve layers of the
default backbone has 76 MB, of which 42 are layers and 30 token embeddings.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backends.export import export_encoder
from llm2comp_apps.encoder.backends.exported import CARRIED, LAYERS, Manifest
from llm2comp_apps.encoder.backends.packed import packed_layers
from llm2comp_apps.encoder.fingerprints import network_digest
from llm2comp_apps.encoder.settings import SETTINGS
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_apps.encoder.model import LLM2Comp

__all__ = ["pack_encoder"]


def pack_encoder(encoder: LLM2Comp, directory: Path) -> Manifest:
    """Write a checkpoint that needs neither its backbone nor torch.

    Args:
        encoder: loaded in float32, on the CPU; on a backbone like Llama, Mistral or Qwen2, whose layers have separate
            projections and two norms.
        directory: made if missing.

    Raises:
        EncoderError: the backbone is of another kind, or int8 moves the vectors too far.
    """
    with checkpoint.replaced(directory) as fresh:
        return _pack(encoder, fresh)


def _pack(encoder: LLM2Comp, directory: Path) -> Manifest:
    checkpoint.write(directory, encoder.settings, encoder.network.memory_state(), None)
    (directory / SETTINGS).unlink()  # comes last
    manifest = export_encoder(encoder, directory / CARRIED, "int8")
    found, expected = set(packed_layers(directory)), set(encoder.network.layer_weights())
    if found != expected:
        raise EncoderError(
            f"{encoder.name} cannot be packed: the layers of its backbone have other parts "
            f"({', '.join(sorted(found ^ expected)[:3])}, ...)"
        )
    settings = replace(encoder.settings, own_layers=True).in_its_format()
    memory = encoder.network.memory_tokens.detach().numpy()
    manifest = replace(manifest, network=network_digest(settings, memory, manifest.files[LAYERS][1]))
    manifest.write(directory / CARRIED)
    text = json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n"
    (directory / SETTINGS).write_text(text, "utf-8")
    return manifest
