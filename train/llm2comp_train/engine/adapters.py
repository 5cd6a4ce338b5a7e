"""The trainable part: a LoRA adapter injected into the frozen LLM, memory tokens beside it.

A later stage trains an earlier stage's adapter on (``continue``), or leaves it as it is and adds a fresh one beside it
(``fresh``, as the paper does; there the earlier one is merged into the weights, which the decoder here still needs as
they were). Either way the result is the backbone and *one* adapter: two adapters side by side,
``s1 B1 A1 + s2 B2 A2``, are one of rank r1 + r2, ``s2 [B1 s1/s2, B2] [A1; A2]``, exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backends.tokens import TOKEN_BITS
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.readout import DEFAULT_READOUT, READOUTS
from llm2comp_apps.errors import TrainingError, UsageError
from llm2comp_train.engine.sharding import whole

if TYPE_CHECKING:
    from peft import LoraConfig

    from llm2comp_apps.encoder.backbones import Backbone
    from llm2comp_train.settings import Settings

__all__ = [
    "adapter_parts",
    "adapter_state",
    "build_network",
    "chosen_layers",
    "require_same_origin",
    "set_attention_dropout",
    "trainable",
]

OWN = "default"
"""PEFT's name for the adapter that is trained."""
EARLIER = "earlier"
"""The name of a frozen one beside it."""


def build_network(
    backbone: Backbone, settings: Settings, init: Path | None, readout: str | None = None
) -> CompressionNetwork:
    """Inject a float32 adapter into the backbone and put memory tokens beside it.

    Args:
        backbone: its LM is changed in place.
        settings: of the stage.
        init: checkpoint with adapter, memory tokens and decoder input to start from, see the module; ``None`` for
            fresh ones.
        readout: what the stage reads a text's vectors from; ``None`` for what ``init`` reads them from.

    Raises:
        TrainingError: the checkpoint was made for another backbone, adapter shape, number of memory tokens or readout.
        UsageError: the backbone has no layers of the names in ``lora_targets``.
    """
    lm = backbone.lm
    _check_targets(lm, settings)
    readout = readout or (checkpoint.read_settings(init, task=None).readout if init else DEFAULT_READOUT.name)
    torch.manual_seed(settings.seed)
    if init is not None:
        _check_init(init, backbone, settings, readout)
        if settings.adapter == "fresh":
            _inject(lm, _saved_config(init, backbone), EARLIER)
            _load(lm, init, EARLIER)
    _inject(lm, lora_config(backbone, settings, None if init is None else _adapted_layers(init)), OWN)
    if init is not None and settings.adapter == "continue":
        _load(lm, init, OWN)
    # Master weights in float32 beside a half-precision LM; CompressionNetwork.autocast multiplies them in half.
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_(_is_adapter(name, OWN))
        if "lora_" in name:
            parameter.data = parameter.data.float()
    set_attention_dropout(lm, settings.attention_dropout)
    device = lm.device
    k = 0 if READOUTS[readout].of_text else settings.k
    if init is None:
        network = CompressionNetwork.fresh(lm, k, seed=settings.seed, layers=settings.layer_numbers)
    else:
        layers = chosen_layers(init, settings)
        network = CompressionNetwork(lm, **checkpoint.read_memory(init, k), layers=layers)
    network.read_by(readout, backbone.tokenizer)
    for parameter in network.parameters(recurse=False):
        parameter.requires_grad_(settings.train_memory and k > 0)
    return network.to(device)


def lora_config(backbone: Backbone, settings: Settings, layers: list[int] | None = None) -> LoraConfig:
    """The adapter that ``settings`` describe, in these layers of the backbone or in all."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.targets,
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
        base_model_name_or_path=backbone.name,
    )


def trainable(network: CompressionNetwork) -> dict[str, nn.Parameter]:
    """What the optimiser sees, by name: adapter, memory tokens, decoder input."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def adapter_state(lm: nn.Module, adapter: str = OWN) -> dict[str, Tensor]:
    """An adapter's float32 weights by PEFT's names, on the CPU, gathered if they are sharded."""
    return {name: whole(parameter) for name, parameter in _weights(lm, adapter)}


