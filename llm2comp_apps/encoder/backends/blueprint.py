"""What an exported graph is built from: an encoder's layers as plain arrays, read off the loaded network.

The families of decoder-only LLMs differ in few things: where their norms stand, whether projections are fused, how the
rotary embedding turns. These are read from the modules themselves, most of them by asking the module (a norm for its
effect on ones, the rotary embedding for its angles, the attention for the mask that it was given), so that no table of
architectures has to be kept. :mod:`.export` compares vectors before it keeps a graph, and so finds what was misread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from llm2comp_apps.encoder.network import CompressionNetwork

__all__ = ["Attention", "Blueprint", "FeedForward", "Layer", "Linear", "Norm", "read_blueprint"]

Floats = npt.NDArray[np.float32]

_ACTIVATIONS = {"SiLUActivation": "silu", "SiLU": "silu", "GELUTanh": "gelu_tanh", "GELUActivation": "gelu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``x @ weight + bias``: ``weight (in, out)``, ``bias (out,)`` or none."""

    weight: Floats
    bias: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """``gain * x / sqrt(mean(x^2) + epsilon)`` over the last ``len(gain)`` values."""

    gain: Floats
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Self-attention in both directions.

    Attributes:
        query: ``(d, heads * width)``.
        key: ``(d, groups * width)``; and so is ``value``.
        value: see ``key``.
        output: ``(heads * width, d)``.
        query_norm: over one head, or over all of them, or none; and so is ``key_norm``.
        key_norm: see ``query_norm``.
        heads: number of queries of a token.
        groups: number of keys and values of a token.
        scale: of the scores before the softmax.
        cosines: ``(positions, turned / 2)`` of the rotary embedding; ``None`` where positions are not read.
        sines: see ``cosines``.
        window: how many tokens away a token sees; ``None`` for all.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    heads: int
    groups: int
    scale: float
    cosines: Floats | None
    sines: Floats | None
    window: int | None

    @property
    def width(self) -> int:
        """Values of one head."""
        return self.query.weight.shape[1] // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """``down(activation(gate(x)) * up(x))``; activation is ``silu``, ``gelu`` or ``gelu_tanh``."""

    gate: Linear
    up: Linear
    down: Linear
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """``x += after(attention(before(x)))``, then the same with the feed-forward part; any norm may be missing.

    Where the memory tokens alone go through it, ``text_key`` and ``text_value``, both ``(d, groups * width)``, give it
    the text's keys, before they are turned by their positions, and values; they read what :attr:`Blueprint.text` makes.
    """

    before_attention: Norm | None
    attention: Attention
    after_attention: Norm | None
    before_feed_forward: Norm | None
    feed_forward: FeedForward
    after_feed_forward: Norm | None
    text_key: Linear | None = None
    text_value: Linear | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """An encoder with readout ``memory``.

    Attributes:
        layers: from first to last.
        norm: the final one.
        tokens: ``(V, d)``, the embedding of each token, as it enters the first layer.
        memory: ``(k, d)``, what follows every text.
        text: of the states where the text stops, in front of all ``text_key`` and ``text_value``; ``None`` where it
            goes through all layers.
    """

    layers: tuple[Layer, ...]
    norm: Norm
    tokens: Floats
    memory: Floats
    text: Norm | None = None

    @property
    def text_layers(self) -> int:
        """How many layers the text goes through; the memory tokens alone go through those behind."""
        return sum(layer.text_key is None for layer in self.layers)


def read_blueprint(network: CompressionNetwork, positions: int) -> Blueprint:
    """Read an encoder that is loaded in float32, its adapter merged.

    Args:
        network: the encoder.
        positions: longest row, memory tokens included.

    Raises:
        EncoderError: the encoder is of a kind that no graph can be made of; the message is the reason alone.
    """
    import torch

    if network.readout.name != "memory":
        raise EncoderError(f"readout {network.readout.name!r} has no graph")
    with torch.inference_mode():
        try:
            windows = _windows(network, positions)
            base: Any = network.encoder
            return Blueprint(
                layers=tuple(
                    _layer(base, layer, window, positions) for layer, window in zip(base.layers, windows, strict=True)
                ),
                norm=_norm(base.norm),
                tokens=_floats(network.embed(torch.arange(network.lm.get_input_embeddings().weight.shape[0])[None])[0]),
                memory=_floats(network.memory_tokens),
                text=_text_norm(base.layers[-1]),
            )
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise EncoderError(f"{type(network.lm).__name__} is built in a way that is not known ({error})") from error


def _layer(base: Any, layer: Any, window: int | None, positions: int) -> Layer:
    if _of_memory(layer):
        inner = _layer(base, layer.layer, None, positions)
        return replace(inner, text_key=_linear(layer.text_key), text_value=_linear(layer.text_value))
    norms = {name: _norm(module) for name, module in layer.named_children() if name.endswith("layernorm")}
    if "pre_feedforward_layernorm" in norms:  # Gemma 2 and 3: around both parts
        places = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    elif "input_layernorm" in norms:  # most: before both parts
        places = ("input", "", "post_attention", "")
    else:  # OLMo 2: behind both parts
        places = ("", "post_attention", "", "post_feedforward")
    expected = {f"{place}_layernorm" for place in places if place}
    if expected != set(norms):
        raise ValueError(f"norms {', '.join(sorted(norms))}")
    before, after, before_mlp, after_mlp = (norms[f"{place}_layernorm"] if place else None for place in places)
    return Layer(
        before_attention=before,
        attention=_attention(base, layer.self_attn, window, positions),
        after_attention=after,
        before_feed_forward=before_mlp,
        feed_forward=_feed_forward(layer.mlp),
        after_feed_forward=after_mlp,
    )


