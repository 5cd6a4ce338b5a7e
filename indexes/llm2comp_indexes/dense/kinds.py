"""Index kinds: what a name means for a number of vectors, a width and a memory budget.

A kind only proposes candidates; vectors stay in ``vectors.f16`` and every candidate is scored again from there, so a
kind changes which documents may be missed and how fast they come, never a score. Sizes are per vector of width d:

| kind | FAISS factory string | memory |
|---|---|---|
| ``flat`` | none: every vector is compared | none |
| ``ivf`` | ``IVF{4 sqrt n},SQ8`` | d + 8 bytes |
| ``rabitq`` | ``RR{d},IVF{4 sqrt n},RaBitQ`` | d/8 + 16 bytes |
| ``sq8`` | ``SQ8`` | d bytes |
| ``hnsw`` | ``HNSW32,SQ8`` | d + 272 bytes |

RaBitQ's guarantee needs a random rotation (``RR``), which FAISS leaves to the caller: on 100,000 sentence vectors of
width 576, recall@10 with 32-fold widening and every list probed is 0.79 without and 1.00 with it. A Hadamard rotation
(``HR``) pads to the next power of two, which costs speed and memory, and goes wrong where vectors are repeated.

Anything else is taken for a FAISS factory string.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final

from llm2comp_indexes.errors import InputError, KindError
from llm2comp_indexes.storage.merging import SMALL_ROWS

__all__ = ["AUTO_ROWS", "KINDS", "Policy", "is_small", "plans", "why_small"]

KINDS: Final = ("auto", "flat", "ivf", "hnsw", "sq8", "rabitq")

AUTO_ROWS: Final = 50_000
"""Below this ``auto`` compares every vector: it takes milliseconds and is never wrong."""

_AUTO_ORDER: Final = ("rabitq", "ivf", "sq8")
"""What ``auto`` tries: the smallest first. HNSW answers as fast or faster, but its graph takes minutes to build where
the others take seconds, so it is left to those who ask for it (figures: tests/benchmarks/bench_index.py)."""

_MOST_LISTS: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the vectors of an index are to be searched; part of its settings.

    Attributes:
        kind: one of `KINDS`, or a FAISS factory string.
        target_recall: recall@10 against exact search that a kind must reach on held-out rows.
        max_ram: bytes that the FAISS index of a segment may take; None = no limit.
    """

    kind: str = "auto"
    target_recall: float = 0.95
    max_ram: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise InputError(
                f"must be one of {', '.join(KINDS)}, or a FAISS factory string, not {self.kind!r}", field="kind"
            )
        recall, most = self.target_recall, self.max_ram
        if not isinstance(recall, Real) or not 0 < recall <= 1:
            raise InputError(f"must be above 0 and at most 1, not {recall!r}", field="target_recall")
        if most is not None and not (isinstance(most, Real) and 1 <= most < math.inf):
            raise InputError(f"must be a positive number of bytes, not {most!r}", field="max_ram")
        object.__setattr__(self, "target_recall", float(recall))  # of numpy's, too: JSON holds none of them
        object.__setattr__(self, "max_ram", None if most is None else int(most))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Policy:
        """Read it from the settings of an index; what is missing there takes its default."""
        names = ("kind", "target_recall", "max_ram")
        return cls(**{name: settings[name] for name in names if settings.get(name) is not None})


def _lists(rows: int) -> int:
    """A power of two near 4 sqrt(n), with the 39 training rows for each list that FAISS asks for."""
    wanted = 2 ** round(math.log2(4 * math.sqrt(rows)))
    affordable = 2 ** int(math.log2(max(1, rows // 40)))
    return max(1, min(wanted, affordable, _MOST_LISTS))


def _named(kind: str, rows: int, dimension: int) -> tuple[str, float] | None:
    """Factory string and bytes of memory per vector."""
    lists = _lists(rows)
    named = {
        "ivf": (f"IVF{lists},SQ8", dimension + 8),
        "rabitq": (f"RR{dimension},IVF{lists},RaBitQ", dimension / 8 + 16),
        "sq8": ("SQ8", dimension),
        "hnsw": ("HNSW32,SQ8", dimension + 272),
    }
    return named.get(kind)


def is_small(policy: Policy, rows: int) -> bool:
    """Whether a segment is too small for a FAISS index to be worth its while."""
    return policy.kind == "flat" or rows <= SMALL_ROWS or (policy.kind == "auto" and rows < AUTO_ROWS)


def why_small(policy: Policy, sizes: Sequence[int]) -> str | None:
    """Why an index whose segments have so many rows has no FAISS index; None if its policy asks for none."""
    if policy.kind in ("flat", "auto") or not sizes:
        return None
    if max(sizes) > SMALL_ROWS:
        return f"no {policy.kind} is made yet; the next change does it, or compact"
    reason = f"{max(sizes):,} vectors are too few for {policy.kind} (from {SMALL_ROWS + 1:,})"
    return reason if len(sizes) == 1 else f"{reason} in the largest of {len(sizes)} segments; compact merges them"


def plans(policy: Policy, rows: int, dimension: int) -> list[str]:
    """Factory strings to try in turn on a segment; none = compare every vector.

    Raises:
        KindError: the kind that was asked for cannot fit into ``max_ram``.
    """
    if is_small(policy, rows):
        return []
    fitting = []
    for kind in _AUTO_ORDER if policy.kind == "auto" else (policy.kind,):
        named = _named(kind, rows, dimension)
        if named is None:
            return [kind]
        factory, bytes_per_row = named
        if policy.max_ram is None or bytes_per_row * rows <= policy.max_ram:
            fitting.append(factory)
        elif policy.kind != "auto":
            raise KindError(
                f"{kind} is refused ({factory} needs about {bytes_per_row * rows / 2**20:.0f} MiB for {rows} "
                f"vectors, max_ram allows {policy.max_ram / 2**20:.0f}; rabitq takes the least, flat none)",
                field="kind",
            )
    return fitting