def adapter_parts(
    network: CompressionNetwork, backbone: Backbone, settings: Settings
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """PEFT's configuration and float16 weights of the one adapter that the network's adapters are together.

    All processes must ask, since they gather sharded weights.
    """
    weights = adapter_state(network.lm)
    has = sorted({int(number[1]) for number in map(_LAYER.search, weights) if number})
    layers = None if len(has) == network.lm.config.num_hidden_layers else has
    config = lora_config(backbone, settings, layers).to_dict()
    config |= {"target_modules": sorted(settings.targets), "inference_mode": True}
    if earlier := adapter_state(network.lm, EARLIER):
        config, weights = _side_by_side(network.lm, config, weights, earlier)
    plain = {key: getattr(value, "value", value) for key, value in config.items()}
    plain = {key: value for key, value in plain.items() if value is None or isinstance(value, _JSON)}
    return plain, {name: tensor.half() for name, tensor in weights.items()}


def chosen_layers(init: Path, settings: Settings) -> list[int] | None:
    """The layers to run from an earlier encoder on: its own, or some of them; ``None`` for all of the backbone's.

    Raises:
        TrainingError: it has not all of the layers that ``settings`` name.
    """
    has, wanted = checkpoint.read_settings(init, task=None).layers, settings.layer_numbers
    if wanted is None or has is None:
        return wanted or has
    missing = sorted(set(wanted) - set(has))
    if missing:
        raise TrainingError(
            f"`init` {init}: has no layer {', '.join(map(str, missing))} any more; `layers` may name some of "
            f"{', '.join(map(str, has))}."
        )
    return wanted


def require_same_origin(init: Path, backbone: Backbone, settings: Settings, readout: str) -> None:
    """Refuse an earlier encoder whose vectors come from something else.

    Raises:
        TrainingError: it was made for another backbone, readout, number of memory tokens, or for rounded token
            embeddings.
    """
    made = checkpoint.read_settings(init, task=None)
    if made.backbone_sha256 != backbone.sha256:
        if made.backbone == backbone.name:
            raise TrainingError(f"`init` {init}: made for other weights of {backbone.name} than it has now.")
        raise TrainingError(
            f"`init` {init}: made for the weights of {made.backbone}, not for those of {backbone.name}; continue with "
            f"`backbone={made.backbone}`."
        )
    if made.readout != readout:
        raise TrainingError(f"`init` {init}: reads its vectors from {made.readout}; this stage needs {readout}.")
    if made.k != settings.k and not READOUTS[readout].of_text:
        raise TrainingError(f"`init` {init}: has {made.k} memory tokens; `k` says {settings.k}.")
    if made.token_bits not in (TOKEN_BITS[0], settings.token_bits):
        bits = made.token_bits
        raise TrainingError(f"`init` {init}: has token embeddings in {bits} bits; continue with `token_bits={bits}`.")


def _check_targets(lm: nn.Module, settings: Settings) -> None:
    """Refuse names that no layer has; of the default's, which suit most backbones, some may be missing.

    Raises:
        UsageError: with the names there are.
    """
    there = {name.rpartition(".")[2] for name, module in lm.named_modules() if isinstance(module, nn.Linear)}
    missing = [name for name in settings.targets if name.rpartition(".")[2] not in there]
    default = type(settings)().lora_targets
    if len(missing) == len(settings.targets) or (missing and settings.lora_targets != default):
        raise UsageError(
            f"names layers that the backbone does not have: no linear layer called {', '.join(missing)}; it has "
            f"{', '.join(sorted(there))}",
            field="lora_targets",
        )


_LAYER = re.compile(r"\.(\d+)\.")
_JSON = (str, int, float, bool, list, dict)


def _inject(lm: nn.Module, config: LoraConfig, name: str) -> None:
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    try:
        inject_adapter_in_model(config, lm, adapter_name=name)
    except ValueError as error:  # fused experts take no dropout, for one
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainingError(f"these layers take no such adapter ({reason}); name others as `lora_targets`.") from error
    for module in lm.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_adapter([given for given in (EARLIER, OWN) if given in module.r])


def _is_adapter(parameter: str, adapter: str) -> bool:
    return "lora_" in parameter and f".{adapter}." in parameter


def _weights(lm: nn.Module, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """An adapter's weights under the names that PEFT's files use."""
    for name, parameter in lm.named_parameters():
        if _is_adapter(name, adapter):
            plain = name.replace(f".{adapter}.", ".")
            yield f"base_model.model.{plain}", parameter


def _side_by_side(
    lm: nn.Module, config: dict[str, Any], own: dict[str, Tensor], earlier: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Two adapters as one; see the module."""
    from peft.tuners.lora import LoraLayer

    layer = next(module for module in lm.modules() if isinstance(module, LoraLayer))
    ratio = layer.scaling[EARLIER] / layer.scaling[OWN]
    rank = layer.r[EARLIER] + layer.r[OWN]
    weights = {}
    for name, tensor in own.items():
        is_a = ".lora_A." in name
        weights[name] = torch.cat([earlier[name] if is_a else earlier[name] * ratio, tensor], dim=0 if is_a else 1)
    return config | {"r": rank, "lora_alpha": layer.scaling[OWN] * rank}, weights


def _check_init(init: Path, backbone: Backbone, settings: Settings, readout: str) -> None:
    require_same_origin(init, backbone, settings, readout)
    if checkpoint.read_settings(init, task=None).own_layers:
        raise TrainingError(f"`init` {init}: its layers have weights of their own; continue with `train_weights=all`.")
    if not (init / checkpoint.ADAPTER_WEIGHTS).is_file():
        raise TrainingError(f"`init` {init}: holds no adapter to train.")
    saved = _adapter_config(init)
    layers = ",".join(saved["target_modules"])
    if set(saved["target_modules"]) != set(settings.targets):
        raise TrainingError(f"`init` {init}: its adapter is on other layers; continue with `lora_targets={layers}`.")
    if settings.adapter == "continue" and (saved["r"], saved["lora_alpha"]) != (settings.lora_r, settings.lora_alpha):
        raise TrainingError(
            f"`init` {init}: its adapter has another rank or scale; continue with `lora_r={saved['r']}` "
            f"`lora_alpha={saved['lora_alpha']:g}`, or start one beside it with `adapter=fresh`."
        )


def _adapter_config(init: Path) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((init / checkpoint.ADAPTER_CONFIG).read_text("utf-8"))
    return saved


def _adapted_layers(init: Path) -> list[int] | None:
    """Layers of the backbone that a checkpoint's adapter is in, where it was cut out of one for all."""
    layers: list[int] | None = _adapter_config(init).get("layers_to_transform")
    return layers


def _saved_config(init: Path, backbone: Backbone) -> LoraConfig:
    from peft import LoraConfig

    saved = _adapter_config(init)
    kept = {name: saved[name] for name in ("r", "lora_alpha", "target_modules", "task_type")}
    return LoraConfig(**kept, layers_to_transform=_adapted_layers(init), base_model_name_or_path=backbone.name)


def _load(lm: nn.Module, directory: Path, adapter: str) -> None:
    from safetensors.torch import load_file

    path = directory / checkpoint.ADAPTER_WEIGHTS
    saved, own = load_file(path), dict(_weights(lm, adapter))
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise TrainingError(
            f"{path}: not what its {checkpoint.ADAPTER_CONFIG} says: an adapter of another rank or for other layers."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def set_attention_dropout(lm: nn.Module, rate: float) -> None:
    """In every attention module, since the configuration is read when they are made."""
    name = "attention_dropout"
    for module in lm.modules():
        if isinstance(getattr(module, name, None), int | float):  # a configuration may say 0 as well as 0.0
            setattr(module, name, rate)
