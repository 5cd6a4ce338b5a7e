"""From a blueprint to a graph that ONNX Runtime runs fast on a CPU.

Rows of one batch have one length, so that the graph knows no padding, and the memory tokens are the last k of each row;
the last layer asks, projects and transforms these alone. Where the text stops behind some layer, so do all layers from
there on: the text is normed, and rounded, once for all of them, and each makes its own keys and values of it.

With ``int8`` the products with weights are made of integers: weights with a scale per output, rounded once; inputs with
a scale per **token**, rounded as they come. With one scale for a whole batch, as ``DynamicQuantizeLinear`` takes it, a
vector would depend on its neighbours, and one token with massive activations would blur all others. A token's scale
does not change which product is the largest, so it is multiplied in behind the product, and left out where a further
rounding takes it away again (``up``).

What happens on processors without VNNI is in :mod:`.saturation`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.backends.blueprint import Attention, Blueprint, FeedForward, Layer, Linear, Norm
from llm2comp_apps.encoder.backends.graph import MICROSOFT, Graph

__all__ = ["INPUT", "OUTPUT", "PRECISIONS", "build_graph", "part_names"]

INPUT = "embeddings"
"""``(B, T, d)`` float32: token embeddings, then the memory tokens."""
OUTPUT = "memory"
"""``(B, k, d)`` float32: the memory vectors."""
PRECISIONS = ("int8", "float32")

_LARGEST = 127  # of a signed integer of 8 bits; its inputs are stored unsigned, with 128 for zero
_TINY = 1e-20  # keeps a row of zeros from dividing by zero


def build_graph(blueprint: Blueprint, precision: str) -> Graph:
    """The encoder's layers, from embeddings to memory vectors.

    Args:
        blueprint: what to build.
        precision: of the products with weights, one of :data:`PRECISIONS`.
    """
    return _Builder(precision == "int8").build(blueprint)


def part_names(blueprint: Blueprint) -> dict[int, str]:
    """What the weights' file calls each part, by the part's ``id``: ``layers.0.query``, ``layers.0.down``, ``norm``."""
    names = {id(blueprint.norm): "norm"}
    if blueprint.text is not None:
        names[id(blueprint.text)] = "text"
    for number, layer in enumerate(blueprint.layers):
        for holder in (layer, layer.attention, layer.feed_forward):
            for field in fields(holder):
                part = getattr(holder, field.name)
                if isinstance(part, Linear | Norm):
                    names[id(part)] = f"layers.{number}.{field.name}"
    return names


@dataclass(frozen=True, slots=True)
class _Entering:
    """What products read: ``value`` in float32, or in 8 bits together with the ``scale`` of each token."""

    value: str
    scale: str = ""


class _Builder:
    def __init__(self, rounded: bool) -> None:
        self._graph = Graph()
        self._rounded = rounded
        self._names: dict[int, str] = {}

    def build(self, blueprint: Blueprint) -> Graph:
        graph = self._graph
        self._names = part_names(blueprint)
        k, d = blueprint.memory.shape
        states = graph.input(INPUT, ("batch", "tokens", d))
        stop, depth = blueprint.text_layers, len(blueprint.layers)
        for number, layer in enumerate(blueprint.layers[:stop], 1):
            states = self._layer(layer, states, k if number == depth else 0)
        if stop < depth:
            text = self._entering(self._slice(self._norm(blueprint.text, states), 0, -k), d)
            states = self._last(states, k)
            for layer in blueprint.layers[stop:]:
                states = self._memory_layer(layer, states, text)
        graph.output(OUTPUT, self._norm(blueprint.norm, states), ("batch", k, d))
        return graph

    def _layer(self, layer: Layer, states: str, last: int) -> str:
        """One layer; with ``last``, its output is that of so many last rows alone."""
        entering = self._norm(layer.before_attention, states)
        kept, asking = (self._last(value, last) if last else value for value in (states, entering))
        return self._behind(layer, kept, self._attention(layer.attention, entering, asking))

    def _memory_layer(self, layer: Layer, states: str, text: _Entering) -> str:
        """A layer that takes the states of the memory tokens alone, and reads the text where it stopped."""
        assert layer.text_key is not None
        assert layer.text_value is not None
        part, entering = layer.attention, self._norm(layer.before_attention, states)
        query, key, value = self._project([part.query, part.key, part.value], entering)
        text_key, text_value = self._products([layer.text_key, layer.text_value], text)
        key = self._graph.add("Concat", text_key, self._head_norm(part.key_norm, key, part.width), axis=1)
        value = self._graph.add("Concat", text_value, value, axis=1)
        turned = self._turn(part, self._head_norm(part.query_norm, query, part.width), part.heads, key, query)
        key = self._turn(part, key, part.groups, key, key)
        return self._behind(layer, states, self._attend(part, turned, key, value))

    def _behind(self, layer: Layer, kept: str, attended: str) -> str:
        """The states behind a layer, given those in front that go on and what its attention adds to them."""
        kept = self._graph.add("Add", kept, self._norm(layer.after_attention, attended))
        changed = self._feed_forward(layer.feed_forward, self._norm(layer.before_feed_forward, kept))
        return str(self._graph.add("Add", kept, self._norm(layer.after_feed_forward, changed)))

    def _attention(self, part: Attention, entering: str, asking: str) -> str:
        if asking == entering:
            query, key, value = self._project([part.query, part.key, part.value], entering)
        else:
            (query,) = self._project([part.query], asking)
            key, value = self._project([part.key, part.value], entering)
        query = self._turn(part, self._head_norm(part.query_norm, query, part.width), part.heads, entering, asking)
        key = self._turn(part, self._head_norm(part.key_norm, key, part.width), part.groups, entering, entering)
        mask = "" if part.window is None else self._window(part.window, entering, asking)
        return self._attend(part, query, key, value, mask)

    def _attend(self, part: Attention, query: str, key: str, value: str, mask: str = "") -> str:
        """What attention adds to the rows that ask, given queries and keys that are turned."""
        heads: dict[str, Any] = {"q_num_heads": part.heads, "kv_num_heads": part.groups}
        attended = self._graph.add("Attention", query, key, value, mask, scale=part.scale, **heads)
        return self._project([part.output], attended)[0]

    def _feed_forward(self, part: FeedForward, entering: str) -> str:
        graph = self._graph
        if self._rounded and part.up.bias is None:
            rounded, scale = self._round(entering, len(part.gate.weight))
            gate = self._scaled(self._product(part.gate, rounded), scale, part.gate)
            up = self._product(part.up, rounded)
            product = graph.add("Mul", self._activate(part.activation, gate), up)
            rounded, own = self._round(product, len(part.down.weight))
            return self._scaled(self._product(part.down, rounded), graph.add("Mul", own, scale), part.down)
        gate, up = self._project([part.gate, part.up], entering)
        return self._project([part.down], graph.add("Mul", self._activate(part.activation, gate), up))[0]

    def _activate(self, activation: str, value: str) -> str:
        if activation == "silu":
            return str(self._graph.add("QuickGelu", value, domain=MICROSOFT, alpha=1.0))
        return str(self._graph.add("Gelu", value, approximate="tanh" if activation == "gelu_tanh" else "none"))

    def _norm(self, norm: Norm | None, value: str) -> str:
        if norm is None:
            return value
        gain = self._graph.constant(norm.gain, name=f"{self._names[id(norm)]}.gain")
        return str(self._graph.add("SimplifiedLayerNormalization", value, gain, axis=-1, epsilon=norm.epsilon))

    def _head_norm(self, norm: Norm | None, value: str, width: int) -> str:
        """A norm over each head, or over all of them together."""
        if norm is None or len(norm.gain) != width:
            return self._norm(norm, value)
        cut = self._graph.add("Reshape", value, self._graph.constant([0, 0, -1, width], np.int64))
        return str(self._graph.add("Reshape", self._norm(norm, cut), self._graph.constant([0, 0, -1], np.int64)))

    def _turn(self, part: Attention, value: str, heads: int, entering: str, asking: str) -> str:
        """The rotary embedding of rows that are the last ones of ``entering``."""
        if part.cosines is None or part.sines is None:
            return value
        graph = self._graph
        turned = 2 * part.cosines.shape[1]
        partial: dict[str, Any] = {}
        if turned < part.width:
            partial = {"num_heads": heads, "rotary_embedding_dim": turned}
        first = graph.constant([0], np.int64)
        if asking != entering:
            first = graph.add("Sub", self._rows(entering), self._rows(asking))
        tables = graph.constant(part.cosines), graph.constant(part.sines)
        return str(graph.add("RotaryEmbedding", value, first, *tables, domain=MICROSOFT, **partial))

    def _window(self, window: int, entering: str, asking: str) -> str:
        """Which rows of ``entering (T)`` each of its last rows, ``asking (Q)``, sees: ``(Q, T)``."""
        graph = self._graph
        zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
        scalar = graph.constant(np.zeros(0), np.int64)
        total, wanted = (graph.add("Reshape", self._rows(value), scalar) for value in (entering, asking))
        seen = graph.add("Range", zero, total, one)
        seeing = graph.add("Unsqueeze", graph.add("Range", graph.add("Sub", total, wanted), total, one), one)
        distance = graph.add("Abs", graph.add("Sub", seeing, seen))
        return str(graph.add("LessOrEqual", distance, graph.constant(window, np.int64)))

    def _rows(self, value: str) -> str:
        return str(self._graph.add("Shape", value, start=1, end=2))

    def _last(self, value: str, count: int) -> str:
        return self._slice(value, -count, np.iinfo(np.int64).max)

    def _slice(self, value: str, start: int, end: int) -> str:
        """Some rows of each text."""
        indices = (self._graph.constant([number], np.int64) for number in (start, end, 1))
        return str(self._graph.add("Slice", value, *indices))

    def _project(self, parts: list[Linear], value: str) -> list[str]:
        """Several projections of one input."""
        return self._products(parts, self._entering(value, len(parts[0].weight)))

    def _entering(self, value: str, width: int) -> _Entering:
        return _Entering(*self._round(value, width)) if self._rounded else _Entering(value)

    def _products(self, parts: list[Linear], entering: _Entering) -> list[str]:
        value, scale = entering.value, entering.scale
        if not self._rounded:
            return [self._biased(self._graph.add("MatMul", value, self._kept(p, "weight", p.weight)), p) for p in parts]
        return [self._scaled(self._product(part, value), scale, part) for part in parts]

    def _round(self, value: str, width: int) -> tuple[str, str]:
        """Unsigned 8-bit integers of a value ``(B, T, width)``, and the scale of each token.

        Each pass over a value costs as much as a part of its product, so it is only read for its extremes, and divided
        by the scale where it is rounded: a token is a block of ``QuantizeLinear``.
        """
        graph = self._graph
        along = graph.constant([-1], np.int64)
        least = graph.add("Neg", graph.add("ReduceMin", value, along))
        largest = graph.add("Max", graph.add("ReduceMax", value, along), least, graph.constant(_TINY))
        scale = graph.add("Mul", largest, graph.constant(1 / _LARGEST))
        zeros = graph.add("Expand", self._zero(), graph.add("Shape", scale))
        return graph.add("QuantizeLinear", value, scale, zeros, axis=2, block_size=width), scale

    def _product(self, part: Linear, rounded: str) -> str:
        """Product with a rounded weight, before it is multiplied by each token's scale."""
        scale = np.maximum(np.abs(part.weight).max(axis=0), _TINY) / _LARGEST
        weight = self._kept(part, "integers", np.rint(part.weight / scale), np.int8)
        scales = self._graph.constant(1.0), self._kept(part, "scales", scale)
        return str(self._graph.add("MatMulIntegerToFloat", rounded, weight, *scales, self._zero(), domain=MICROSOFT))

    def _scaled(self, product: str, scale: str, part: Linear) -> str:
        return self._biased(self._graph.add("Mul", product, scale), part)

    def _biased(self, value: str, part: Linear) -> str:
        return value if part.bias is None else str(self._graph.add("Add", value, self._kept(part, "bias", part.bias)))

    def _kept(self, part: Linear, what: str, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        return self._graph.constant(array, dtype, name=f"{self._names[id(part)]}.{what}")

    def _zero(self) -> str:
        return self._graph.constant(_LARGEST + 1, np.uint8)
