"""A packed checkpoint (:mod:`.packing`) for torch: integers multiplied out, by its modules' names.

Only layers that are like Llama's have such names: separate projections, and one norm before each part. The file
``backbone.json`` is transformers' configuration of an LM that has these layers and no others.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.backends.exported import (
    CARRIED,
    LAYERS,
    TEXT_GAIN,
    TEXT_MAPS,
    TOKENIZER,
    TOKENS,
    check_carried,
)
from llm2comp_apps.encoder.backends.tokens import TokenTable
from llm2comp_apps.encoder.quiet import without_progress_bars
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["BODY", "own_weights", "packed_layers", "packed_lm", "packed_tokenizer", "read_packed_layers"]

BODY = "backbone.json"

_PRODUCTS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_INNER = "layer"  # of a MemoryLayer, which stands around another one
_KINDS = {"bias": "bias", "gain": "weight"}
_NORMS = {"before_attention": "input_layernorm", "before_feed_forward": "post_attention_layernorm"}


def read_packed_layers(directory: Path) -> tuple[dict[str, Tensor], str]:
    """The layers of a packed checkpoint in float32, as torch names them, and the digest of their file.

    Raises:
        EncoderError: missing or damaged.
    """
    manifest = check_carried(directory)
    return packed_layers(directory), manifest.files[LAYERS][1]


def packed_layers(directory: Path) -> dict[str, Tensor]:
    """``layers.0.self_attn.q_proj.weight``, ... as :meth:`.network.CompressionNetwork.layer_weights` names them."""
    import torch

    arrays = open_arrays(directory / CARRIED / LAYERS)
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        place, _, what = name.rpartition(".")
        if what == "integers":
            weight = array * arrays[f"{place}.scales"]
            if place.endswith(TEXT_MAPS):  # torch's norm in front of it has no gain
                weight = weight * arrays[TEXT_GAIN][:, None]
            found[f"{_module(place, arrays)}.weight"] = torch.from_numpy(weight.T.copy())
        elif what == "bias" or (what == "gain" and name != TEXT_GAIN):
            found[f"{_module(place, arrays)}.{_KINDS[what]}"] = torch.from_numpy(array.copy())
    return found


def _module(place: str, arrays: Container[str]) -> str:
    """What torch calls a part of a graph, given the names of all its weights: ``layers.0.query``, ``norm``."""
    owner, _, part = place.rpartition(".")
    if not owner or part in TEXT_MAPS:
        return place
    if f"{owner}.{TEXT_MAPS[0]}.integers" in arrays:
        owner += f".{_INNER}"
    return f"{owner}.{_PRODUCTS.get(part) or _NORMS.get(part, part)}"


def own_weights(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers as they are named where the text goes through all of them, without what reads it where it stopped."""
    return {
        name.replace(f".{_INNER}.", "."): weight
        for name, weight in layers.items()
        if not name.removesuffix(".weight").endswith(TEXT_MAPS)
    }


def packed_lm(directory: Path, layers: Mapping[str, Tensor]) -> PreTrainedModel:
    """An LM of the layers and token embeddings of a packed checkpoint, in float32 on the CPU; its head is of no use.

    Args:
        directory: of the checkpoint.
        layers: what :func:`read_packed_layers` gave; what the text is read by where it stopped is left out.

    Raises:
        EncoderError: missing or damaged.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    table = TokenTable(open_arrays(directory / CARRIED / TOKENS))
    tokens = torch.from_numpy(table.look_up(np.arange(len(table))))
    try:
        config = AutoConfig.for_model(**json.loads((directory / BODY).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{directory / BODY}: missing or damaged ({error}).") from error
    config.tie_word_embeddings = True  # so that there is no head beside the embeddings
    lm_class = AutoModelForCausalLM._model_mapping[type(config)]
    weights = {f"{lm_class.base_model_prefix}.{name}": part for name, part in own_weights(layers).items()}
    weights[f"{lm_class.base_model_prefix}.embed_tokens.weight"] = tokens
    with without_progress_bars():
        lm: PreTrainedModel = lm_class.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32)
    return lm.eval()


def packed_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a packed checkpoint, left-padding."""
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_file=str(directory / CARRIED / TOKENIZER), padding_side="left")
    # Padding is never attended to. A token of texts would do, but transformers takes what pads for special.
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    tokenizer.pad_token = special[0] if special else tokenizer.convert_ids_to_tokens(0)
    tokenizer.model_max_length = int(1e30)
    return tokenizer
