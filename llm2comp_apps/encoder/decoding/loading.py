"""An encoder whose adapter stays beside the LM, in place of being merged: adapter on it encodes, off it decodes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import default_device, load_backbone
from llm2comp_apps.encoder.decoding.reader import MemoryReader
from llm2comp_apps.encoder.fingerprints import checkpoint_digests
from llm2comp_apps.encoder.locate import READABLE, locate_checkpoint
from llm2comp_apps.encoder.names import parse_name
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["load_reader"]


def load_reader(
    name: str = READABLE,
    *,
    backbone: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> MemoryReader:
    """Load an encoder to read its memory vectors back.

    Args:
        name: a checkpoint of ours whose layers are the LM's: ``quality``, a folder, a Hugging Face id.
        backbone: where its backbone lies now, if not where the checkpoint says.
        device: ``None`` for the best there is.
        dtype: of the weights; float32 by default, which an explanation's small differences need.

    Raises:
        EncoderError: it is missing, damaged, or its memory vectors cannot be read back.
        UsageError: the name is no checkpoint's.
    """
    import torch

    parsed = parse_name(name)
    if parsed.kind != "checkpoint":
        raise UsageError(f"must be a checkpoint of ours: {name} makes no memory vectors", field="encoder")
    directory = locate_checkpoint(parsed.target)
    settings = checkpoint.read_settings(directory)
    _check_readable(name, settings)
    loaded = load_backbone(
        backbone or settings.backbone, device=device or default_device(), dtype=dtype or torch.float32
    )
    if loaded.sha256 != settings.backbone_sha256:
        raise EncoderError(f"encoder {name}: made for other weights of {settings.backbone} than {loaded.name} has.")
    with in_turn:
        if checkpoint.weights_file(directory, settings) is not None:
            _inject_adapter(loaded.lm, directory)
        network = CompressionNetwork(
            loaded.lm, **checkpoint.read_memory(directory, settings.k), layers=settings.layers
        ).read_by(settings.readout, loaded.tokenizer)
    network.to(loaded.lm.device).requires_grad_(requires_grad=False).eval()
    fingerprint, _ = checkpoint_digests(directory, settings.changed(pooling=parsed.pooling))
    reader = MemoryReader(network, loaded.tokenizer, settings, fingerprint)
    if reader.drifted:
        reader.recentre(_SENTENCES)
    return reader


_SENTENCES = (
    "The river flooded the old town after three days of heavy rain.",
    "Cells divide by mitosis, and each daughter cell gets a full set of chromosomes.",
    "Interest rates rose as the central bank fought inflation.",
    "She tuned her violin before the concert began.",
    "How do I reset the password of my account?",
    "The bridge was closed for repairs until the end of the month.",
    "A new vaccine protects against two strains of the virus.",
    "He scored twice in the second half, and his team won the cup.",
    "Bake the bread for forty minutes in a hot oven.",
    "The telescope found water in the air of a distant planet.",
    "Parliament passed the budget by a narrow majority.",
    "Wolves were brought back to the park, and the deer moved on.",
    "The shares of the company fell by a tenth on Monday.",
    "Turn left at the church and walk until you see the lake.",
    "Sorting takes time that grows with the number of items.",
    "The poem is about a soldier who comes home in winter.",
)
"""To measure a centre with: short, and of many subjects."""


def _check_readable(name: str, settings: checkpoint.EncoderSettings) -> None:
    """Refuse encoders whose memory vectors the frozen LM was never made to read.

    Raises:
        EncoderError: says why.
    """
    if settings.readout != "memory":
        raise EncoderError(f"encoder {name}: its vectors are read from {settings.readout}, which no decoder reads.")
    if settings.own_layers:
        raise EncoderError(
            f"encoder {name}: its layers have weights of their own, so no decoder reads its memory, and it cannot be "
            f"read back. Take the encoder {READABLE}, or train one with `train_weights=adapter`."
        )


def _inject_adapter(lm: Any, directory: Path) -> None:
    """Put the LoRA layers of a checkpoint into the LM, switched on.

    Raises:
        EncoderError: they are damaged or do not fit.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = json.loads((directory / checkpoint.ADAPTER_CONFIG).read_text("utf-8"))
        kept = ("r", "lora_alpha", "target_modules", "task_type", "layers_to_transform")
        config = LoraConfig(**{name: saved[name] for name in kept if saved.get(name) is not None})
        with warnings.catch_warnings():
            # peft asks transformers for a property under the name it had before 5.20; nothing a user could do.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            inject_adapter_in_model(config, lm)
        weights = load_file(directory / checkpoint.ADAPTER_WEIGHTS)
        own = {name.removeprefix("base_model.model."): tensor.float() for name, tensor in weights.items()}
        found = set_peft_model_state_dict(lm, own)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"{directory}: the adapter cannot be read or does not fit the backbone: {error}") from error
    if found.unexpected_keys:
        raise EncoderError(f"{directory}: the adapter does not fit the backbone ({found.unexpected_keys[0]}).")
