"""Make a smaller encoder from a trained one, and say what that cost before any healing.

The layers are chosen on half of a sample of texts, and the cost is measured on the other half. Further texts, if
wanted, fit the kept layers to what the missing ones did (:mod:`llm2comp_apps.encoder.reconstruction`).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llm2comp_apps.corpus import Record
from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.layers import agreement, check_method, choose_layers, prune
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.reconstruction import HELD_OUT, check_fitting, reconstruct
from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import check_writable
from llm2comp_train.data.sources import find_data

__all__ = ["PruneReport", "parse_layers", "prune_encoder", "sample_texts"]

TEXTS = 128
"""Texts that layers are chosen on; of a sample to prune with, one half chooses and the other judges."""
LONGEST = 64
"""Tokens of a sampled text that are read; influence hardly depends on it, the time does."""
_FIELDS = ("text", "query", "positive")
"""What a row of training data has its texts in."""
_ROWS = 5000
"""Rows of each file that the sample is drawn from."""
_ROUNDS = 3
"""Turns that two encoders take when their speed is compared."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What :func:`prune_encoder` made.

    Attributes:
        layers: the backbone's layers that the encoder runs now.
        layers_before: how many it ran before.
        k: its memory tokens now.
        k_before: those that it had.
        cosine: mean cosine of a text's embedding to the one it had, on texts that took no part in the choice.
        lowest: the smallest of these cosines.
        speed: how many times as fast the encoder is, on the same texts.
        bytes_before: of the weights that run, token embeddings left out, in float32.
        bytes_now: the same of the shallow encoder.
        cosine_cut: what ``cosine`` was before the layers were fitted; ``None`` where they were not.
        text_layers: how many of the layers the text goes through; ``None`` for all.
    """

    layers: list[int]
    layers_before: int
    k: int
    k_before: int
    cosine: float
    lowest: float
    speed: float
    bytes_before: int
    bytes_now: int
    cosine_cut: float | None = None
    text_layers: int | None = None

    def lines(self) -> list[str]:
        """What a person should know before training the encoder again."""
        fewer = [f"the first {self.k} of {self.k_before} memory tokens"] if self.k < self.k_before else []
        before, now = (f"{size / 1e6:.1f} MB" for size in (self.bytes_before, self.bytes_now))
        if self.text_layers is not None:
            fewer.append(f"the text goes through the first {self.text_layers}, the memory tokens through all")
        fitted = "" if self.cosine_cut is None else f" ({self.cosine_cut:.3f} before its layers were fitted)"
        smaller = f"; layers of {now} instead of {before} in float32" if self.bytes_now < self.bytes_before else ""
        return [
            f"{len(self.layers)} of {self.layers_before} layers: {','.join(map(str, self.layers))}",
            *fewer,
            f"cosine to the encoder it was cut from: {self.cosine:.3f} on average, {self.lowest:.3f} at least{fitted}",
            f"{self.speed:.1f} times as fast{smaller}",
        ]


def parse_layers(text: str) -> int | list[int]:
    """``12``, or ``0,1,11,29``; a single layer by number is ``11,``.

    Raises:
        UsageError: neither a number nor a list.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(f"must be a number or a list like 0,1,11,29, not {text!r}", field="layers")
    return numbers if "," in text else numbers[0]


