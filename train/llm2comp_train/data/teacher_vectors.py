"""Teachers' vectors of a store's texts: computed once, kept in the user's cache by content, read by row.

The cache is one SQLite file per teacher, shared between runs; a run has a file of its own beside its token ids,
float16, that is memory-mapped. Only rows that the run will visit are computed. So no teacher is called in the loop,
memory does not grow with the data, and a resumed run reads the numbers that it read before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from llm2comp_apps.encoder.backbones import default_device, default_dtype
from llm2comp_apps.encoder.base import BatchedEncoder
from llm2comp_apps.encoder.cache import cache_dir
from llm2comp_apps.encoder.embedding_store import EmbeddingStore
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.files import replaced_file
from llm2comp_train.data.store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StoreTexts", "teacher_vectors"]

_AT_ONCE = 8192
"""Texts that a teacher is given at once; it sorts them by length, so many make little padding."""
_Rows = npt.NDArray[np.int64]


class StoreTexts:
    """The texts of a store's rows again, as far as the student reads them."""

    def __init__(self, store: TokenStore, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> None:
        """Read a store.

        Args:
            store: rows of one text.
            tokenizer: that made its token ids.
            prompts: what the queries of each file begin with.
        """
        self._store, self._tokenizer, self._prompts = store, tokenizer, prompts

    def __call__(self, rows: Sequence[int]) -> tuple[list[str], list[bool]]:
        """Texts of rows without their prompts, and which of them are queries that had one."""
        texts = self._tokenizer.batch_decode(
            [self._store.ids(self._store.texts(row)[0]) for row in rows],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        prompted = [bool(self._store.prompted[row]) for row in rows]
        files = [int(self._store.files[row]) for row in rows]
        bare = [
            text.removeprefix(self._prompts[file]) if query else text
            for text, query, file in zip(texts, prompted, files, strict=True)
        ]
        return bare, prompted


def teacher_vectors(
    path: Path,
    teacher: TextEncoder,
    rows: _Rows,
    count: int,
    read: StoreTexts,
    say: Callable[[str], None],
) -> npt.NDArray[np.float16]:
    """A teacher's vectors as a read-only memory map ``(count, t)`` float16; zero for rows that are not asked for.

    Args:
        path: the run's file; if it is there already, it is taken as it is.
        teacher: its own query prompt precedes queries, its document prompt all other texts.
        rows: numbers of the rows to compute, ascending.
        count: rows of the store.
        read: their texts.
        say: called with a line of progress now and then.
    """
    shape = (count, teacher.dimension)
    if not path.is_file():
        for left in path.parent.glob(f".{path.name}.*.new"):  # by a process that was killed
            left.unlink()
        keep = EmbeddingStore(cache_dir() / "teachers" / f"{teacher.fingerprint}.sqlite", "<f2")
        # Written, not mapped: where the disk is full, a write says so, and a mapping kills the process.
        with replaced_file(path) as fresh, fresh.open("wb") as out:
            out.truncate(np.dtype(np.float16).itemsize * count * teacher.dimension)  # a sparse file
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                _write_rows(out, part, _vectors(teacher, *read(part.tolist()), keep))
                done = start + len(part)
                if done == len(rows) or (start // _AT_ONCE) % 2 == 0:
                    say(f"teacher {teacher.name}: {done:,} of {len(rows):,} texts")
        keep.close()
    return np.memmap(path, dtype=np.float16, mode="r", shape=shape)


def _write_rows(out: BinaryIO, rows: _Rows, vectors: npt.NDArray[np.float16]) -> None:
    """Put vectors ``(n, t)`` where rows of a file of them stand; ``rows`` ascend."""
    for run in np.split(np.arange(len(rows)), 1 + np.flatnonzero(np.diff(rows) != 1)):
        out.seek(int(rows[run[0]]) * vectors[0].nbytes)
        out.write(vectors[run].tobytes())


def _vectors(
    teacher: TextEncoder, texts: Sequence[str], queries: Sequence[bool], keep: EmbeddingStore
) -> npt.NDArray[np.float16]:
    """``(n, t)`` of texts, from what is kept where it is there; the rest is computed and kept."""
    keys = [_key(text, query) for text, query in zip(texts, queries, strict=True)]
    found = dict(keep.get(list(dict.fromkeys(keys)), teacher.dimension))
    for query in (False, True):
        missing = {
            key: text
            for key, text, kind in zip(keys, texts, queries, strict=True)
            if kind is query and key not in found
        }
        if missing:
            prompt = teacher.prompts.get("query" if query else "document")
            with _half_precision(teacher):
                made = teacher.encode(list(missing.values()), prompt=prompt).astype(np.float16)
            keep.put(list(missing), made)
            found.update(zip(missing, made, strict=True))
    return np.stack([found[key] for key in keys]).astype(np.float16)


@contextmanager
def _half_precision(teacher: TextEncoder) -> Iterator[None]:
    """Half-precision matrix products, where the hardware has them, for a teacher that would not use them by itself.

    The vectors are stored in float16 anyway. Measured with all-MiniLM-L6-v2 on a CPU with bfloat16: 2.7 times as fast,
    cosine to float32 at least .99997.
    """
    device = default_device()
    dtype = default_dtype(device)
    if isinstance(teacher, BatchedEncoder) or dtype is torch.float32:
        yield
        return
    with torch.autocast(device.split(":")[0], dtype=dtype):
        yield


def _key(text: str, query: bool) -> bytes:
    return hashlib.blake2b((b"q" if query else b"d") + text.encode(), digest_size=16).digest()
