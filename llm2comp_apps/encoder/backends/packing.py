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

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.backends.exported import CARRIED, LAYERS, Manifest, read_manifest
from llm2comp_apps.encoder.settings import SETTINGS
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

    from llm2comp_apps.encoder.model import LLM2Comp

__all__ = ["pack_encoder", "packed_layers", "read_packed_layers"]

_PRODUCTS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_NORMS = {"before_attention": "input_layernorm", "before_feed_forward": "post_attention_layernorm"}


def pack_encoder(encoder: LLM2Comp, directory: Path) -> Manifest:
    """Write a checkpoint that needs neither its backbone nor torch.

    Args:
        encoder: loaded in float32, on the CPU; on a backbone like Llama, Mistral or Qwen2, whose layers have separate
            projections and two norms.
        directory: made if missing.

    Raises:
        EncoderError: the backbone is of another kind, or int8 moves the vectors too far.
    """
    from llm2comp_apps.encoder import checkpoint
    from llm2comp_apps.encoder.backends.export import export_encoder
    from llm2comp_apps.encoder.fingerprints import network_digest

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


def read_packed_layers(directory: Path) -> tuple[dict[str, Tensor], str]:
    """The layers of a packed checkpoint in float32, as torch names them, and the digest of their file.

    Raises:
        EncoderError: missing or damaged.
    """
    manifest = read_manifest(directory / CARRIED)
    return packed_layers(directory), manifest.files[LAYERS][1]


def packed_layers(directory: Path) -> dict[str, Tensor]:
    """``layers.0.self_attn.q_proj.weight``, ... as :meth:`.network.CompressionNetwork.layer_weights` names them."""
    import torch

    arrays = open_arrays(directory / CARRIED / LAYERS)
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        place, _, what = name.rpartition(".")
        owner, _, part = place.rpartition(".")
        if what == "integers":
            weight = array * arrays[f"{place}.scales"]
            found[f"{owner}.{_PRODUCTS[part]}.weight"] = torch.from_numpy(weight.T.copy())
        elif what == "bias":
            found[f"{owner}.{_PRODUCTS[part]}.bias"] = torch.from_numpy(array.copy())
        elif what == "gain":
            module = "norm" if place == "norm" else f"{owner}.{_NORMS.get(part, part)}"
            found[f"{module}.weight"] = torch.from_numpy(array.copy())
    return found
