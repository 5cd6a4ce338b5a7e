"""Is an exported folder the encoder? Asked in a process of its own, which knows nothing of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm2comp_apps.encoder.backends.check_texts import check_texts
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import EncoderError

__all__ = ["LEAST_COSINE", "Comparison", "compare", "compared", "comparison_texts"]

LEAST_COSINE = 0.9999
"""Of any text's vector to the encoder's own; a folder below it is not written."""

_ALONE = Path(__file__).with_name("alone.py")
_MARKS = "Stop! Is a != b, or not?! Wow ! <b>[x]</b> "
"""Signs that stand first in many vocabularies, where a mix-up with special tokens would hit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How an exported folder compares with the encoder.

    Attributes:
        texts: how many were encoded by both.
        smallest_cosine: of any text; of any memory vector, where there are several.
        largest_difference: between two numbers of unit vectors.
    """

    texts: int
    smallest_cosine: float
    largest_difference: float


def comparison_texts(count: int) -> list[str]:
    """Texts of 0 tokens to more than an encoder reads, none with blanks at its ends: 5.2 strips them, 6 does not."""
    return [text.strip() for text in (*check_texts()[:count], _MARKS + "one " * 2500)]


def compare(folder: Path, kind: str, texts: list[str], expected: FloatArray) -> Comparison:
    """Encode texts with the folder and compare.

    Args:
        folder: exported.
        kind: see :mod:`.alone`.
        texts: n.
        expected: the encoder's own unit vectors, ``(n, d)`` or ``(n, k, d)``.

    Raises:
        EncoderError: the folder does not load, or a vector is not the encoder's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch) / "texts.json", Path(scratch) / "vectors.npy"
        given.write_text(json.dumps(texts), "utf-8")
        # -P: the folder of the script, which is ours, is not where modules are looked for.
        command = [sys.executable, "-P", str(_ALONE), str(folder), kind, str(given), str(made)]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, capture_output=True, text=True, env=offline, check=False)  # noqa: S603 - our own
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise EncoderError(f"the exported folder does not load by itself: {reason}")
        found = np.load(made)
    return compared(texts, found, expected)


def compared(texts: list[str], found: FloatArray, expected: FloatArray) -> Comparison:
    """Compare what a folder and the encoder made of texts; arguments and errors as for :func:`compare`."""
    if found.shape != expected.shape:
        raise EncoderError(f"the exported folder gives vectors of shape {found.shape}, the encoder {expected.shape}")
    cosines = (found * expected).sum(-1) / np.maximum(np.linalg.norm(found, axis=-1), 1e-12)
    result = Comparison(
        texts=len(texts),
        smallest_cosine=float(cosines.min()),
        largest_difference=float(np.abs(found - expected).max()),
    )
    if not result.smallest_cosine >= LEAST_COSINE:
        place = int(cosines.reshape(len(texts), -1).min(1).argmin())
        raise EncoderError(
            f"the exported folder gives other vectors than the encoder: the cosine is {result.smallest_cosine:.5f} for "
            f"{texts[place][:40]!r}, and {LEAST_COSINE} is the least; transformers 5.2 or later is needed, and a "
            "backbone whose attention follows is_causal in config.json"
        )
    return result
