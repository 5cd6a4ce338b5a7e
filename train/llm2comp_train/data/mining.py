"""Hard negatives for pairs: documents that an encoder finds close to a query but that are not its answer.

For each query the documents of the file are ranked by cosine. Those closer than ``margin`` times the query's own
positive are taken for unlabelled positives and passed over (positive-aware mining, NV-Retriever, arXiv 2407.15831); of
the rest, the closest are taken. Scoring is exact, block by block: no index is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX
from llm2comp_apps.encoder import TextEncoder
from llm2comp_apps.encoder.progress import EncodingMeter, ProgressCallback
from llm2comp_apps.errors import TrainingError, UsageError
from llm2comp_apps.files import check_writable, replaced_file
from llm2comp_train.data.sources import find_data, pair_rows

__all__ = ["MiningReport", "check_mining", "hard_negatives", "mine_file"]

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What came out: pairs written, how many of them with a negative, and documents passed over as too close."""

    pairs: int
    mined: int
    too_close: int


def mine_file(
    encoder: TextEncoder,
    source: str,
    out: Path,
    *,
    negatives: int = 1,
    margin: float = 0.95,
    on_progress: ProgressCallback | None = None,
) -> MiningReport:
    """Write the pairs of a file with mined negatives in place of those it has.

    Args:
        encoder: embeds queries and documents.
        source: a pairs file, as training takes it.
        out: JSON lines ``{"query", "positive", "negative": [...]}``; appears whole or not at all.
        negatives: at most so many per pair.
        margin: see :func:`hard_negatives`.
        on_progress: told after each batch that is encoded how far the encoding is.

    Raises:
        TrainingError: ``source`` is not one file, or holds no pair.
        UsageError: see :func:`check_mining`.
    """
    check_mining(out, negatives=negatives, margin=margin)
    files = find_data([source], once=True)
    if len(files) != 1:
        raise TrainingError(f"{source}: {len(files)} files; mine them one by one.")
    rows = [row.texts for row in pair_rows(files[0].records(), "", 0)]
    if not rows:
        raise TrainingError(f"{source}: holds no pair.")
    number = {text: index for index, text in enumerate(dict.fromkeys(positive for _, positive in rows))}
    own: dict[str, set[int]] = {}
    for query, positive in rows:
        own.setdefault(query, set()).add(number[positive])
    documents = list(number)
    queries = [query for query, _ in rows]
    meter = EncodingMeter(encoder, on_progress, texts=[*documents, *queries])
    document_vectors = meter.encode(documents, prompt=encoder.prompts.get("document"))
    query_vectors = meter.encode(queries, prompt=encoder.prompts.get("query"))
    positives = [number[positive] for _, positive in rows]
    # A query's own text among the documents (symmetric files) answers it as well as its positive does.
    excluded = [own[query] | ({number[query]} if query in number else set()) for query, _ in rows]
    mined = close = 0
    with replaced_file(out) as fresh, fresh.open("w", encoding="utf-8") as file:
        found = hard_negatives(query_vectors, document_vectors, positives, excluded, negatives, margin)
        for (query, positive), (chosen, passed_over) in zip(rows, found, strict=True):
            row = {"query": query, "positive": positive, "negative": [documents[index] for index in chosen]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            mined += bool(chosen)
            close += passed_over
    return MiningReport(len(rows), mined, close)


def check_mining(out: Path, *, negatives: int, margin: float) -> None:
    """Refuse what would fail after the texts are encoded; arguments as :func:`mine_file`.

    Raises:
        UsageError: ``out`` exists or its folder does not, its name is that of another format, or a number is out of
            range.
        OSError: nothing can be written there.
    """
    if out.exists():
        raise UsageError(f"{out} already exists", field="out")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}; make it first", field="out")
    if FORMAT_BY_SUFFIX.get(out.suffix.lower(), "jsonl") not in ("jsonl", "json"):  # as which it would be read
        raise UsageError(f"{out} is to hold JSON lines; give it a name such as {out.stem}.jsonl", field="out")
    if negatives < 1:
        raise UsageError(f"must be at least 1, not {negatives}", field="negatives")
    if not 0 < margin <= 1:
        raise UsageError(f"must be above 0 and at most 1, not {margin:g}", field="margin")
    check_writable(out)


def hard_negatives(
    queries: npt.NDArray[np.float32],
    documents: npt.NDArray[np.float32],
    positives: Sequence[int],
    excluded: Sequence[set[int]],
    count: int,
    margin: float,
) -> Iterator[tuple[list[int], int]]:
    """The closest documents of each query whose cosine is at most ``margin`` times that of its positive.

    Args:
        queries: ``(n, d)`` unit rows.
        documents: ``(m, d)`` unit rows.
        positives: the document that answers each query.
        excluded: documents that are no negatives of each query, its positive among them.
        count: negatives wanted per query.
        margin: share of the positive's cosine.

    Yields:
        For each query the documents chosen, closest first, and how many were passed over as too close.
    """
    width = min(len(documents), count)
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ documents.T
        for place, row in enumerate(scores, start):
            limit = margin * row[positives[place]]
            row[list(excluded[place])] = -np.inf
            close = row > limit
            row[close] = -np.inf
            nearest = np.argpartition(-row, width - 1)[:width]
            ranked = nearest[np.lexsort((nearest, -row[nearest]))]
            yield ranked[row[ranked] > -np.inf].tolist(), int(close.sum())
