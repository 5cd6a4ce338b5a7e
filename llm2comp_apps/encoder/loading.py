"""From a checkpoint's folder to a network that can run: an encoder's or a reranker's."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import default_device, default_dtype, load_backbone
from llm2comp_apps.encoder.backends.exported import check_carried
from llm2comp_apps.encoder.backends.packed import BODY, packed_lm, packed_tokenizer
from llm2comp_apps.encoder.cache import file_sha256
from llm2comp_apps.encoder.fingerprints import network_digest, with_head
from llm2comp_apps.encoder.locate import locate_checkpoint
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.precision import lower_precision
from llm2comp_apps.encoder.probe import probe
from llm2comp_apps.encoder.settings import ENCODE, RERANK
from llm2comp_apps.encoder.threads import one_thread
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LoadedNetwork", "load_network"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedNetwork:
    """A checkpoint in memory.

    Attributes:
        network: its adapter, if any, is merged.
        tokenizer: the backbone's.
        settings: of the checkpoint, with the changes that were asked for.
        adapter: what was merged.
        layers_state: the checkpoint's own layers as they are stored.
        weights_sha256: digest of the file that holds either of the two, and of a reranker's head; empty where there is
            none.
        packed: the checkpoint's folder, where it works by itself.
    """

    network: CompressionNetwork
    tokenizer: Any
    settings: checkpoint.EncoderSettings
    adapter: checkpoint.Adapter | None
    layers_state: dict[str, Tensor] | None
    weights_sha256: str
    packed: Path | None = None


def load_network(
    name: str,
    *,
    backbone: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    task: str = ENCODE,
) -> LoadedNetwork:
    """Load what a name stands for; arguments as :meth:`.model.LLM2Comp.from_pretrained`.

    Args:
        name: see there, as for the following.
        backbone: where it lies now.
        device: ``None`` for the best there is.
        dtype: of the matrix products.
        pooling: instead of the checkpoint's own.
        max_length: instead of the checkpoint's own.
        task: what the checkpoint must have been made for.

    Raises:
        EncoderError: checkpoint or backbone missing, damaged, not made for one another, or made for another task.
    """
    directory = locate_checkpoint(name)
    settings = checkpoint.read_settings(directory, task=task).changed(pooling=pooling, max_length=max_length)
    device = device or default_device()
    own_tokens = settings.token_bits != 8  # which no backbone has
    if (backbone is None or own_tokens) and (directory / BODY).is_file():
        return _packed(directory, settings, device, dtype or default_dtype(device))
    loaded = load_backbone(backbone or settings.backbone, device=device)
    if loaded.sha256 != settings.backbone_sha256:
        raise EncoderError(
            f"{'reranker' if task == RERANK else 'encoder'} {name}: made for other weights of backbone "
            f"{settings.backbone} ({settings.backbone_sha256[:16]}…) than {loaded.name} has ({loaded.sha256[:16]}…)."
        )
    memory = checkpoint.read_memory(directory, settings.k)
    lm, adapter, weights = loaded.lm, None, None
    with in_turn, one_thread():
        if settings.own_layers:
            weights, digest = checkpoint.read_layers(directory)
        else:
            lm, adapter, digest = _merge_adapter(lm, checkpoint.weights_file(directory, settings))
        try:
            network = CompressionNetwork(
                lm, **memory, layers=settings.layers, text_layers=settings.text_layers
            ).drop_decoder()
            if weights is not None:
                network.load_layers(weights)
        except (EncoderError, UsageError) as error:
            raise EncoderError(f"{directory}: {error}") from error
        if task == RERANK:
            network.with_head(checkpoint.read_head(directory))
            digest = with_head(digest, file_sha256(directory / checkpoint.HEAD))
        network.read_by(settings.readout, loaded.tokenizer).to(device).requires_grad_(False)
        probe(network, loaded.name)  # in float32, where rounding cannot be mistaken for a leak
        lower_precision(network, dtype or default_dtype(device), settings.float32_layers)
    return LoadedNetwork(
        network=network.eval(),
        tokenizer=loaded.tokenizer,
        settings=settings,
        adapter=adapter,
        layers_state=weights,
        weights_sha256=digest,
    )


def _packed(directory: Path, settings: checkpoint.EncoderSettings, device: str, dtype: torch.dtype) -> LoadedNetwork:
    """A checkpoint that has all it needs: its LM has the encoder's layers alone."""
    weights, digest = checkpoint.read_layers(directory)
    memory = checkpoint.read_memory(directory, settings.k)
    check_carried(directory, network_digest(settings, memory["memory_tokens"].numpy(), digest))
    with in_turn, one_thread():
        network = CompressionNetwork(packed_lm(directory, weights), **memory, text_layers=settings.text_layers)
        network.load_layers(weights)
        network.layers = None if settings.layers is None else tuple(settings.layers)
        network.to(device).requires_grad_(requires_grad=False)
        probe(network, settings.backbone)
        lower_precision(network, dtype, settings.float32_layers)
    return LoadedNetwork(
        network=network.eval(),
        tokenizer=packed_tokenizer(directory),
        settings=settings,
        adapter=None,
        layers_state=weights,
        weights_sha256=digest,
        packed=directory,
    )


def _merge_adapter(lm: PreTrainedModel, path: Path | None) -> tuple[PreTrainedModel, checkpoint.Adapter | None, str]:
    """Fold the LoRA adapter of a checkpoint, if it has one, into float32 weights: ``W + (alpha / r) B A``."""
    if path is None:
        return lm, None, ""
    directory = path.parent
    from peft import PeftModel
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((directory / checkpoint.ADAPTER_CONFIG).read_text("utf-8"))
        weights = load_file(path)
        with warnings.catch_warnings():
            # peft asks transformers for a property under the name it had before 5.20; nothing a user could do.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            merged = PeftModel.from_pretrained(lm, str(directory)).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"{directory}: the adapter cannot be read or does not fit the backbone: {error}") from error
    return merged, (config, weights), file_sha256(path)
