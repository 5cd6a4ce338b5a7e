"""An encoder's network as a plain transformers model: no adapter, no code of ours, memory tokens in its vocabulary.

The memory tokens become rows of the token embeddings, and ``config.is_causal = false`` makes attention bidirectional
(transformers 5.2 and later). Layers that do not run are not there. What comes out of ``AutoModel.from_pretrained`` then
gives the memory tokens the very states that :meth:`.network.CompressionNetwork.memory` reads.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from llm2comp_apps.encoder.shallow import layer_weights

if TYPE_CHECKING:
    from llm2comp_apps.encoder.network import CompressionNetwork

__all__ = ["write_body"]


def write_body(network: CompressionNetwork, memory_ids: Sequence[int], folder: Path, dtype: torch.dtype) -> None:
    """Write ``config.json`` and ``model.safetensors``.

    Args:
        network: with float32 weights, its adapter merged.
        memory_ids: the token ids that stand for the memory tokens, one each; none where the text's own states are read.
        folder: there already.
        dtype: that weights are stored in. They are computed with in float32, which ``config.json`` says: half precision
            is for the download, and whoever wants it at work asks for it when loading.
    """
    body: Any = network.encoder
    table = _table(network, memory_ids)
    config = copy.deepcopy(body.config)
    for name in ("quantization_config", "_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    config.update(
        {
            "architectures": [type(network.base).__name__],
            "is_causal": network.readout.causal,
            "use_cache": False,
            "vocab_size": len(table),
            "dtype": "float32",
        }
    )
    config.save_pretrained(folder)
    name = next(name for name, module in body.named_modules() if module is body.get_input_embeddings())
    weights = {f"{name}.weight": table, **layer_weights(body)}
    stored = {key: tensor.detach().to(dtype).contiguous() for key, tensor in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def _table(network: CompressionNetwork, memory_ids: Sequence[int]) -> Tensor:
    """Token embeddings ``(V, d)`` with the memory tokens in their rows."""
    weight: Tensor = network.lm.get_input_embeddings().weight.detach().float()
    if not memory_ids:
        return weight
    table = torch.zeros(max(len(weight), max(memory_ids) + 1), weight.shape[1])
    table[: len(weight)] = weight
    table[list(memory_ids)] = network.memory_tokens.detach().float() / _scale(network, weight)
    return table


def _scale(network: CompressionNetwork, weight: Tensor) -> float:
    """By what a look-up multiplies a row: 1, but for Gemma and its like the root of d."""
    row = int(weight.square().sum(1).argmax())
    looked_up = network.embed(torch.tensor([row]))[0].detach().float()
    return float((looked_up * weight[row]).sum() / weight[row].square().sum())
