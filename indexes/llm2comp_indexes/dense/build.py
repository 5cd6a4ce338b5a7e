"""Giving a segment its FAISS index: the first candidate of its kind that proves itself on held-out rows."""

from __future__ import annotations

import logging
import math
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from llm2comp_indexes.dense import gpu
from llm2comp_indexes.dense.ann import ANN, AnnIndex, empty_index, insertion_order
from llm2comp_indexes.dense.faiss_module import telling_part
from llm2comp_indexes.dense.kinds import KINDS, Policy, is_small, plans
from llm2comp_indexes.dense.tune import HELD_OUT, exact_speed, exact_top, tune
from llm2comp_indexes.errors import KindError
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.storage.segment import Segment
from llm2comp_indexes.storage.store import SegmentRecord
from llm2comp_indexes.types import Int64Array

__all__ = ["FLAT", "build_ann", "check_kind", "declined", "serves"]

FLAT: Final = "flat"

_log = logging.getLogger(__name__)


def check_kind(policy: Policy, dimension: int) -> None:
    """Refuse a factory string that FAISS can make nothing of, before any vector is made for it.

    Raises:
        KindError: why.
    """
    if policy.kind not in KINDS:
        empty_index(policy.kind, dimension)


def serves(record: SegmentRecord | None, policy: Policy) -> bool:
    """Whether a segment's FAISS index, or the decision to have none, is what ``policy`` asks for."""
    return record is not None and record.detail["requested"] == asdict(policy)


def declined(segment: Segment, policy: Policy, reason: str) -> SegmentRecord:
    """The decision to compare every vector of a segment."""
    detail = {"segment": segment.record.name, "requested": asdict(policy), "factory": FLAT, "reason": reason}
    return SegmentRecord(uuid.uuid4().hex, "ann", segment.record.rows, (), detail)


def build_ann(
    index: Path, segment: Segment, policy: Policy, device: str = "cpu", seed: int = 0
) -> SegmentRecord | None:
    """Train, tune, fill and write the FAISS index of a segment.

    Args:
        index: the index directory.
        segment: its vectors.
        policy: what is asked for.
        device: where training and adding run, ``cpu`` or ``cuda``.
        seed: of the sample and the held-out rows.

    Returns:
        The record for the manifest; for ``auto`` it may be the decision to have none. None if the segment is small.

    Raises:
        KindError: the kind that was asked for is unknown, does not fit, or misses its target.
    """
    if is_small(policy, segment.record.rows):
        return None
    reasons = []
    for factory in plans(policy, segment.record.rows, segment.vectors.array.shape[1]):
        try:
            record, reason = _attempt(index, segment, policy, factory, device, seed)
        except RuntimeError as error:  # what FAISS makes of some factory strings can be neither filled nor searched
            raise KindError(f"{factory!r}: {telling_part(error)}", field="kind") from error
        if record is not None:
            return record
        _log.info("%s: %s: %s", segment.directory, factory, reason)
        if policy.kind != "auto":
            raise KindError(f"{policy.kind} is refused ({reason})", field="kind")
        reasons.append(f"{factory}: {reason}")
    return declined(segment, policy, "; ".join(reasons) or "no kind fits into max_ram")


def _attempt(
    index: Path, segment: Segment, policy: Policy, factory: str, device: str, seed: int
) -> tuple[SegmentRecord | None, str]:
    """Build one candidate; returns its record, or why it will not do."""
    vectors = segment.vectors
    rows = len(vectors)
    held_out = np.sort(np.random.default_rng(seed).choice(rows, min(HELD_OUT, rows // 10), replace=False))
    queries = vectors.take(held_out).astype(np.float32)
    order = insertion_order(rows, held_out)
    kept = rows - len(held_out)
    ann = _filled(factory, vectors, order, kept, device, seed)
    choice = tune(ann, vectors, queries, exact_top(vectors, queries, np.sort(order[:kept])), policy.target_recall)
    if choice.recall < policy.target_recall:
        recall = math.floor(1000 * choice.recall) / 1000  # rounded up it might equal what is wanted
        return None, f"recall {recall:g} where {policy.target_recall:g} is wanted"
    if policy.kind == "auto" and choice.queries_per_second < exact_speed(vectors, queries):
        return None, "slower than comparing every vector"
    ann = _completed(ann, factory, vectors, order, kept, device)
    name = uuid.uuid4().hex
    temporary = index / "tmp" / name
    fs.make_directory(temporary)
    file = ann.write(temporary / ANN)
    if policy.max_ram is not None and file.size > policy.max_ram:
        return None, f"takes {file.size / 2**20:.0f} MiB, max_ram allows {policy.max_ram / 2**20:.0f}"
    fs.point("ann-written")
    fs.rename(temporary, index / "ann" / name)
    fs.point("ann-renamed")
    speed = choice.queries_per_second
    _log.info("%s: %s, recall@10 %.3f, %.0f queries/s", segment.directory, factory, choice.recall, speed)
    detail: dict[str, Any] = {
        "segment": segment.record.name,
        "requested": asdict(policy),
        "factory": factory,
        "parameter": ann.parameter,
        "held_out": held_out.tolist(),
        **choice.to_dict(),
    }
    return SegmentRecord(name, "ann", rows, (file,), detail), ""


def _filled(factory: str, vectors: CheckedRows, order: Int64Array, kept: int, device: str, seed: int) -> AnnIndex:
    """An index over the rows that are not held out."""
    if device == "cuda" and factory.startswith("HNSW") and (graph := gpu.build_cagra(vectors, order[:kept])):
        return AnnIndex(graph, order)
    ann = AnnIndex.train(factory, vectors, order, seed, device)
    ann.add(vectors, 0, kept, device)
    return ann


def _completed(
    ann: AnnIndex, factory: str, vectors: CheckedRows, order: Int64Array, kept: int, device: str
) -> AnnIndex:
    """The index with the held-out rows as well; a CAGRA graph takes no more rows, so it is built again."""
    if device == "cuda" and factory.startswith("HNSW") and (graph := gpu.build_cagra(vectors, order)):
        return AnnIndex(graph, order)
    ann.add(vectors, kept, len(order), device)
    return ann
