"""From a checkpoint to an export: read the network once with torch, write the graph down, and measure what it is worth.

Half of the texts of :mod:`.check_texts` show the ranges that rounding is prepared with, the other half, which took no
part in that, is encoded by the network in float32 and by the graph. An export whose vectors are not close enough to
the network's is refused, and never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save_file

from llm2comp_apps.encoder.arrays import open_arrays, places
from llm2comp_apps.encoder.backends.blueprint import Blueprint, read_blueprint
from llm2comp_apps.encoder.backends.build import PRECISIONS, build_graph
from llm2comp_apps.encoder.backends.check_texts import check_texts
from llm2comp_apps.encoder.backends.exported import (
    FILES,
    GRAPH,
    LAYERS,
    TEXT_GAIN,
    TEXT_MAPS,
    TOKENIZER,
    TOKENS,
    Manifest,
    read_manifest,
)
from llm2comp_apps.encoder.backends.graph import UNNAMED
from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder, TextTokenizer
from llm2comp_apps.encoder.backends.saturation import products_saturate
from llm2comp_apps.encoder.backends.smoothing import Ranges, smooth
from llm2comp_apps.encoder.backends.tokens import packed_tokens
from llm2comp_apps.encoder.cache import file_sha256
from llm2comp_apps.encoder.memory_layers import MemoryLayer
from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.pairs import SEPARATOR, pair_row
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.files import replaced_folder

if TYPE_CHECKING:
    from llm2comp_apps.encoder.model import LLM2Comp
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["LIMITS", "SCORE_LIMITS", "Limit", "export_encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least cosine to the network in float32 that vectors may have: that of any one text, and the mean."""

    smallest: float
    mean: float


LIMITS = {"int8": Limit(smallest=0.97, mean=0.995), "float32": Limit(smallest=0.99999, mean=0.99999)}
"""Scores set the limit of int8. The 30 layers of ``quality`` have a mean of .9970, and .985 for ``the the the ...``;
their score on 500 pairs of STS-B dev is 92.4 instead of 92.5. Fewer layers round better: the first 12 have .9998."""

SCORE_LIMITS = {"int8": 0.99, "float32": 0.9999}
"""The least correlation that the scores of a reranker may have with those of the network in float32."""

_POSITIONS = 1024
"""Rows of at least this length fit, so that a larger maximum length seldom needs another export."""
_ASKED = 16
"""Tokens of a check text that stand for a query, where a reranker is exported."""
_TOKENS = 96
"""Tokens of a check text that are encoded; longer rows round no worse and take long in float32."""


