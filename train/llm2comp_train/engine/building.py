"""From a backbone and perhaps an earlier encoder to the network of a stage, and from the network to an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backends.tokens import TOKEN_BITS, rounded_tokens
from llm2comp_apps.encoder.memory_layers import MemoryLayer
from llm2comp_apps.encoder.pairs import SEPARATOR
from llm2comp_apps.encoder.portable import without_folders
from llm2comp_apps.encoder.settings import ENCODE, RERANK
from llm2comp_apps.errors import UsageError
from llm2comp_train.data.alignment import ALIGNMENT, write_map
from llm2comp_train.engine.adapters import adapter_parts, build_network
from llm2comp_train.engine.full_weights import build_with_own_layers, layer_parts
from llm2comp_train.engine.machine import training_dtype

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backbones import Backbone
    from llm2comp_apps.encoder.network import CompressionNetwork
    from llm2comp_train.engine.work import Provenance
    from llm2comp_train.settings import Settings
    from llm2comp_train.stages import Stage

__all__ = ["build", "export"]


def build(backbone: Backbone, settings: Settings, init: Path | None, stage: Stage) -> CompressionNetwork:
    """The network that a stage trains, with its trainable weights marked.

    Raises:
        EncoderError: a stage that makes encoders was given a reranker to start from.
        TrainingError: the earlier encoder does not fit the backbone or the settings.
        UsageError: the backbone has no such layers, or the network has no weights of the kind that is to be trained.
    """
    before = None if init is None else checkpoint.read_settings(init, task=None if stage.reranks else ENCODE)
    of_memory = settings.train_weights == "memory"
    if settings.train_weights == "adapter" or (of_memory and not (before and before.own_layers)):
        _check_token_bits(settings)
        network = build_network(backbone, settings, init, stage.readout)
    else:
        network = build_with_own_layers(backbone, settings, init, stage.readout)
        network.compute_dtype = training_dtype(settings, str(network.memory_tokens.device))
        if not stage.decodes:
            network.drop_decoder()
            _round_tokens(network, settings.token_bits)
    if of_memory:
        _freeze_layers(network, stage)
    if stage.reranks:
        network.with_head(checkpoint.read_head(init) if init and before and before.task == RERANK else None)
    return network


def _freeze_layers(network: CompressionNetwork, stage: Stage) -> None:
    """Let the memory tokens learn alone, together with the layers that only they go through.

    Raises:
        UsageError: there are none.
    """
    if not network.k:
        reason = f"cannot be memory: stage {stage.name} reads the text itself here, without memory tokens"
        raise UsageError(reason, field="train_weights")
    own = {id(parameter) for parameter in network.parameters(recurse=False)}
    for module in network.modules():
        if isinstance(module, MemoryLayer):
            own |= {id(parameter) for parameter in module.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in own)


def _check_token_bits(settings: Settings) -> None:
    if settings.token_bits != TOKEN_BITS[0]:
        reason = f"must be {TOKEN_BITS[0]} without layers of the encoder's own, not {settings.token_bits}"
        raise UsageError(reason, field="token_bits")


def _round_tokens(network: CompressionNetwork, bits: int) -> None:
    """Let training read the token embeddings that a packed encoder has; eight bits move nothing worth learning."""
    if bits != TOKEN_BITS[0]:
        weight = network.lm.get_input_embeddings().weight
        rounded = rounded_tokens(weight.detach().float().cpu().numpy(), bits)
        weight.data.copy_(torch.from_numpy(rounded))


def export(
    directory: Path | None,
    network: CompressionNetwork,
    backbone: Backbone,
    settings: Settings,
    about: dict[str, Any],
    provenance: Provenance,
    *,
    name: str = "",
) -> None:
    """Write the encoder as it stands: a checkpoint that ``LLM2Comp.from_pretrained`` loads.

    Adapters and layers are rounded to float16, which halves the files; their weights lie far inside float16's range.

    Args:
        directory: made if missing; ``None`` to help the other processes gather sharded weights, and write nothing.
        network: whose weights.
        backbone: its LM and what to call it.
        settings: of the stage.
        about: how it was made; for people.
        provenance: what the stage adds.
        name: of the encoder; by default that of its backbone.
    """
    own = network.own_layers
    layers = layer_parts(network) if own else None
    adapter = None if own else adapter_parts(network, backbone, settings)
    if directory is None:
        return
    reranks = network.head is not None
    prompts = {"query": settings.query_prompt, "document": SEPARATOR if reranks else ""}
    described = checkpoint.EncoderSettings(
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        k=network.k,
        readout=network.readout.name,
        max_length=settings.encoder_length,
        prompts=prompts if settings.query_prompt or reranks else {},
        name=(name or f"llm2comp-{Path(backbone.name).name}") + ("-reranker" if reranks else ""),
        task=RERANK if reranks else ENCODE,
        training=without_folders({**about, **provenance.training}),  # the record of the run has the paths
        float32_layers=settings.float32_layers,
        layers=None if network.layers is None else list(network.layers),
        text_layers=network.text_layers,
        space=provenance.space,
    )
    if provenance.alignment is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_map(directory / ALIGNMENT, provenance.alignment)
    memory = network.memory_state()
    checkpoint.write(directory, described, memory, adapter, backbone.tokenizer, layers_state=layers, head=network.head)
