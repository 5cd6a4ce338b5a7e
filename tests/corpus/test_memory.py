"""Memory follows the largest record, not the corpus."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from llm2comp_apps.corpus import CorpusOptions, read_corpus

TEXT = " ".join(random.Random(1).choices(["alpha", "beta", "gamma", "delta"], k=100))


def rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"_id": str(number), "text": f"{number} {TEXT}", "n": number} for number in range(count))


def write_corpus(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as out:
        if path.suffix == ".jsonl":
            out.writelines(json.dumps(row) + "\n" for row in rows(count))
        elif path.suffix == ".json":
            out.write("[" + ",".join(map(json.dumps, rows(count))) + "]")
        else:
            out.write("_id,text,n\n")
            out.writelines(f"{row['_id']},{row['text']},{row['n']}\n" for row in rows(count))


def peak(path: Path) -> int:
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_corpus([path])) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_peak_does_not_grow_with_the_corpus(suffix: str, tmp_path: Path) -> None:
    peaks = []
    for count in (300, 2_000):
        path = tmp_path / f"{count}{suffix}"
        write_corpus(path, count)
        peak(path)  # the first reading also pays for imports
        peaks.append(peak(path))
    assert peaks[1] < 1.05 * peaks[0], peaks
    assert peaks[1] < 4 * 2**20


def test_parquet_is_not_read_a_row_group_at_a_time(tmp_path: Path) -> None:
    """All rows in one group, as pandas writes it. Arrow's memory is its own, so the process is measured."""
    texts = pyarrow.array([f"{number} {number * number} {TEXT * 4}" for number in range(30_000)])
    table = pyarrow.table({"text": texts})
    path = tmp_path / "c.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=len(table), compression="none", use_dictionary=False)
    program = """
import resource, sys
import pyarrow.parquet
from llm2comp_apps.corpus import read_corpus
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert sum(1 for _ in read_corpus([sys.argv[1]])) == 30_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(
        subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True).stdout
    )
    assert path.stat().st_size > 60 * 2**20
    assert grown < 45 * 2**10, f"{grown} KiB"


def test_endless_line_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with path.open("w") as out:
        out.writelines(itertools.repeat("x" * 2**16, 200))
        out.write('\n{"text": "after it"}\n')
    options = CorpusOptions(on_error="skip", max_record_chars=2**16)
    tracemalloc.start()
    try:
        assert [document.text for document in read_corpus([path], options)] == ["after it"]
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()
