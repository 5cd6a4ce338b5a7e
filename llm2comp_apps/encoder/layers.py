"""Which layers an encoder needs: measures of what each one does, and encoders without the others.

* **Influence** of a layer: 1 - cosine between its input and its output, where the vectors of a text are read (ShortGPT,
  arXiv 2403.03853, there over all tokens). One pass over the texts orders all layers.
* **Greedy removal**: of all layers, take out the one whose loss costs the vectors least, and again from what is left.
  What a layer does for another is seen, at the price of about ``L^2 / 2`` layers a text for each removal.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.memory_layers import of_fewer, text_layers_of
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.pooling import pool
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.shallow import check_layers, shallow_body
from llm2comp_apps.errors import UsageError

__all__ = [
    "METHODS",
    "Batch",
    "Given",
    "Removal",
    "agreement",
    "check_method",
    "choose_layers",
    "greedy_removals",
    "influence",
    "prune",
    "text_batches",
]

METHODS = ("influence", "greedy")

_LAYER = re.compile(r"\blayers\.(\d+)\.")
Batch = tuple[Tensor, Tensor | None]
"""Left-padded token ids ``(B, T)`` of some texts, and their mask."""


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """A step of :func:`greedy_removals`.

    Attributes:
        layer: number, in the backbone, of the layer that was taken out.
        cosine: mean cosine to the full encoder's embeddings without it and all that were taken out before.
    """

    layer: int
    cosine: float


def check_method(method: str) -> None:
    """Refuse an unknown method of :func:`choose_layers`.

    Raises:
        UsageError: it is none of :data:`METHODS`.
    """
    if method not in METHODS:
        raise UsageError(f"must be one of {', '.join(METHODS)}, not {method!r}", field="method")


def choose_layers(
    encoder: LLM2Comp,
    texts: Sequence[str],
    n: int,
    *,
    method: str = "greedy",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[int]:
    """The ``n`` layers that an encoder needs most: ascending numbers of the backbone's layers.

    Args:
        encoder: full or shallow.
        texts: a hundred short ones tell enough.
        n: how many layers to keep.
        method: see the module.
        on_progress: called with removals done and in all.

    Raises:
        UsageError: more layers than the encoder has, none, no texts, or an unknown method.
    """
    check_method(method)
    numbers = encoder.layers
    if not 1 <= n <= len(numbers):
        raise UsageError(f"must be from 1 to {len(numbers)}, the number of its layers, not {n}", field="layers")
    if method == "influence":
        strongest = np.argsort(-influence(encoder, texts), kind="stable")[:n]
        return [numbers[index] for index in sorted(strongest)]
    removals, total = [], len(numbers) - n
    for removal in greedy_removals(encoder, texts, total):
        removals.append(removal.layer)
        if on_progress:
            on_progress(len(removals), total)
    return sorted(set(numbers) - set(removals))


@torch.inference_mode()
def influence(encoder: LLM2Comp, texts: Sequence[str]) -> FloatArray:
    """Influence of each layer that an encoder runs, see the module: ``(L,)`` float32, from 0 to 2."""
    batches = text_batches(encoder, texts)
    network = encoder.network
    read = 1 if network.readout.of_text else network.k // len(network.readout.prompts)
    sums, count = np.zeros(len(encoder.layers)), 0
    for batch in batches:
        states = _states_between(encoder, network.encoder, batch)
        count += sum(len(state) * read for state in states[0])
        for index, (before, after) in enumerate(itertools.pairwise(states)):
            for one, other in zip(before, after, strict=True):
                cosines = torch.cosine_similarity(one[:, -read:].float(), other[:, -read:].float(), dim=-1)
                sums[index] += float((1 - cosines).sum())
    return (sums / count).astype(np.float32)


@torch.inference_mode()
def greedy_removals(encoder: LLM2Comp, texts: Sequence[str], n: int) -> Iterator[Removal]:
    """Take out ``n`` layers one after the other, each time the one that costs the vectors least.

    Candidates share everything in front of them: the states there are computed once for each batch, and each candidate
    only runs the layers behind it.

    Raises:
        UsageError: no texts, or not a layer would be left.
    """
    numbers = encoder.layers
    if not 0 <= n < len(numbers):
        raise UsageError(f"must be from 0 to {len(numbers) - 1}, not {n}", field="n")
    batches = text_batches(encoder, texts)
    full = [_embeddings(encoder, encoder.network.encoder, batch) for batch in batches]
    kept = list(range(len(numbers)))
    for _ in range(n):
        sums = np.zeros(len(kept))
        for batch, target in zip(batches, full, strict=True):
            sums += _cosines_without_each(encoder, kept, batch, target)
        index = int(sums.argmax())
        removed = kept.pop(index)
        yield Removal(numbers[removed], float(sums[index]) / len(texts))


def prune(encoder: LLM2Comp, layers: Sequence[int], k: int | None = None) -> LLM2Comp:
    """An encoder that runs only some of another one's layers, or has fewer memory tokens, untrained for it.

    It shares the weights that it keeps with the encoder that it is made from, which stays as it is. Saved, it is a
    checkpoint with its part of the adapter or of the layers. Its vectors are no longer in the space that the other's
    were aligned to.

    Args:
        encoder: full or shallow.
        layers: ascending numbers of the backbone's layers, all of which the encoder runs.
        k: keep the first k memory tokens; by default all.

    Raises:
        UsageError: a layer that the encoder does not run, more memory tokens than it has, or an encoder with token
            embeddings in 4 bits, which a checkpoint with part of its layers would not have; or none of the layers that
            the text goes through, where it does not go through all.
    """
    if encoder.settings.token_bits != 8:
        raise UsageError(f"{encoder.name} has rounded token embeddings; cut the encoder that it was packed from")
    numbers = encoder.layers
    chosen = check_layers(layers, max(numbers) + 1)
    if missing := sorted(set(chosen) - set(numbers)):
        raise UsageError(f"holds {missing[0]}, which {encoder.name} does not run any more", field="layers")
    places = [numbers.index(number) for number in chosen]
    old = encoder.network
    memory = old.memory_state() if k is None else checkpoint.first_memory(old.memory_state(), _check_k(encoder, k))
    network = CompressionNetwork(old.lm, **memory)
    network.layers, network.own_layers, network.compute_dtype = tuple(chosen), old.own_layers, old.compute_dtype
    network.shallow = shallow_body(old.encoder, places)
    network.text_layers = text_layers_of(chosen, numbers, old.text_layers)
    of_fewer(network.shallow, network.k)
    network.read_by(old.readout.name, encoder.tokenizer).to(encoder.device).requires_grad_(False)
    adapter, weights = encoder.adapter, encoder.layers_state
    if adapter is not None:  # counts layers as the backbone does
        config, tensors = adapter
        adapter = config | {"layers_to_transform": chosen}, _of_layers(tensors, {number: number for number in chosen})
    if weights is not None:  # count layers as the encoder does
        weights = _of_layers(weights, {place: index for index, place in enumerate(places)})
    stored = adapter[1] if adapter is not None else weights
    return LLM2Comp(
        network,
        encoder.tokenizer,
        dataclasses.replace(encoder.settings, layers=chosen, k=network.k, text_layers=network.text_layers, space=None),
        adapter=adapter,
        layers_state=weights,
        weights_sha256="" if stored is None else checkpoint.weights_sha256(stored),
    )


def agreement(full: FloatArray, other: FloatArray) -> FloatArray:
    """Cosine of each text's two embeddings, ``(n,)``; both ``(n, d)`` with unit rows."""
    cosines: FloatArray = np.einsum("nd,nd->n", full, other)
    return cosines


