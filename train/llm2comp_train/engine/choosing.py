"""Which layers an encoder is to run, where a call says only how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.layers import choose_layers
from llm2comp_apps.encoder.loading import load_network
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.settings import ENCODE
from llm2comp_train.engine.checkpoints import latest
from llm2comp_train.pruning import TEXTS, sample_texts
from llm2comp_train.settings import Settings

__all__ = ["with_layers_chosen"]


def with_layers_chosen(
    settings: Settings, init: Path | None, out: Path, data: Sequence[str], device: str, say: Callable[[str], None]
) -> Settings:
    """The settings with the numbers of the layers in place of their count, which a resumed run finds in its checkpoint.

    The layers are chosen on a sample of the data by greedy removal, see :mod:`llm2comp_apps.encoder.layers`: of the
    encoder to start from, or of one with fresh memory tokens on the backbone as it is.

    Raises:
        UsageError: the encoder has not so many layers.
    """
    count = settings.layer_count
    if count is None:
        return settings
    newest = latest(out)
    numbers = checkpoint.read_settings(newest, task=None).layers if newest is not None else None
    if numbers is None:
        say(f"choosing {count} layers")
        encoder = _encoder(settings, init, device)
        numbers = choose_layers(encoder, sample_texts(data, TEXTS, settings.seed), count)
        say(f"layers: {','.join(map(str, numbers))}")
    return dataclasses.replace(settings, layers=",".join(map(str, numbers)) + ",")


def _encoder(settings: Settings, init: Path | None, device: str) -> LLM2Comp:
    if init is not None:
        task = checkpoint.read_settings(init, task=None).task
        length = settings.max_length
        loaded = load_network(str(init), backbone=settings.backbone, device=device, max_length=length, task=task)
        return LLM2Comp(
            loaded.network,
            loaded.tokenizer,
            dataclasses.replace(loaded.settings, task=ENCODE),  # of a reranker, too, the texts' vectors tell
        )
    backbone = load_backbone(settings.backbone, device=device)
    network = CompressionNetwork.fresh(backbone.lm, settings.k, seed=settings.seed)
    described = checkpoint.EncoderSettings(
        backbone=backbone.name, backbone_sha256=backbone.sha256, k=settings.k, max_length=settings.max_length
    )
    return LLM2Comp(network.requires_grad_(requires_grad=False), backbone.tokenizer, described)