def _attention(base: Any, module: Any, window: int | None, positions: int) -> Attention:
    config = base.config
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, module.head_dim
    if hasattr(module, "qkv_proj"):
        query, key, value = _parts(module.qkv_proj, (heads * width, groups * width, groups * width))
    else:
        query, key, value = (_linear(getattr(module, f"{name}_proj")) for name in "qkv")
    cosines = sines = None
    if getattr(module, "use_rope", True):
        cosines, sines = _angles(base, module, positions)
    return Attention(
        query=query,
        key=key,
        value=value,
        output=_linear(module.o_proj),
        query_norm=_norm(module.q_norm) if hasattr(module, "q_norm") else None,
        key_norm=_norm(module.k_norm) if hasattr(module, "k_norm") else None,
        heads=heads,
        groups=groups,
        scale=float(module.scaling),
        cosines=cosines,
        sines=sines,
        window=window,
    )


def _feed_forward(module: Any) -> FeedForward:
    activation = _ACTIVATIONS[type(getattr(module, "act_fn", None) or module.activation_fn).__name__]
    if hasattr(module, "gate_up_proj"):
        half = module.gate_up_proj.weight.shape[0] // 2
        gate, up = _parts(module.gate_up_proj, (half, half))
    else:
        gate, up = _linear(module.gate_proj), _linear(module.up_proj)
    return FeedForward(gate=gate, up=up, down=_linear(module.down_proj), activation=activation)


def _angles(base: Any, module: Any, positions: int) -> tuple[Floats, Floats]:
    """Cosines and sines ``(positions, turned / 2)``; the two halves of a head turn by the same angles."""
    import torch

    numbers = torch.arange(positions)[None]
    like = torch.zeros(1, 1, 1)
    kind = {"layer_type": module.layer_type} if getattr(module, "layer_type", None) else {}
    try:
        found = base.rotary_emb(like, numbers, **kind)
    except TypeError:  # one rotary embedding for all layers
        found = base.rotary_emb(like, numbers)
    cosines, sines = (_floats(table[0]) for table in found)
    half = cosines.shape[1] // 2
    if not np.array_equal(cosines[:, :half], cosines[:, half:]):
        raise ValueError("its rotary embedding turns neighbouring values")
    return np.ascontiguousarray(cosines[:, :half]), np.ascontiguousarray(sines[:, :half])


def _windows(network: CompressionNetwork, positions: int) -> list[int | None]:
    """How far each layer sees, read off the masks that the longest row is given."""
    import torch

    base: Any = network.encoder
    of_all = [layer for layer in base.layers if not _of_memory(layer)]  # the others see the whole text
    unlimited: list[int | None] = [None] * len(base.layers)
    if not any(getattr(layer.self_attn, "sliding_window", None) for layer in of_all):
        return unlimited
    found: list[int | None] = []

    def note(_: nn.Module, __: Any, named: dict[str, Any]) -> None:
        found.append(_window(named.get("attention_mask"), positions))

    hooks = [layer.self_attn.register_forward_pre_hook(note, with_kwargs=True) for layer in of_all]
    try:
        network.hidden(network.embed(torch.zeros(1, positions, dtype=torch.long)), None, causal=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [*found, *unlimited[len(found) :]]


def _window(mask: Tensor | None, positions: int) -> int | None:
    if mask is None:
        return None
    seen = mask[0, 0].cpu().numpy()
    seen = seen if seen.dtype == bool else seen == 0
    if seen.all():
        return None
    window = int(seen[0].sum()) - 1
    places = np.arange(positions)
    if not np.array_equal(seen, np.abs(places[:, None] - places) <= window):
        raise ValueError("its attention mask is no window")
    return window


def _norm(module: Any) -> Norm:
    """A root-mean-square norm, by what it makes of ones: ``gain / sqrt(1 + epsilon)``."""
    import torch

    weight = module.weight
    epsilon = float(getattr(module, "variance_epsilon", None) or module.eps)
    gain = module(torch.ones_like(weight)) * (1 + epsilon) ** 0.5
    return Norm(gain=_floats(gain), epsilon=epsilon)


def _of_memory(layer: Any) -> bool:
    """Whether it is a :class:`~llm2comp_apps.encoder.memory_layers.MemoryLayer`, told without an import of torch."""
    return hasattr(layer, "text_key")


def _text_norm(last: Any) -> Norm | None:
    """What stands in front of the maps to the text's keys and values, given the last layer."""
    if not _of_memory(last):
        return None
    return Norm(gain=np.ones(last.text_key.in_features, np.float32), epsilon=last.epsilon)


def _linear(module: Any) -> Linear:
    (whole,) = _parts(module, (module.weight.shape[0],))
    return whole


def _parts(module: Any, sizes: tuple[int, ...]) -> list[Linear]:
    """A projection cut by its outputs."""
    weights = module.weight.split(sizes)
    biases = [None] * len(sizes) if module.bias is None else module.bias.split(sizes)
    return [
        Linear(weight=_floats(weight.T), bias=None if bias is None else _floats(bias))
        for weight, bias in zip(weights, biases, strict=True)
    ]


def _floats(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