def _check_k(encoder: LLM2Comp, k: int) -> int:
    if encoder.network.readout.of_text:
        raise UsageError(f"must be left out: {encoder.name} reads the text itself and has no memory tokens", field="k")
    if not 1 <= k <= encoder.k:
        raise UsageError(f"must be from 1 to {encoder.k}, the memory tokens of {encoder.name}, not {k}", field="k")
    return k


def _of_layers(weights: Mapping[str, Tensor], numbers: Mapping[int, int]) -> dict[str, Tensor]:
    """The weights of the layers that are keys of ``numbers``, renumbered to its values, and those outside layers."""
    found = {}
    for name, tensor in weights.items():
        layer = _LAYER.search(name)
        if layer is None:
            found[name] = tensor
        elif (number := int(layer[1])) in numbers:
            found[f"{name[: layer.start(1)]}{numbers[number]}{name[layer.end(1) :]}"] = tensor
    return found


class Given(nn.Module):
    """Stands where a layer was taken out, and gives what stood before it: one tensor for each pass."""

    def __init__(self, states: Sequence[Tensor]) -> None:
        super().__init__()
        self._states = iter(states)

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """The next of the states, whatever goes in."""
        return next(self._states)


def text_batches(encoder: LLM2Comp, texts: Sequence[str]) -> list[Batch]:
    """Texts as the network takes them, in batches of similar length.

    Raises:
        UsageError: no texts.
    """
    if not texts:
        raise UsageError("must hold at least one text", field="texts")
    rows = encoder._rows(texts, "")
    found = length_batches([len(row) for row in rows], encoder.batch_tokens())
    return [left_pad([rows[index] for index in batch], 0, encoder.device) for batch in found]


def _embeddings(encoder: LLM2Comp, body: nn.Module, batch: Batch) -> Tensor:
    """``(B, d)`` unit rows of a batch, with another body than the encoder's own."""
    network = encoder.network
    before, network.shallow = network.shallow, body
    try:
        with network.autocast():
            memory = network.memory(*batch)
    finally:
        network.shallow = before
    return torch.nn.functional.normalize(pool(memory, encoder.pooling), dim=-1)


def _states_between(encoder: LLM2Comp, body: nn.Module, batch: Batch) -> list[list[Tensor]]:
    """What stands before each layer of ``body`` and behind the last: L + 1 lists, one ``(B, T, d)`` for each pass.

    A readout with several prompts takes several passes.
    """
    source: Any = body
    states: list[list[Tensor]] = [[] for _ in range(len(source.layers) + 1)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, held=held: held.append(given[0]))
        for layer, held in zip(source.layers, states, strict=False)
    ]
    hooks.append(source.layers[-1].register_forward_hook(lambda _, __, made: states[-1].append(made)))
    try:
        _embeddings(encoder, body, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return states


def _cosines_without_each(encoder: LLM2Comp, kept: Sequence[int], batch: Batch, target: Tensor) -> FloatArray:
    """Cosines to ``target (B, d)`` without each of the ``kept`` layers, added up over the batch: ``(len(kept),)``."""
    body = shallow_body(encoder.network.encoder, kept)
    states = _states_between(encoder, body, batch)
    sums = np.zeros(len(kept), dtype=np.float32)
    for index in range(len(kept)):
        tail: Any = shallow_body(body, range(index, len(kept)))
        tail.layers[0] = Given(states[index])
        sums[index] = float((_embeddings(encoder, tail, batch) * target).sum())
    return sums
