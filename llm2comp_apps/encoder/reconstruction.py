"""Give a pruned encoder back what its missing layers did, by least squares and without training.

A layer adds to the states of all tokens twice, the second time by a linear map: ``x += W h``, where h are the inner
values of its feed-forward part. Where layers are missing behind it, W can do part of their work. So the kept layers
get a new W one after the other, from the first to the last, each by

    argmin_W  sum_t  w_t |y_t - x_t - W h_t|^2 + r |W - W_before|^2,      w_t = m_t / |y_t|^2

Here x and h are what the pruned encoder has there, with all that differs in front of it, and y is what the whole
encoder gives to the next kept layer (to the final norm, at the end). The states are read through norms, hence the
division; m weighs the memory tokens, whose last states are the vectors of a text. Of several r each layer takes the one
that is best on every fifth text when the others are learned from; then all are learned from.

ReplaceMe (arXiv 2505.02819) has the idea for language models: one map, beside the last W in front of it, stands in for
a row of missing layers. Here every kept layer is fitted, and to states that really reach it.

The text may stop behind some layer (:mod:`.memory_layers`). Then the layers behind it get the two maps that make the
text's keys and values in the same way, to come near to those that the whole encoder has there; and W is learned from
the memory tokens alone. Where nothing else is left out, every W stays what it is: the maps do all that is missing,
and the layers stay those that were trained, or rounded (``layers_of`` of :func:`.packing.pack_encoder`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.layers import Batch, Given, text_batches
from llm2comp_apps.encoder.memory_layers import KeysAndValues, MemoryLayer, check_text_layers, groups_of, turned
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.readout import DEFAULT_READOUT
from llm2comp_apps.encoder.shallow import shallow_body
from llm2comp_apps.errors import EncoderError, UsageError

__all__ = ["HELD_OUT", "check_fitting", "reconstruct"]

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""What r can be, as a share of the mean of ``sum_t w_t h_t^2`` over the inner values."""
TEXT_RIDGES = (0.0001, 0.001, 0.01, 0.1)
"""The same for the maps to the text's keys and values, whose inputs are fewer."""
HELD_OUT = 5
"""One text of so many chooses r."""
MEMORY_WEIGHT = 5.0
"""m of a memory token; that of the other tokens is 1."""

_States = list[Tensor]
"""Of a batch: ``(B, T, d)`` for each pass; a readout with several prompts takes several."""