def export_encoder(
    encoder: LLM2Comp,
    folder: Path,
    precision: str = "int8",
    *,
    texts: int = 128,
    token_bits: int = 8,
    rounded: Path | None = None,
) -> Manifest:
    """Write an export of an encoder.

    Args:
        encoder: loaded in float32, on the CPU.
        folder: what it becomes; one that is there is replaced when the new one is complete.
        precision: ``int8`` or ``float32``.
        texts: how many texts to measure it with.
        token_bits: of token embeddings beside ``int8``, see :mod:`.tokens`.
        rounded: folder of an export whose rounded layers are taken as they are, but for those that only the memory
            tokens go through; ``None`` to round the encoder's own.

    Raises:
        UsageError: an unknown precision.
        EncoderError: no graph can be made of this encoder, its vectors at this precision are below the limit, or
            ``rounded`` is damaged or has layers of another shape.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"must be {' or '.join(PRECISIONS)}, not {precision!r}", field="precision")
    network = encoder.network
    if network.compute_dtype is not torch.float32 or encoder.device != "cpu":
        raise UsageError("an encoder is exported from float32 on the CPU")
    positions = max(_POSITIONS, encoder.max_length) + network.extra_tokens
    if rounded is not None:  # whose weights have a table of positions, too
        positions = max(positions, read_manifest(rounded).positions)
    blueprint = read_blueprint(network, positions)
    shown = check_texts(texts)
    rows = [row[:_TOKENS] for row in encoder._rows(shown, "")]
    if network.head is not None:
        rows = _pairs(encoder, rows)
    ranges, text, expected = _observe(encoder, rows)
    if precision == "int8":
        blueprint = smooth(blueprint, ranges, text)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as fresh:
        _write(fresh, blueprint, encoder.tokenizer, precision, token_bits)
        if rounded is not None:
            _take(rounded / LAYERS, fresh / LAYERS)
        _compare_tokens(fresh, encoder, shown)
        manifest = _measured(fresh, encoder, precision, positions, rows, expected)
        files = {name: ((fresh / name).stat().st_size, file_sha256(fresh / name)) for name in FILES}
        manifest = replace(manifest, network=encoder.network_digest, files=files)
        manifest.write(fresh)
    return manifest


def _write(folder: Path, blueprint: Blueprint, tokenizer: Any, precision: str, token_bits: int) -> None:
    build_graph(blueprint, precision).save(folder / GRAPH, folder / LAYERS)
    tokens = packed_tokens(blueprint.tokens, exactly=precision == "float32", bits=token_bits)
    save_file({**tokens, "memory_tokens": blueprint.memory}, folder / TOKENS)
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))


def _take(weights: Path, place: Path) -> None:
    """Put the arrays of other weights in the place of those of the same name, which stand for the same layers.

    Layers that only the memory tokens go through stay what they are, and so does what reads the text in front of them.

    Raises:
        EncoderError: they have other layers, or what has no name of its own, such as a table of positions, differs.
    """
    theirs, ours = places(weights), places(place)
    taken = _of_text(ours, ours)
    alike = taken == _of_text(theirs, ours) and all(theirs[name][:2] == ours[name][:2] for name in taken)
    if not alike or not _same_tables(weights, place):
        raise EncoderError(f"{weights}: of layers of another shape")
    with weights.open("rb") as source, place.open("r+b") as target:
        for name in sorted(taken, key=lambda name: ours[name][2]):
            source.seek(theirs[name][2])
            target.seek(ours[name][2])
            target.write(source.read(theirs[name][3]))


def _of_text(names: Iterable[str], graph: Iterable[str]) -> set[str]:
    """Those of the names of weights that are of layers which the text goes through, and of the last norm.

    Args:
        names: of a file of weights, such as ``layers.0.query.integers``; constants without names are left out.
        graph: all names of a graph, which say by ``layers.9.text_key.integers`` where the text stops.
    """
    of_memory = {name.split(f".{TEXT_MAPS[0]}.")[0] for name in graph if f".{TEXT_MAPS[0]}." in name}
    return {
        name
        for name in names
        if not name.startswith(UNNAMED) and name != TEXT_GAIN and name.rsplit(".", 2)[0] not in of_memory
    }


def _same_tables(*weights: Path) -> bool:
    """Whether files of weights hold the same arrays without names, in whatever order."""
    held = [
        sorted((array.shape, array.tobytes()) for name, array in open_arrays(path).items() if name.startswith(UNNAMED))
        for path in weights
    ]
    return all(found == held[0] for found in held)


def _observe(encoder: LLM2Comp, rows: Sequence[list[int]]) -> tuple[list[Ranges], FloatArray | None, FloatArray]:
    """Run the network over some rows, none of whose every other text is empty.

    Returns:
        Ranges of the inputs of each layer over every other row; of what is read of the text where it stops, ``(d,)``,
        or ``None`` where it does not; and the memory vectors of the rows between, ``(n, k, d)``.
    """
    layers: Any = encoder.network.encoder.layers
    of_text = [layer.text_key for layer in layers if isinstance(layer, MemoryLayer)][:1]  # all of them read the same
    watched = [*(module for layer in layers for module in _products(layer)), *of_text]
    largest: dict[Any, torch.Tensor] = {}

    def note(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        found = inputs[0].abs().flatten(0, -2).amax(0)
        largest[module] = torch.maximum(largest.get(module, found), found)

    with torch.inference_mode():
        hooks = [module.register_forward_pre_hook(note) for module in watched]
        try:
            for row in rows[1::2]:
                encoder.network.memory(*left_pad([row], 0, "cpu"))
        finally:
            for hook in hooks:
                hook.remove()
        expected = [encoder.network.memory(*left_pad([row], 0, "cpu"))[0].numpy() for row in rows[::2]]
    ranges = [
        Ranges(**{name: largest[module].numpy() for name, module in zip(_RANGES, _products(layer), strict=True)})
        for layer in layers
    ]
    text = largest[of_text[0]].numpy() if of_text else None
    return ranges, text, np.stack(expected)


_RANGES = ("attention", "output", "feed_forward", "down")


def _products(layer: Any) -> tuple[Any, Any, Any, Any]:
    """The modules that see the inputs of :class:`.smoothing.Ranges`, in its order."""
    layer = layer.layer if isinstance(layer, MemoryLayer) else layer
    attention, feed_forward = layer.self_attn, layer.mlp
    first = attention.qkv_proj if hasattr(attention, "qkv_proj") else attention.q_proj
    gate = feed_forward.gate_up_proj if hasattr(feed_forward, "gate_up_proj") else feed_forward.gate_proj
    return first, attention.o_proj, gate, feed_forward.down_proj


def _compare_tokens(folder: Path, encoder: LLM2Comp, texts: list[str]) -> None:
    """Refuse a tokenizer that the light one does not follow, whole and cut."""
    tokenizer = TextTokenizer(folder / TOKENIZER)
    for limit in (encoder.max_length, 7):
        if tokenizer.cut(texts, limit)[0] != encoder._tokenise(texts, limit):
            raise EncoderError("its tokenizer does more than a tokenizer.json says")


def _pairs(encoder: LLM2Comp, rows: Sequence[list[int]]) -> list[list[int]]:
    """Texts as a reranker reads them: each behind the beginning of the one before it."""
    separator = encoder.tokenizer(encoder.settings.prompts.get("document", SEPARATOR), add_special_tokens=False)
    asked = [rows[-1], *rows[:-1]]
    return [
        pair_row(query[:_ASKED], row, separator["input_ids"], _TOKENS) for query, row in zip(asked, rows, strict=True)
    ]


def _check_scores(encoder: LLM2Comp, precision: str, pooled: FloatArray, wanted: FloatArray) -> None:
    """Refuse a graph whose scores are others than the network's.

    Raises:
        EncoderError: their correlation over the texts is below the limit.
    """
    assert encoder.network.head is not None
    head = encoder.network.head.detach().numpy()
    found, expected = pooled @ head, wanted @ head
    correlation = float(np.corrcoef(found, expected)[0, 1]) if expected.std() > 0 else float(found.std() == 0)
    if not correlation >= SCORE_LIMITS[precision]:
        raise EncoderError(
            f"precision {precision} moves the scores of {encoder.name} too far: over {len(found)} pairs of texts their "
            f"correlation with those in float32 is {correlation:.4f}; the limit is {SCORE_LIMITS[precision]}"
        )


def _measured(
    folder: Path,
    encoder: LLM2Comp,
    precision: str,
    positions: int,
    rows: Sequence[list[int]],
    expected: FloatArray,
) -> Manifest:
    """What the graph is worth, by the fast kernel where this processor shows what that costs, else by exact sums."""
    rounded = precision == "int8"
    found = Manifest(
        network="",
        precision=precision,
        positions=positions,
        smallest_cosine=1.0,
        mean_cosine=1.0,
        files={},
        exact=rounded,
    )
    if rounded and products_saturate():
        with suppress(EncoderError):
            return _compared(folder, encoder, replace(found, exact=False), rows, expected)
    return _compared(folder, encoder, found, rows, expected)


def _compared(
    folder: Path, encoder: LLM2Comp, manifest: Manifest, rows: Sequence[list[int]], expected: FloatArray
) -> Manifest:
    """The manifest with the smallest and mean cosine of the graph's embeddings to the network's.

    Raises:
        EncoderError: they are below the limit.
    """
    light = OnnxEncoder(folder, manifest, encoder.settings, "", threads=1)
    found = np.stack([light.memory_of([row])[0] for row in rows[::2]])
    pooled, wanted = found.mean(axis=1), expected.mean(axis=1)
    lengths = np.linalg.norm(pooled, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (pooled * wanted).sum(axis=1) / np.maximum(lengths, 1e-12)
    smallest, mean = float(cosines.min()), float(cosines.mean())
    precision = manifest.precision
    if encoder.network.head is not None:
        _check_scores(encoder, precision, pooled, wanted)
    limit = LIMITS[precision]
    if not (smallest >= limit.smallest and mean >= limit.mean):
        raise EncoderError(
            f"precision {precision} moves the vectors of {encoder.name} too far: over {len(cosines)} texts the cosine "
            f"to float32 is at least {smallest:.4f} and {mean:.4f} in the mean; the limits are {limit.smallest} and "
            f"{limit.mean}"
        )
    return replace(manifest, smallest_cosine=smallest, mean_cosine=mean)
