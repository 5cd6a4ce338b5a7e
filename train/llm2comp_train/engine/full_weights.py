"""Training every weight of the encoder's layers: float32 copies of them, so that the decoder stays as it is.

An encoder is made shallow by leaving layers out, and what is left has to learn to do without the others: that is more
than an adapter can do. The copies start from the backbone's layers, with the adapter of an earlier encoder merged, or
from the layers of an earlier encoder that has its own. Token embeddings stay frozen: they are a large part of a small
model, and rare tokens would hardly be trained.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.memory_layers import text_layers_of
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.readout import DEFAULT_READOUT, READOUTS
from llm2comp_apps.errors import TrainingError
from llm2comp_train.engine.adapters import chosen_layers, require_same_origin, set_attention_dropout
from llm2comp_train.engine.sharding import whole

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backbones import Backbone
    from llm2comp_train.settings import Settings

__all__ = ["build_with_own_layers", "layer_parts"]

_IN_LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.*)\.lora_A\.weight")


def build_with_own_layers(
    backbone: Backbone, settings: Settings, init: Path | None, readout: str | None = None
) -> CompressionNetwork:
    """Copy the encoder's layers in float32 and mark them, the final norm and the memory tokens as trainable.

    Args:
        backbone: in float32, since copies of rounded weights would start from rounded weights.
        settings: of the stage.
        init: checkpoint to start from; ``None`` for the backbone's layers and fresh memory tokens.
        readout: what the stage reads a text's vectors from; ``None`` for what ``init`` reads them from.

    Raises:
        TrainingError: the checkpoint was made for another backbone, number of memory tokens, readout, or has other
            layers.
        UsageError: the backbone does not have the layers that ``settings`` name, or none is left for the text.
    """
    readout = readout or (checkpoint.read_settings(init, task=None).readout if init else DEFAULT_READOUT.name)
    torch.manual_seed(settings.seed)
    lm, k = backbone.lm, 0 if READOUTS[readout].of_text else settings.k
    lm.requires_grad_(False)
    if init is None:
        layers = settings.layer_numbers
        network = CompressionNetwork.fresh(lm, k, seed=settings.seed, layers=layers, own_layers=True)
    else:
        require_same_origin(init, backbone, settings, readout)
        layers = chosen_layers(init, settings)
        made, memory = checkpoint.read_settings(init, task=None), checkpoint.read_memory(init, k)
        everything = range(lm.config.num_hidden_layers)
        stop = text_layers_of(layers or everything, made.layers or everything, made.text_layers)
        network = CompressionNetwork(lm, **memory, layers=layers, own_layers=True, text_layers=stop)
        _start_from(network, init)
    network.read_by(readout, backbone.tokenizer)
    set_attention_dropout(network, settings.attention_dropout)
    embeddings = {id(parameter) for parameter in lm.get_input_embeddings().parameters()}
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(id(parameter) not in embeddings)
    for parameter in network.parameters(recurse=False):
        parameter.requires_grad_(settings.train_memory and k > 0)
    return network.to(lm.device)


def layer_parts(network: CompressionNetwork) -> dict[str, Tensor]:
    """The encoder's own layers for a checkpoint: float16, on the CPU, gathered if they are sharded."""
    return {name: whole(tensor).half() for name, tensor in network.layer_weights().items()}


def _start_from(network: CompressionNetwork, init: Path) -> None:
    """Give the copies the weights of an earlier encoder."""
    made = checkpoint.read_settings(init, task=None)
    layers: Any = network.encoder.layers
    kept = list(range(len(layers)) if network.layers is None else network.layers)
    if made.own_layers:
        weights, _ = checkpoint.read_layers(init)
        before = list(made.layers) if made.layers is not None else list(range(made_depth(weights)))
        network.load_layers(_renumbered(weights, [before.index(number) for number in kept]))
    elif checkpoint.weights_file(init, made) is not None:
        _merge_adapter(layers, {number: place for place, number in enumerate(kept)}, init)


def made_depth(weights: dict[str, Tensor]) -> int:
    """Layers in a file of layers."""
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))


def _renumbered(weights: dict[str, Tensor], places: list[int]) -> dict[str, Tensor]:
    """The weights of the layers at ``places``, counted from 0 in that order, and what lies outside layers."""
    found = {}
    for name, tensor in weights.items():
        parts = name.split(".", 2)
        if parts[0] != "layers":
            found[name] = tensor
        elif int(parts[1]) in places:
            found[f"layers.{places.index(int(parts[1]))}.{parts[2]}"] = tensor
    return found


@torch.no_grad()
def _merge_adapter(layers: Any, places: dict[int, int], init: Path) -> None:
    """``W + (alpha / r) B A`` in the layers that are keys of ``places``, which stand at its values."""
    from safetensors.torch import load_file

    config = json.loads((init / checkpoint.ADAPTER_CONFIG).read_text("utf-8"))
    scale, weights = config["lora_alpha"] / config["r"], load_file(init / checkpoint.ADAPTER_WEIGHTS)
    for name, down in weights.items():
        found = _IN_LAYER.fullmatch(name)
        if found is None or int(found[1]) not in places:
            continue
        up = weights[name.replace(".lora_A.", ".lora_B.")]
        try:
            target = layers[places[int(found[1])]].get_submodule(found[2]).weight
        except AttributeError as error:
            raise TrainingError(f"`init` {init}: its adapter does not fit the backbone ({error}).") from error
        target += scale * (up.float() @ down.float()).to(target.device)
