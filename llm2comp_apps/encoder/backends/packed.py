"""The layers of a packed checkpoint (:mod:`.packing`) for torch: integers multiplied out, by its modules' names.

Only layers that are like Llama's have such names: separate projections, and one norm before each part.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.backends.exported import CARRIED, LAYERS, read_manifest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["packed_layers", "read_packed_layers"]

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
