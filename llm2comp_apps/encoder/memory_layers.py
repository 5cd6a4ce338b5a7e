"""Layers through which the memory tokens go alone.

Behind some layer the states of a text's own tokens stay as they are; only the k memory tokens are computed from there
on. They still read the text in every layer, by keys and values that two linear maps make of the states where the
text stopped. Such a layer costs a text of T tokens about ``k / (T + k)`` of a whole one, so an encoder may have many
of them.

SwiftKV (arXiv 2410.03960, "SingleInputKV") does this with the prompt of a language model, for what is generated. Here
the memory tokens are what continues, in both directions, and the maps are fitted by least squares
(:mod:`.reconstruction`) before anything is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llm2comp_apps.errors import EncoderError, UsageError

__all__ = [
    "KeysAndValues",
    "MemoryLayer",
    "check_text_layers",
    "groups_of",
    "of_fewer",
    "stop_text_behind",
    "text_layers_of",
    "turned",
]


class KeysAndValues:
    """Stands in for the cache of a transformers layer: puts some rows in front of the layer's own, and keeps both.

    Attributes:
        keys: ``(B, groups, T, width)`` of the layer's own tokens, turned by their positions; ``None`` before the layer
            ran. So is ``values``.
        values: see ``keys``.
    """

    def __init__(self, before: tuple[Tensor, Tensor] | None = None) -> None:
        self._before = before
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What the layer attends to, given its own keys and values."""
        self.keys, self.values = keys, values
        if self._before is None:
            return keys, values
        first_keys, first_values = (rows.to(keys.dtype) for rows in self._before)
        return torch.cat([first_keys, keys], dim=2), torch.cat([first_values, values], dim=2)


class MemoryLayer(nn.Module):
    """A layer of transformers that only the memory tokens go through; takes its place in the body.

    Attributes:
        layer: the layer itself.
        k: number of memory tokens, the last of each row.
        text_key: ``d -> groups * width``; keys of the text, before they are turned by their positions.
        text_value: ``d -> groups * width``.
        epsilon: added to the mean square, see :meth:`normed`.
    """

    epsilon = 1e-6

    def __init__(self, layer: nn.Module, k: int, groups: int) -> None:
        """Put maps of zeros before a layer: until they are fitted or loaded, it does not see the text.

        Args:
            layer: of a transformers body.
            k: see the attributes.
            groups: keys and values of a token.

        Raises:
            EncoderError: a layer that is built in another way, or that sees a part of the text only.
        """
        super().__init__()
        attention: Any = getattr(layer, "self_attn", None)
        if getattr(attention, "head_dim", None) is None or getattr(attention, "sliding_window", None):
            raise EncoderError(f"the text cannot stop before a layer like {type(layer).__name__}")
        self.layer, self.k = layer, k
        if hasattr(layer, "attention_type"):  # the body chooses a mask by it
            self.attention_type = layer.attention_type
        _require_norm(layer)
        first = next(layer.parameters())
        width, d = attention.head_dim, _width(attention)
        self.text_key, self.text_value = (
            nn.Linear(d, groups * width, bias=False, device=first.device, dtype=first.dtype) for _ in range(2)
        )
        for each in self.text_maps:
            nn.init.zeros_(each.weight)

    @property
    def text_maps(self) -> tuple[nn.Linear, nn.Linear]:
        """``text_key`` and ``text_value``."""
        return self.text_key, self.text_value

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **named: Any,
    ) -> Tensor:
        """States ``(B, T + k, d)`` behind the layer; those of the text are what came in."""
        text, memory = hidden_states[:, : -self.k], hidden_states[:, -self.k :]
        named["past_key_values"] = KeysAndValues(self.of_text(text, position_embeddings))
        if position_embeddings is not None:
            position_embeddings = position_embeddings[0][:, -self.k :], position_embeddings[1][:, -self.k :]
        # Not through __call__: under gradient checkpointing that would throw the keys away.
        memory = self.layer.forward(
            memory,
            attention_mask=None if attention_mask is None else attention_mask[:, :, -self.k :],
            position_ids=None if position_ids is None else position_ids[:, -self.k :],
            position_embeddings=position_embeddings,
            **named,
        )
        return torch.cat([text, memory.to(text.dtype)], dim=1)

    def of_text(self, text: Tensor, position_embeddings: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, groups, T, width)`` of the states ``(B, T, d)`` where the text stopped."""
        normed = self.normed(text)
        attention: Any = self.layer.self_attn
        keys, values = (part(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for part in self.text_maps)
        return (turned(keys, position_embeddings) if getattr(attention, "use_rope", True) else keys), values

    @classmethod
    def normed(cls, text: Tensor) -> Tensor:
        """What the two maps read: states ``(..., d)`` brought to a mean square of 1."""
        return nn.functional.rms_norm(text, text.shape[-1:], eps=cls.epsilon)


def turned(keys: Tensor, position_embeddings: tuple[Tensor, Tensor] | None, *, back: bool = False) -> Tensor:
    """The rotary embedding of the first rows of a sequence, or what stood before it.

    Args:
        keys: ``(B, groups, T, width)``.
        position_embeddings: cosines and sines ``(B or 1, at least T, turned)``, ``turned`` at most ``width``; ``None``
            where positions are not read. Those of YaRN and LongRoPE are longer than 1, and lengthen the keys.
        back: undo it.
    """
    if position_embeddings is None:
        return keys
    cosines, sines = (table[:, None, : keys.shape[2]].to(keys.dtype) for table in position_embeddings)
    if back:
        squares = cosines.square() + sines.square()
        cosines, sines = cosines / squares, -sines / squares
    part, rest = keys[..., : cosines.shape[-1]], keys[..., cosines.shape[-1] :]
    one, other = part.chunk(2, dim=-1)
    across = torch.cat([-other, one], dim=-1) * sines
    return torch.cat([part * cosines + across, rest], dim=-1)


def groups_of(config: Any) -> int:
    """Keys and values of a token, by an LM's configuration; one for each query where it does not say."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def check_text_layers(text_layers: int, layers: int) -> None:
    """Refuse a number of layers for the text that is none.

    Raises:
        UsageError: it is not from 1 to one less than all layers.
    """
    if not 1 <= text_layers < layers:
        raise UsageError(
            f"must be from 1 to {layers - 1}, one less than all layers, not {text_layers}", field="text_layers"
        )


