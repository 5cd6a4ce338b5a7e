"""Batches of similar length under a token budget, and results back in the order of the question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.progress import tell_watcher
from llm2comp_apps.errors import UsageError

__all__ = ["dealt", "encode_in_windows", "length_batches", "limit", "with_progress"]

MAX_ROWS = 512
MAX_CHARACTERS = 2**24
"""Of the texts that a window holds, whatever number of them it may hold."""


def limit(wanted: int | None, usual: int, field: str) -> int:
    """A limit as wanted, or the usual one.

    Raises:
        UsageError: less than one is wanted.
    """
    if wanted is not None and wanted < 1:
        raise UsageError(f"must be at least 1, not {wanted}", field=field)
    return usual if wanted is None else wanted


def length_batches(
    lengths: Sequence[int], budget: int, *, max_waste: float = 0.08, max_rows: int = MAX_ROWS
) -> list[list[int]]:
    """Group indices so that batches are nearly rectangular and at most ``budget`` tokens large.

    Rows are taken from long to short, so that the largest batch comes first and memory peaks at once. A batch is cut
    when it is full, or when a further row would leave more than ``max_waste`` of it padding while enough rows
    (a quarter of the budget) are in it already.

    Args:
        lengths: tokens of each row, everything counted that the model will see.
        budget: tokens of one padded batch; a single longer row makes a batch of its own.
        max_waste: share of padding tolerated in a batch.
        max_rows: most rows of a batch.

    Returns:
        Lists of indices; every index exactly once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[list[int]] = []
    batch: list[int] = []
    real = width = 0
    for index in order.tolist():
        length = lengths[index]
        padded = width * (len(batch) + 1)
        full = bool(batch) and (padded > budget or len(batch) >= max_rows)
        wasteful = padded > budget // 4 and real + length < (1 - max_waste) * padded
        if full or wasteful:
            batches.append(batch)
            batch, real, width = [], 0, 0
        if not batch:
            width = max(length, 1)
        batch.append(index)
        real += length
    if batch:
        batches.append(batch)
    return batches


def dealt(run: Callable[[list[int]], list[int]], batches: Sequence[list[int]], threads: int) -> Iterator[list[int]]:
    """Run every batch, as many at once as there are threads; yields what each gives, in order."""
    if threads == 1 or len(batches) < 2:
        yield from map(run, batches)
        return
    with ThreadPoolExecutor(min(threads, len(batches))) as pool:
        try:
            yield from pool.map(run, batches)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def encode_in_windows(
    texts: Iterable[str], window: int, encode: Callable[[list[str]], npt.NDArray[np.float32]]
) -> Iterator[npt.NDArray[np.float32]]:
    """Encode a stream window by window, each sorted by length on its own; holds a window of texts, or fewer long ones.

    A window ends with :data:`MAX_CHARACTERS`, too.

    Raises:
        UsageError: one text in place of several, or a window of less than 1; when the first block is asked for.
    """
    if isinstance(texts, str):
        raise UsageError("must be several texts; put a single text into a list: [text]", field="texts")
    window = limit(window, MAX_ROWS, "window")
    held: list[str] = []
    characters = 0
    for text in texts:
        held.append(text)
        characters += len(text)
        if len(held) == window or characters >= MAX_CHARACTERS:
            yield encode(held)
            held, characters = [], 0
    if held:
        yield encode(held)


def with_progress(batches: Iterable[list[int]], sizes: Sequence[int], show: bool) -> Iterator[list[int]]:
    """The batches, told to the watcher (:mod:`.progress`) and, if ``show``, to a progress bar on stderr, by tokens.

    Args:
        batches: rows that have just been encoded together.
        sizes: tokens of each row.
        show: draw the bar.
    """
    batches = tell_watcher(batches, sizes)
    if not show:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("encoding", total=sum(sizes))
        for batch in batches:
            progress.advance(task, sum(sizes[row] for row in batch))
            yield batch
