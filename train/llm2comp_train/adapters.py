"""The trainable part: a LoRA adapter injected into the frozen LLM, memory tokens and gain beside it; and its export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import TrainingError

if TYPE_CHECKING:
    from peft import LoraConfig

    from llm2comp_apps.encoder.backbones import Backbone
    from llm2comp_train.recipes import Settings

__all__ = ["adapter_state", "build_network", "export", "trainable"]


def build_network(backbone: Backbone, settings: Settings, init: Path | None) -> CompressionNetwork:
    """Inject a float32 adapter into the backbone and put memory tokens beside it.

    Args:
        backbone: its LM is changed in place.
        settings: of the stage.
        init: checkpoint whose adapter, memory tokens and gain are trained on; ``None`` for fresh ones.

    Raises:
        TrainingError: the checkpoint was made for another backbone, adapter shape or number of memory tokens.
    """
    from peft import inject_adapter_in_model

    lm = backbone.lm
    torch.manual_seed(settings.seed)
    # Master weights in float32 beside a half-precision LM; CompressionNetwork.autocast multiplies them in half.
    inject_adapter_in_model(lora_config(backbone, settings), lm)
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
    _set_attention_dropout(lm, settings.attention_dropout)
    device = lm.device
    if init is None:
        network = CompressionNetwork.fresh(lm, settings.k, seed=settings.seed)
    else:
        _check_init(init, backbone, settings)
        _load_adapter(lm, init)
        network = CompressionNetwork(lm, **checkpoint.read_memory(init, settings.k))
    network.memory_tokens.requires_grad_(settings.train_memory)
    network.log_gain.requires_grad_(settings.train_memory)
    network.shift.requires_grad_(settings.train_memory)
    return network.to(device)


def lora_config(backbone: Backbone, settings: Settings) -> LoraConfig:
    """The adapter that ``settings`` describe."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.targets,
        task_type="CAUSAL_LM",
        base_model_name_or_path=backbone.name,
    )


def trainable(network: CompressionNetwork) -> dict[str, nn.Parameter]:
    """What the optimiser sees, by name: adapter, memory tokens, gain."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def adapter_state(lm: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Adapter weights by PEFT's names, on the CPU."""
    return {name: parameter.detach().to("cpu", dtype) for name, parameter in _adapter_parameters(lm)}


def export(directory: Path, network: CompressionNetwork, backbone: Backbone, settings: Settings, about: Any) -> None:
    """Write the encoder as it stands: a checkpoint that ``LLM2Comp.from_pretrained`` loads.

    The adapter is rounded to float16, which halves the file (9 MB at rank 16 on 135M parameters); its weights lie far
    inside float16's range.
    """
    config = lora_config(backbone, settings).to_dict()
    config |= {"target_modules": sorted(settings.targets), "inference_mode": True}
    plain = {key: getattr(value, "value", value) for key, value in config.items()}
    plain = {key: value for key, value in plain.items() if value is None or isinstance(value, _JSON)}
    prompts = {"query": settings.query_prompt, "document": ""} if settings.query_prompt else {}
    described = checkpoint.EncoderSettings(
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        k=network.k,
        max_length=settings.encoder_length,
        prompts=prompts,
        name=f"llm2comp-{Path(backbone.name).name}",
        training=about,
    )
    adapter = (plain, adapter_state(network.lm, torch.float16))
    checkpoint.write(directory, described, network.memory_state(), adapter)


_JSON = (str, int, float, bool, list, dict)


def _adapter_parameters(lm: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Adapter weights under the names that PEFT's files use."""
    for name, parameter in lm.named_parameters():
        if "lora_" in name:
            plain = name.replace(".default.", ".").replace("_orig_mod.", "")
            yield f"base_model.model.{plain}", parameter


def _check_init(init: Path, backbone: Backbone, settings: Settings) -> None:
    made = checkpoint.read_settings(init)
    if made.backbone_sha256 != backbone.sha256:
        raise TrainingError(f"--init {init}: made for other weights than those of {backbone.name}.")
    if made.k != settings.k:
        raise TrainingError(f"--init {init}: has {made.k} memory tokens; --k says {settings.k}.")


def _load_adapter(lm: nn.Module, directory: Path) -> None:
    from safetensors.torch import load_file

    path = directory / checkpoint.ADAPTER_WEIGHTS
    if not path.is_file():
        raise TrainingError(f"--init {directory}: holds no adapter to train on.")
    saved, own = load_file(path), dict(_adapter_parameters(lm))
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise TrainingError(f"{path}: an adapter of another rank or for other layers than --lora-r, --lora-targets.")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def _set_attention_dropout(lm: nn.Module, rate: float) -> None:
    """In every attention module, since the configuration is read when they are made."""
    for module in lm.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = rate
