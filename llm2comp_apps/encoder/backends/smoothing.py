"""Make a network easier to round to 8 bits, without changing what it computes.

A few of a layer's inputs are far larger than the rest, and with one scale per token they leave little of the 8 bits to
the others, while a product's weights have room to spare there. Each input can be divided by a number of its own if the
weights that it meets are multiplied by it: SmoothQuant (arXiv 2211.10438), with the square root of the ratio of both
ranges. The divisions cost nothing, since they go into what makes the inputs: the gain of a norm, or the weights that
produce values (``value`` before ``output``, ``up`` before ``down``). Where the text stops, all layers behind
read the same rounded rows: they have one factor together, which becomes the gain of the norm there.

Cosine of int8 vectors to float32 ones, smallest and mean, the 30 layers of ``quality`` on 12 SciFact abstracts and 48
of its claims: .946 | .990 and .990 | .993 without it, .997 | .998 and .995 | .997 with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.backends.blueprint import Attention, Blueprint, FeedForward, Layer, Linear, Norm

__all__ = ["Ranges", "smooth"]

Floats = npt.NDArray[np.float32]

_SMALLEST = 1e-5  # a range below it is taken for this


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The largest absolute value of each input of a layer's products, over the tokens of some texts.

    Attributes:
        attention: ``(d,)``, of query, key and value.
        output: ``(heads * width,)``.
        feed_forward: ``(d,)``, of gate and up.
        down: ``(inner,)``.
    """

    attention: Floats
    output: Floats
    feed_forward: Floats
    down: Floats


def smooth(blueprint: Blueprint, ranges: Sequence[Ranges], text: Floats | None = None) -> Blueprint:
    """The same network with inputs that round well; inputs that no weight makes stay as they are.

    Args:
        blueprint: any.
        ranges: of each of its layers.
        text: ``(d,)``, of what :attr:`.Blueprint.text` makes, over the text's own tokens; ``None`` where there is none.
    """
    layers = tuple(_layer(layer, found) for layer, found in zip(blueprint.layers, ranges, strict=True))
    smoothed = replace(blueprint, layers=layers)
    return smoothed if text is None else _smooth_text(smoothed, text)


def _smooth_text(blueprint: Blueprint, found: Floats) -> Blueprint:
    """One factor for the maps to the text's keys and values of all layers."""
    assert blueprint.text is not None
    maps = [part for layer in blueprint.layers for part in (layer.text_key, layer.text_value) if part is not None]
    factor = _factor(found, *maps)
    layers = tuple(
        replace(layer, text_key=_multiplied(layer.text_key, factor), text_value=_multiplied(layer.text_value, factor))
        if layer.text_key is not None and layer.text_value is not None
        else layer
        for layer in blueprint.layers
    )
    return replace(blueprint, layers=layers, text=_divided_norm(blueprint.text, factor))


def _layer(layer: Layer, ranges: Ranges) -> Layer:
    attention, feed_forward = layer.attention, layer.feed_forward
    before, before_feed_forward = layer.before_attention, layer.before_feed_forward
    if before is not None:
        factor = _factor(ranges.attention, attention.query, attention.key, attention.value)
        before = _divided_norm(before, factor)
        attention = replace(
            attention,
            query=_multiplied(attention.query, factor),
            key=_multiplied(attention.key, factor),
            value=_multiplied(attention.value, factor),
        )
    if before_feed_forward is not None:
        factor = _factor(ranges.feed_forward, feed_forward.gate, feed_forward.up)
        before_feed_forward = _divided_norm(before_feed_forward, factor)
        feed_forward = replace(
            feed_forward, gate=_multiplied(feed_forward.gate, factor), up=_multiplied(feed_forward.up, factor)
        )
    attention, values = _smooth_output(attention, ranges.output)
    return replace(
        layer,
        before_attention=before,
        attention=attention,
        text_value=None if layer.text_value is None else _divided(layer.text_value, values),
        before_feed_forward=before_feed_forward,
        feed_forward=_smooth_down(feed_forward, ranges.down),
    )


def _smooth_output(part: Attention, found: Floats) -> tuple[Attention, Floats]:
    """One factor for each value of a group, which all heads of the group share; and what the values are divided by."""
    shape = (part.groups, part.heads // part.groups, part.width)
    weights = np.abs(part.output.weight).max(axis=1)
    factor = _root(found.reshape(shape).max(axis=1), weights.reshape(shape).max(axis=1))
    shared = np.broadcast_to(factor[:, None], shape).reshape(-1)
    divisors = factor.reshape(-1)
    return replace(part, value=_divided(part.value, divisors), output=_multiplied(part.output, shared)), divisors


def _smooth_down(part: FeedForward, found: Floats) -> FeedForward:
    factor = _factor(found, part.down)
    return replace(part, up=_divided(part.up, factor), down=_multiplied(part.down, factor))


def _factor(found: Floats, *parts: Linear) -> Floats:
    return _root(found, np.max([np.abs(part.weight).max(axis=1) for part in parts], axis=0))


def _root(inputs: Floats, weights: Floats) -> Floats:
    """Geometric mean 1, so that nothing grows."""
    logarithm = (np.log(np.maximum(inputs, _SMALLEST)) - np.log(np.maximum(weights, _SMALLEST))) / 2
    return np.exp(logarithm - logarithm.mean()).astype(np.float32)


def _multiplied(part: Linear, inputs: Floats) -> Linear:
    return replace(part, weight=part.weight * inputs[:, None])


def _divided(part: Linear, outputs: Floats) -> Linear:
    return replace(part, weight=part.weight / outputs, bias=None if part.bias is None else part.bias / outputs)


def _divided_norm(norm: Norm, factor: Floats) -> Norm:
    return replace(norm, gain=norm.gain / factor)
