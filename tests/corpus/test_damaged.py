"""Folders of damaged and dangerous files: nothing crashes or hangs, memory stays bounded, every file is read or named.

``make torture`` reads 300 of them; the other tests read fewer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .damage import bombs, damaged

READ = """
import json, pathlib, resource, sys, time
from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
report, read = ReadReport(), set()
start = time.monotonic()
for document in read_corpus([sys.argv[1]], CorpusOptions(max_seconds=float(sys.argv[2])), report):
    read.add(document.source.partition(":")[0])
seconds = time.monotonic() - start
status = pathlib.Path("/proc/self/status")  # ru_maxrss of a program counts the one that started it, too
own = int(status.read_text().partition("VmHWM:")[2].split()[0]) if status.exists() else 0
memory = [own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]
named = [file.path for file in report.passed_over] + [row.place.partition(":")[0] for row in report.skipped_rows]
named += report.repeated + report.bare
print(json.dumps({"read": sorted(read), "named": named, "memory": memory, "seconds": seconds, "empty": report.empty,
                  "reasons": [str(file) for file in report.passed_over]}))
"""
MEGABYTES = 1024
SECONDS = 10


def read_apart(folder: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """What a process of its own makes of a folder."""
    command = [sys.executable, "-c", READ, str(folder), str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def check(folder: Path, files: Iterable[tuple[str, bytes]], seconds: float = SECONDS) -> dict[str, Any]:
    """Read a folder of such files, and see that each is read or named."""
    folder.mkdir()
    for name, content in files:
        (folder / name).write_bytes(content)
    (folder / "good.txt").write_text("A good file among them.")
    found = read_apart(folder, seconds)
    there = {str(path) for path in folder.iterdir()}
    assert there - {*found["read"], *found["named"]} == set(), "files that are neither read nor named"
    assert str(folder / "good.txt") in found["read"]
    assert max(found["memory"]) < MEGABYTES
    return found


def test_damaged_files(tmp_path: Path) -> None:
    found = check(tmp_path / "docs", damaged(0, 80))
    assert len(found["named"]) > 20


def test_bombs(tmp_path: Path) -> None:
    """Those that need no time to be made or refused."""
    names = (
        "laughs.docx", "laughs.xlsx", "laughs.odt", "laughs.pptx", "laughs.epub", "outside.docx", "zeros.docx",
        "many.odt", "nested.odt", "deep.json", "deep.jsonl", "anchors.md", "fences.md", "loop.pdf", "deep.eml",
        "mails.eml", "empty.pdf", "empty.docx",
    )  # fmt: skip
    found = check(tmp_path / "docs", ((name, bombs()[name]()) for name in names))
    read = {Path(path).name for path in found["read"]}
    assert read == {"good.txt", "anchors.md", "fences.md", "mails.eml"}, "the text that they hold besides"


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(3))
def test_300_damaged_files(tmp_path: Path, seed: int) -> None:
    dangerous = [(name, make()) for name, make in bombs().items()]
    check(tmp_path / "docs", [*dangerous, *damaged(seed, 300 - len(dangerous))])


@pytest.mark.torture
@pytest.mark.parametrize("name", bombs())
def test_no_bomb_takes_longer_than_it_may(tmp_path: Path, name: str) -> None:
    found = check(tmp_path / "docs", [(name, bombs()[name]())])
    print(f"{name}: {found['seconds']:.1f} s, {max(found['memory']):.0f} MiB")
    assert found["seconds"] < SECONDS + 1, "and a moment to end the process"