def stop_text_behind(body: nn.Module, text_layers: int, k: int) -> None:
    """Put a :class:`MemoryLayer` in the place of each of a body's layers behind the first ``text_layers``, in place.

    Raises:
        UsageError: see :func:`check_text_layers`.
        EncoderError: the text cannot stop in a body of this kind.
    """
    source: Any = body
    check_text_layers(text_layers, len(source.layers))
    groups = groups_of(source.config)
    source.layers = nn.ModuleList(
        layer if place < text_layers else MemoryLayer(layer, k, groups) for place, layer in enumerate(source.layers)
    )


def text_layers_of(kept: Sequence[int], runs: Sequence[int], text_layers: int | None) -> int | None:
    """Through how many of the kept layers the text goes; ``None`` for all.

    Args:
        kept: some of ``runs``, ascending.
        runs: the layers of the encoder that they are taken from.
        text_layers: through how many of these the text goes there.

    Raises:
        UsageError: no layer is left for the text.
    """
    if text_layers is None:
        return None
    first = runs[:text_layers]
    count = sum(number in first for number in kept)
    if not count:
        shown = ", ".join(map(str, first))
        raise UsageError(f"must hold one of {shown}, which the text goes through", field="layers")
    return count if count < len(kept) else None


def of_fewer(body: nn.Module, k: int) -> None:
    """Let a body's memory layers take only the first k memory tokens, in place; the layers share their weights."""
    source: Any = body
    for place, layer in enumerate(source.layers):
        source.layers[place] = _of_fewer(layer, k)


def _of_fewer(layer: nn.Module, k: int) -> nn.Module:
    """A memory layer with another k, also where it stands inside of what keeps it in float32; other layers as is."""
    made, inner = copy.copy(layer), getattr(layer, "layer", None)
    if isinstance(made, MemoryLayer):
        made.k = k
        return made
    if not isinstance(inner, MemoryLayer):
        return layer
    made._modules = {**layer._modules, "layer": _of_fewer(inner, k)}
    return made


def _require_norm(layer: nn.Module) -> None:
    if not any(name.endswith("layernorm") for name, _ in layer.named_children()):
        raise EncoderError(f"the text cannot stop before a layer like {type(layer).__name__}")


def _width(attention: nn.Module) -> int:
    """How wide the states are that an attention reads; not by a norm, since OLMo's has no gain."""
    return next(part.in_features for part in attention.modules() if isinstance(part, nn.Linear))