@torch.no_grad()
def reconstruct(
    full: LLM2Comp,
    pruned: LLM2Comp,
    texts: Sequence[str],
    *,
    text_layers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LLM2Comp:
    """An encoder with the layers of ``pruned``, fitted to the states of ``full``; see the module.

    The states of all texts are held twice, behind one layer each: 8 d bytes a token.

    Args:
        full: what ``pruned`` was made from by :func:`.layers.prune`; both compute in float32.
        pruned: stays as it is. What is returned has layers of its own, whose memory the decoder cannot read.
        texts: any, no labels are needed.
        text_layers: how many of the layers the text goes through; ``None`` for all.
        on_progress: called with layers done and in all.

    Raises:
        UsageError: as :func:`check_fitting`; and so is the next.
        EncoderError: see there.
    """
    check_fitting(full, texts, pruned.k, len(pruned.layers), text_layers)
    network = _with_own_layers(pruned)
    if text_layers is not None:
        network.stop_text(text_layers)
    batches = text_batches(full, texts)
    wanted: list[_States] = [[] for _ in batches]
    states: list[_States] = [[] for _ in batches]
    starts = [full.layers.index(number) for number in pruned.layers]
    ends = [*starts[1:], len(full.layers)]
    only_stops = text_layers is not None and (len(pruned.layers), pruned.k) == (len(full.layers), full.k)
    for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if index >= (network.text_layers or len(ends)):
            _fit_text(full.network, start, network, index, wanted, states, batches)
        for number, batch in enumerate(batches):
            wanted[number] = _through(full.network, range(start, end), wanted[number], batch)
        if not only_stops:
            _fit_last_map(network, index, wanted, states, batches)
        for number, batch in enumerate(batches):
            states[number] = _through(network, range(index, index + 1), states[number], batch)
        if on_progress:
            on_progress(index + 1, len(ends))
    return _with_network(pruned, network)


@torch.no_grad()
def check_fitting(
    full: LLM2Comp,
    texts: Sequence[str],
    k: int | None = None,
    layers: int | None = None,
    text_layers: int | None = None,
) -> None:
    """Refuse what :func:`reconstruct` cannot do, before layers are chosen.

    Args:
        full: see there.
        texts: to fit with.
        k: memory tokens that will be kept; by default all.
        layers: how many will be kept; by default all.
        text_layers: how many of these the text will go through; ``None`` for all.

    Raises:
        UsageError: half precision, fewer than :data:`HELD_OUT` texts, fewer memory tokens under a readout with several
            prompts, or impossible ``text_layers``.
        EncoderError: the layers change what their feed-forward part adds, so that no map of it can be fitted; or the
            text cannot stop in them, or stops already.
    """
    network = full.network
    if network.text_layers is not None:
        raise EncoderError(
            f"{full.name}: its text stops in between, so it cannot be fitted; cut what it was made from."
        )
    if text_layers is not None:
        _check_stop(full, texts, text_layers, layers)
    if network.compute_dtype is not torch.float32:
        raise UsageError("must be float32 to fit layers", field="dtype")
    if len(network.readout.prompts) > 1 and k not in (None, full.k):
        raise UsageError(f"must stay {full.k}: {full.name} shares its memory tokens among several prompts", field="k")
    if len(texts) < HELD_OUT:
        raise UsageError(f"must hold at least {HELD_OUT}, not {len(texts)}", field="texts")
    last_map, batch = _last_map(network, 0), text_batches(full, texts[:1])[0]
    (inner, *_), (once, *_) = _inner_and_made(network, 0, [], batch)
    adds = inner @ last_map.weight.T
    last_map.weight *= 2  # and back: exactly what it was
    twice, *_ = _through(network, range(1), [], batch)
    last_map.weight /= 2
    if (twice - once - adds).abs().max() > 0.01 * adds.abs().max():
        raise EncoderError(f"{full.name}: its layers change what their feed-forward part adds, so it cannot be fitted.")


class _Sums:
    """What one layer's new map is computed from."""

    def __init__(self, last_map: nn.Linear) -> None:
        inner, width = last_map.in_features, last_map.out_features
        self.gram = torch.zeros(inner, inner, device=last_map.weight.device)
        """``sum w h h'``, ``(f, f)``."""
        self.moment = torch.zeros(inner, width, device=last_map.weight.device)
        """``sum w h (y - x - W_before h)'``, ``(f, d)``."""

    def add(self, values: Tensor, missing: Tensor, weights: Tensor) -> None:
        """Inner values ``(B, T, f)``, what the map should add to what it adds now ``(B, T, d)``, weights ``(B, T)``."""
        weighted = (values * weights[..., None]).flatten(0, 1).T
        self.gram += weighted @ values.flatten(0, 1)
        self.moment += weighted @ missing.flatten(0, 1)

    def solve(self, ridge: float) -> Tensor:
        """``W - W_before``, transposed: ``(f, d)`` float64 on the CPU."""
        gram = self.gram.cpu().double()
        gram.diagonal().add_(ridge * gram.diagonal().mean())
        return torch.linalg.solve(gram, self.moment.cpu().double())

    def error(self, change: Tensor) -> float:
        """The weighted squares that are left with a change, without those that no change can alter."""
        return float((change * (self.gram.cpu().double() @ change - 2 * self.moment.cpu().double())).sum())


def _add(sums: tuple[_Sums, _Sums], values: Tensor, missing: Tensor, weights: Tensor, seen: int) -> None:
    """Add a batch to the sums to learn from, and every fifth text to the others; ``seen`` texts came before."""
    learned = (torch.arange(len(values), device=values.device) + seen) % HELD_OUT < HELD_OUT - 1
    for one, rows in zip(sums, (learned, ~learned), strict=True):
        one.add(values[rows], missing[rows], weights[rows])


def _change(learned: _Sums, held_out: _Sums, ridges: Sequence[float]) -> Tensor:
    """``W - W_before``, ``(d, f)``; none, where every r makes the held-out texts worse."""
    errors = {ridge: held_out.error(learned.solve(ridge)) for ridge in ridges}
    best = min(errors, key=errors.__getitem__)
    if errors[best] >= 0:
        return torch.zeros_like(learned.moment.T)
    learned.gram += held_out.gram
    learned.moment += held_out.moment
    return learned.solve(best).T


def _with_own_layers(pruned: LLM2Comp) -> CompressionNetwork:
    """The network of an encoder, with copies of its layers."""
    old = pruned.network
    network = CompressionNetwork(old.lm, **old.memory_state())
    network.layers, network.own_layers = tuple(pruned.layers), True
    network.shallow = shallow_body(old.encoder, copied=True)
    return network.read_by(old.readout.name, pruned.tokenizer).to(pruned.device).requires_grad_(requires_grad=False)


def _with_network(pruned: LLM2Comp, network: CompressionNetwork) -> LLM2Comp:
    """An encoder like ``pruned`` with a network that has layers of its own, rounded as a checkpoint keeps them."""
    weights = {name: tensor.half() for name, tensor in network.layer_weights().items()}
    network.load_layers(weights)
    return LLM2Comp(
        network,
        pruned.tokenizer,
        dataclasses.replace(pruned.settings, layers=pruned.layers, own_layers=True, text_layers=network.text_layers),
        layers_state=weights,
        weights_sha256=checkpoint.weights_sha256(weights),
    )


def _check_stop(full: LLM2Comp, texts: Sequence[str], text_layers: int, layers: int | None) -> None:
    body: Any = full.network.encoder
    check_text_layers(text_layers, layers or len(body.layers))
    if full.network.readout.name != DEFAULT_READOUT.name:
        raise UsageError(
            f"must be left out: {full.name} has the readout {full.network.readout.name}", field="text_layers"
        )
    MemoryLayer(body.layers[-1], full.k, groups_of(body.config))
    last, batch = len(body.layers) - 1, text_batches(full, texts[:1])[0]
    _check_turns(full.network, last, _through(full.network, range(last), [], batch), batch)


def _fit_text(
    full: CompressionNetwork,
    place: int,
    network: CompressionNetwork,
    index: int,
    wanted: Sequence[_States],
    states: Sequence[_States],
    batches: Sequence[Batch],
) -> None:
    """Fit a memory layer's keys and values of the text to those of the layer at ``place`` of the whole encoder.

    Args:
        full: the whole encoder's.
        place: see above.
        network: the pruned encoder's, changed in place.
        index: of its layer.
        wanted: of each batch, what stands in front of the layer in the whole encoder.
        states: and in the pruned one.
        batches: the texts.
    """
    layers: Any = network.encoder.layers
    _check_turns(full, place, wanted[0], batches[0])
    maps, seen = layers[index].text_maps, 0
    sums = [(_Sums(one), _Sums(one)) for one in maps]
    for given, (own,), batch in zip(wanted, states, batches, strict=True):
        length = batch[0].shape[1]
        weights = torch.ones(batch[0].shape, device=own.device) if batch[1] is None else batch[1].float()
        normed = MemoryLayer.normed(own[:, :length])
        for pair, target in zip(sums, _keys_and_values(full, place, given, batch), strict=True):
            _add(pair, normed, target[:, :, :length].transpose(1, 2).flatten(2), weights, seen)
        seen += len(batch[0])
    for one, pair in zip(maps, sums, strict=True):
        one.weight += _change(*pair, TEXT_RIDGES).to(one.weight)


def _fit_last_map(
    network: CompressionNetwork,
    index: int,
    wanted: Sequence[_States],
    states: Sequence[_States],
    batches: Sequence[Batch],
) -> None:
    """Fit the W of a layer.

    Args:
        network: the pruned encoder's, changed in place.
        index: of its layer.
        wanted: of each batch, what the whole encoder has behind the layer.
        states: what the pruned one has in front of it.
        batches: the texts.
    """
    last_map, seen = _last_map(network, index), 0
    sums = _Sums(last_map), _Sums(last_map)
    for given, own, batch in zip(wanted, states, batches, strict=True):
        inner, made = _inner_and_made(network, index, own, batch)
        for values, x, y in zip(inner, made, given, strict=True):
            target = y[:, : x.shape[1]]  # with fewer memory tokens, a row is shorter
            weights, last = _weights(network, batch, target), values.shape[1]  # of the row, that are computed
            _add(sums, values, (target - x)[:, -last:], weights[:, -last:], seen)
        seen += len(batch[0])
    last_map.weight += _change(*sums, RIDGES).to(last_map.weight)


def _keys_and_values(network: CompressionNetwork, place: int, states: _States, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of all tokens in a layer: ``(B, groups, T, width)`` each, the keys before they are turned by their positions."""
    kept, positions = _kept(network, place, states, batch)
    assert kept.keys is not None
    assert kept.values is not None
    return (turned(kept.keys, positions, back=True) if _turns(network, place) else kept.keys), kept.values


def _check_turns(network: CompressionNetwork, place: int, states: _States, batch: Batch) -> None:
    """Ask a layer whether it turns keys as :func:`.memory_layers.turned` does.

    Raises:
        EncoderError: it pairs other values (GLM, Cohere, Ernie 4.5, Helium), or turns none (some of Cohere 2's).
    """
    (kept, positions), (plain, _) = (_kept(network, place, states, batch, still=still) for still in (False, True))
    assert kept.keys is not None
    assert plain.keys is not None
    expected = turned(plain.keys, positions) if _turns(network, place) else plain.keys
    if (kept.keys - expected).abs().max() > 0.01 * kept.keys.abs().max():
        name = type(cast("Any", network.encoder).layers[place]).__name__
        raise EncoderError(f"the text cannot stop before a layer like {name}: positions turn its keys in another way")


def _turns(network: CompressionNetwork, place: int) -> bool:
    return bool(getattr(cast("Any", network.encoder).layers[place].self_attn, "use_rope", True))


def _kept(
    network: CompressionNetwork, place: int, states: _States, batch: Batch, *, still: bool = False
) -> tuple[KeysAndValues, tuple[Tensor, Tensor] | None]:
    """Keys and values that a layer makes, and the tables that turned the keys; ``still`` turns them by nothing."""
    kept, layers, positions = KeysAndValues(), cast("Any", network.encoder).layers, []

    def note(_: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        tables = named.get("position_embeddings")
        positions.append(tables)
        if still and tables is not None:
            named = {**named, "position_embeddings": (torch.ones_like(tables[0]), torch.zeros_like(tables[1]))}
        return given, {**named, "past_key_values": kept}

    hook = layers[place].register_forward_pre_hook(note, with_kwargs=True)
    try:
        _through(network, range(place, place + 1), states, batch)
    except AttributeError as error:  # linear attention asks a cache for other things
        raise EncoderError(f"the text cannot stop before a layer like {type(layers[place]).__name__}") from error
    finally:
        hook.remove()
    return kept, positions[0]


def _last_map(network: CompressionNetwork, index: int) -> nn.Linear:
    """What a layer's feed-forward part ends with."""
    layers: Any = network.encoder.layers
    layer = layers[index].layer if isinstance(layers[index], MemoryLayer) else layers[index]
    found = getattr(getattr(layer, "mlp", None), "down_proj", None)
    if not isinstance(found, nn.Linear):
        raise EncoderError(f"{type(network.lm).__name__} has no layers that can be fitted: `mlp.down_proj` is missing.")
    return found


def _weights(network: CompressionNetwork, batch: Batch, target: Tensor) -> Tensor:
    """Each token's w, ``(B, T)``; 0 for padding."""
    weights = 1 / target.square().sum(-1).clamp(min=1e-12)
    if not network.readout.of_text:
        weights[:, -(network.k // len(network.readout.prompts)) :] *= MEMORY_WEIGHT
    if (mask := batch[1]) is not None:
        weights[:, : mask.shape[1]] *= mask
    return weights


def _inner_and_made(network: CompressionNetwork, index: int, states: _States, batch: Batch) -> tuple[_States, _States]:
    """The inner values ``(B, T, f)`` of a layer's feed-forward part, and the states behind the layer."""
    inner: _States = []
    hook = _last_map(network, index).register_forward_pre_hook(lambda _, given: inner.append(given[0]))
    try:
        return inner, _through(network, range(index, index + 1), states, batch)
    finally:
        hook.remove()


def _through(network: CompressionNetwork, places: range, states: _States, batch: Batch) -> _States:
    """The states behind some layers that follow one another, from those in front; these are not read at layer 0."""
    before = network.shallow
    body: Any = shallow_body(network.encoder, range(max(places.start - 1, 0), places.stop))
    if places.start:
        body.layers[0] = Given(states)
    behind: _States = []
    hook = body.layers[-1].register_forward_hook(lambda _, __, made: behind.append(made))
    network.shallow = body
    try:
        network.memory(*batch)
    finally:
        network.shallow = before
        hook.remove()
    return behind
