"""How a network is put on the machine: number formats, kernels, and what saves time or memory layer by layer."""

from __future__ import annotations

import torch
from torch import nn

from llm2comp_apps.encoder.backbones import Backbone, default_dtype, load_backbone
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.packing import PACKED, varlen_kernel
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_train.engine.optimizers import check_optimizer
from llm2comp_train.engine.processes import Processes
from llm2comp_train.engine.recompute import checkpoint_layers
from llm2comp_train.engine.sharding import shard_layers
from llm2comp_train.settings import Settings

__all__ = ["fit_to_machine", "layers_of", "load_for_training", "training_dtype"]


def training_dtype(settings: Settings, device: str) -> torch.dtype:
    """Number format of the matrix products."""
    dtype = getattr(torch, settings.dtype, None) or default_dtype(device)
    return torch.float32 if dtype is torch.float16 else dtype  # whose gradients underflow


def load_for_training(settings: Settings, device: str) -> Backbone:
    """The backbone, its weights in a format whose gradients do not underflow.

    Raises:
        EncoderError: it cannot be loaded, or it is of a family whose layers are kept in another way.
        UsageError: texts are to be packed on a GPU, and PyTorch has no kernel for that, or none with dropout; or it has
            not the optimiser.
    """
    check_optimizer(settings)
    if settings.attention == PACKED and device.startswith("cuda"):
        if varlen_kernel() is None:
            raise UsageError("cannot be packed on a GPU before PyTorch 2.10: pip install -U torch", field="attention")
        if settings.attention_dropout:
            raise UsageError(
                "must be 0 on a GPU where `attention` is packed: its kernel has none", field="attention_dropout"
            )
    dtype = training_dtype(settings, device) if settings.train_weights == "adapter" else torch.float32
    # The fused attention kernel has no fast backward pass on CPUs for short texts.
    attention = {"auto": "eager" if device == "cpu" else "sdpa"}.get(settings.attention, settings.attention)
    backbone = load_backbone(settings.backbone, device=device, dtype=dtype, attn_implementation=attention)
    _require_layers(backbone)
    return backbone


def _require_layers(backbone: Backbone) -> None:
    """Refuse a family such as GPT-2, BLOOM or Falcon before anybody looks up what its linear layers are called.

    Raises:
        EncoderError: its layers are not where those of other families are.
    """
    if not isinstance(getattr(backbone.lm.get_decoder(), "layers", None), nn.ModuleList):
        raise EncoderError(
            f"backbone {backbone.name}: {type(backbone.lm).__name__} keeps its layers in a way that is not known here. "
            "Use a backbone of another family, such as Llama, Qwen, Mistral, Gemma, Phi or OLMo."
        )


def fit_to_machine(network: CompressionNetwork, settings: Settings, processes: Processes) -> None:
    """Gradient checkpointing, sharding, compilation, as the settings ask for them."""
    layers = layers_of(network)
    if settings.gradient_checkpointing:
        checkpoint_layers(layers)
    if settings.shard and processes.world > 1:
        shard_layers(layers, processes.device, processes.world)
        processes.in_step = True
    if settings.compile and settings.attention == PACKED and processes.device.startswith("cuda"):
        network.compile_packed()
    elif settings.compile:
        # Encoder, teacher and student, with padding and without, trained and not, are so many forms of one layer.
        torch._dynamo.config.recompile_limit = 16
        for layer in layers:
            layer.compile(dynamic=True)


def layers_of(network: CompressionNetwork) -> list[nn.Module]:
    """The layers of the LLM, and of the shallow encoder beside it, each once."""
    bodies = [network.base] if network.shallow is None else [network.base, network.shallow]
    return list(dict.fromkeys(layer for body in bodies for layer in _layers(body)))


def _layers(body: nn.Module) -> nn.ModuleList:
    layers = body.layers
    assert isinstance(layers, nn.ModuleList)
    return layers