def prune_encoder(
    name: str,
    sources: Sequence[str],
    layers: int | Sequence[int] | None,
    out: Path,
    *,
    k: int | None = None,
    method: str = "greedy",
    fit: int = 0,
    text_layers: int | None = None,
    device: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PruneReport:
    """Write a checkpoint that runs only some of an encoder's layers, or with fewer memory tokens.

    Args:
        name: of an encoder of ours.
        sources: data files whose texts decide, as for training.
        layers: how many to keep, or their numbers in the backbone; ``None`` for all.
        out: folder of the checkpoint; must not exist or be empty.
        k: keep the first k memory tokens; by default all.
        method: how the layers are chosen, see :mod:`llm2comp_apps.encoder.layers`.
        fit: number of texts to fit the kept layers with, in float32; 0 leaves them as they are.
        text_layers: let the text go through so many of the kept layers only, and the memory tokens through all, see
            :mod:`llm2comp_apps.encoder.memory_layers`; needs ``fit``.
        device: to encode on.
        seed: draws the texts.
        on_progress: called with layers taken out or fitted, and with all that there are to do.

    Raises:
        UsageError: nothing to cut, impossible layers or memory tokens, an unknown method, a folder that holds
            something, or fewer texts to fit with than were asked for.
        EncoderError: the encoder cannot be loaded, or its layers cannot be fitted.
        TrainingError: no data.
    """
    _check_call(layers, out, k=k, method=method, fit=fit, text_layers=text_layers)
    sampled = sample_texts(sources, TEXTS + fit, seed)
    if fit:
        _check_enough(len(sampled), fit)
    encoder = LLM2Comp.from_pretrained(name, device=device, dtype=torch.float32 if fit else None)
    texts = _cut(encoder, sampled[:TEXTS])
    fitting = _cut(encoder, sampled[TEXTS:]) if fit else []
    prune(encoder, encoder.layers, k)  # refuses in a moment what would be refused after the choice of layers
    if fit:
        count = layers if isinstance(layers, int) or layers is None else len(layers)
        check_fitting(encoder, fitting, k, count, text_layers)
    deciding, judging = texts[::2], texts[1::2] or texts
    removals = len(encoder.layers) - layers if isinstance(layers, int) and method == "greedy" else 0
    numbers = encoder.layers if layers is None else layers
    if isinstance(numbers, int):
        told = _part(on_progress, 0, removals + (numbers if fit else 0))
        numbers = choose_layers(encoder, deciding, numbers, method=method, on_progress=told)
    pruned = prune(encoder, numbers, k)
    target, cosine_cut = encoder.encode(judging), None
    if fit:
        cosine_cut = float(agreement(target, pruned.encode(judging)).mean())
        told = _part(on_progress, removals, removals + len(pruned.layers))
        pruned = reconstruct(encoder, pruned, fitting, text_layers=text_layers, on_progress=told)
    cosines = agreement(target, pruned.encode(judging))
    pruned.save_pretrained(out)
    return PruneReport(
        layers=list(pruned.layers),
        k=pruned.k,
        k_before=encoder.k,
        layers_before=len(encoder.layers),
        cosine=float(cosines.mean()),
        lowest=float(cosines.min()),
        speed=_speed(encoder, pruned, judging),
        bytes_before=_layer_bytes(encoder),
        bytes_now=_layer_bytes(pruned),
        cosine_cut=cosine_cut,
        text_layers=pruned.network.text_layers,
    )


def _check_call(
    layers: int | Sequence[int] | None, out: Path, *, k: int | None, method: str, fit: int, text_layers: int | None
) -> None:
    """Refuse what can be refused before anything is read or loaded; arguments as :func:`prune_encoder`.

    Raises:
        UsageError: names the setting.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} holds something already; choose a new folder", field="out")
    if layers is None and k is None and text_layers is None:
        raise UsageError(
            "is missing: the layers to keep, or `k` or `text_layers`, of which fewer are kept", field="layers"
        )
    if text_layers is not None and not fit:
        raise UsageError("must be above 0 for `text_layers`, whose maps are fitted", field="fit")
    check_method(method)
    if fit and fit < HELD_OUT:
        raise UsageError(f"must be 0 or at least {HELD_OUT}, not {fit}", field="fit")
    check_writable(out, folder=True)


def _check_enough(found: int, fit: int) -> None:
    """Refuse to fit with more texts than the data hold besides those that judge.

    Raises:
        UsageError: with the number that would do, if one would.
    """
    if found >= TEXTS + fit:
        return
    most = found - TEXTS
    reason = f"must be at most {most}, not {fit}: the data hold {found} texts, and {TEXTS} of them judge"
    if most < HELD_OUT:
        reason = f"needs data of {TEXTS + HELD_OUT} texts or more, {TEXTS} of which judge; these hold {found}"
    raise UsageError(reason, field="fit")


def sample_texts(sources: Sequence[str], n: int, seed: int = 0) -> list[str]:
    """``n`` different texts (fewer where there are no more), as many from each data file, in random order.

    Args:
        sources: data files, as for training; rows with ``text``, or ``query`` and ``positive``. Of each the first 5,000
            rows take part.
        n: how many.
        seed: of the draw.

    Raises:
        TrainingError: no data.
        UsageError: there are no texts in them.
    """
    files = find_data(sources)
    draw = np.random.default_rng(seed)
    shuffled = []
    for file in files:
        texts = sorted(set(_texts(itertools.islice(file.records(), _ROWS))))
        shuffled.append([texts[index] for index in draw.permutation(len(texts))[:n]])
    in_turn = [text for turn in itertools.zip_longest(*shuffled) for text in turn if text is not None]
    chosen = list(dict.fromkeys(in_turn))[:n]
    if not chosen:
        raise UsageError("holds no texts", field="data")
    return [chosen[index] for index in draw.permutation(len(chosen))]


def _part(on_progress: Callable[[int, int], None] | None, before: int, steps: int) -> Callable[[int, int], None] | None:
    """The callback for a part of the work, ``before`` of whose ``steps`` are done."""
    return on_progress and (lambda done, _: on_progress(before + done, steps))


def _cut(encoder: LLM2Comp, texts: Sequence[str]) -> list[str]:
    """The beginnings of texts, :data:`LONGEST` tokens each."""
    rows, _ = first_ids(encoder.tokenizer, texts, LONGEST)
    cut: list[str] = encoder.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return cut


def _texts(records: Iterator[Record]) -> Iterator[str]:
    """All texts of rows, blank ones left out."""
    for record in records:
        for field in _FIELDS:
            value = record.fields.get(field)
            if isinstance(value, str) and value.strip():
                yield value


def _layer_bytes(encoder: LLM2Comp) -> int:
    """Size of the weights that run in float32, token embeddings left out."""
    return 4 * sum(weight.numel() for weight in encoder.network.layer_weights().values())


def _speed(first: LLM2Comp, second: LLM2Comp, texts: Sequence[str]) -> float:
    """How many times as fast the second is: they take turns, the medians count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for encoder, spent in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            encoder.encode(texts)
            spent.append(time.perf_counter() - start)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])
