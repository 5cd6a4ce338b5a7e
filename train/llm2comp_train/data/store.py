"""Training texts as token ids on disk: written once per run, memory-mapped afterwards.

Memory does not grow with the data, and any row can be read at any time; so a batch can be a pure function of the seed
and the step number, which is what makes a resumed run equal to one that was never stopped. All data are read through
before the first step, so a broken row is reported then and not hours later.

    tokens.u32      token ids of all texts, one after another
    starts.npy      (texts + 1,)  where each text begins
    firsts.npy      (rows + 1,)   the first text of each row
    files.npy       (rows,)       the file each row came from
    lines.npy       (rows,)       its line there
    prompted.npy    (rows,)       whether a prompt precedes its first text
    digests.npy     (texts,)      64-bit hash of each text without its prompt: equal texts have equal ones
    store.json      written last: a folder without it is unfinished
"""

from __future__ import annotations

import array
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.errors import TrainingError
from llm2comp_apps.files import write_text
from llm2comp_train.data.sources import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenStore", "write_store"]

_ROWS_AT_ONCE = 1024


def write_store(
    directory: Path,
    files: Sequence[tuple[str, Iterable[Row]]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> None:
    """Tokenise the rows of all files, each text cut to ``max_length`` tokens; holds a thousand rows at a time.

    Raises:
        CorpusError: a broken row, by file and line.
        TrainingError: a file has no usable row.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    starts, firsts = array.array("q", [0]), array.array("q", [0])
    numbers, lines, digests = array.array("i"), array.array("q"), array.array("Q")
    prompted = array.array("b")
    with (directory / "tokens.u32").open("wb") as out:
        for number, (name, rows) in enumerate(files):
            before = len(numbers)
            for batch in _batched(rows):
                texts = [text for row in batch for text in row.texts]
                whole = [text for row in batch for text in (row.prompt + row.texts[0], *row.texts[1:])]
                ids, _ = first_ids(tokenizer, whole, max_length)
                np.fromiter(chain.from_iterable(ids), np.uint32).tofile(out)
                starts.extend(accumulate(map(len, ids), initial=starts.pop()))
                digests.extend(_digest(text) for text in texts)
                for row in batch:
                    firsts.append(firsts[-1] + len(row.texts))
                    numbers.append(number)
                    lines.append(row.line)
                    prompted.append(bool(row.prompt))
            if len(numbers) == before:
                raise TrainingError(f"{name}: no row in it can be used for this stage.")
    columns = {"starts": starts, "firsts": firsts, "files": numbers, "lines": lines, "digests": digests}
    columns["prompted"] = prompted
    for column, values in columns.items():
        np.save(directory / f"{column}.npy", np.asarray(values))
    write_text(directory / "store.json", json.dumps({"names": [name for name, _ in files]}))


def _batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _ROWS_AT_ONCE)):
        yield batch


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class TokenStore:
    """A written store.

    Attributes:
        names: of the files.
        files: ``(rows,)`` number of each row's file.
        digests: ``(texts,)``; equal texts have equal digests.
        prompted: ``(rows,)``; 1 where a prompt precedes the row's first text.
    """

    def __init__(self, directory: Path) -> None:
        self.names: list[str] = json.loads((directory / "store.json").read_text("utf-8"))["names"]
        # As plain arrays over the same mapping: indexing a memmap makes a new object of that class, ten times as slow.
        self._tokens = np.asarray(np.memmap(directory / "tokens.u32", dtype=np.uint32, mode="r"))
        self._starts, self._firsts, self._lines, self.files, self.digests = (
            np.asarray(np.load(directory / f"{column}.npy", mmap_mode="r"))
            for column in ("starts", "firsts", "lines", "files", "digests")
        )
        path = directory / "prompted.npy"  # stores of earlier versions have none, and no stage that asks
        self.prompted = np.load(path, mmap_mode="r") if path.is_file() else np.zeros(len(self.files), dtype=np.int8)

    def __len__(self) -> int:
        return len(self.files)

    def texts(self, row: int) -> range:
        """Numbers of a row's texts."""
        return range(int(self._firsts[row]), int(self._firsts[row + 1]))

    def ids(self, text: int) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._tokens[self._starts[text] : self._starts[text + 1]].tolist()
        return ids

    def spans(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where each text's tokens start, and how many they are: both ``(texts,)``."""
        starts = np.asarray(self._starts, dtype=np.int64)
        return starts[:-1], np.diff(starts)

    def tokens(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Token ids at places that :meth:`spans` counts, in the shape of ``places``."""
        found: npt.NDArray[np.int64] = self._tokens[places].astype(np.int64)
        return found

    def lengths(self) -> npt.NDArray[np.int64]:
        """``(rows,)`` tokens of each row's first text."""
        firsts = np.asarray(self._firsts[:-1])
        lengths: npt.NDArray[np.int64] = self._starts[firsts + 1] - self._starts[firsts]
        return lengths

    def place(self, row: int) -> str:
        """``file:line`` of a row, for messages."""
        return f"{self.names[int(self.files[row])]}:{int(self._lines[row])}"
