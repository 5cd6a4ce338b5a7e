"""The Python of the README and of its guide runs as it stands, in the order of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUBJECTS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
    "ships": "Ships float because they displace water. A ship sinks when it takes in too much of it.",
}


def script(page: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL))


@pytest.fixture
def papers(tmp_path, monkeypatch) -> Path:
    """``papers.jsonl`` (three subjects, thirteen documents each, of 1985 to 2023) and a folder ``notes``."""
    rows = [
        {"_id": f"p{number}", "title": name.title(), "text": f"{text} Note {number}.", "year": 1985 + number}
        for number, (name, text) in enumerate(list(SUBJECTS.items()) * 13)
    ]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tea.txt").write_text("Tea needs four minutes.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: str, encoder: str) -> dict[str, object]:
    code = script(page)
    assert '"default"' in code
    names: dict[str, object] = {"__name__": page}
    exec(compile(code.replace('"default"', repr(encoder)), page, "exec"), names)
    return names


def test_the_script_of_the_readme_is_short() -> None:
    assert 5 < len(script("README.md").strip().splitlines()) <= 12


def test_the_script_of_the_readme(papers, tiny_encoder_dir, capsys) -> None:
    run("README.md", str(tiny_encoder_dir))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "39 documents"
    assert sum(line.partition(" ")[0].isdigit() for line in rest) >= 4, "documents from 2020 on"
    assert (papers / "papers.index" / "store.db").is_file()
    assert (papers / "papers.clusters" / "map.html").is_file()


@pytest.mark.real
def test_the_script_of_the_readme_with_the_encoder_that_ships(papers, capsys) -> None:
    run("README.md", "default")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "39 documents"
    assert lines[1].startswith("1 Cells"), "the best of those from 2020 on"


def test_the_guide_to_python(papers, tiny_encoder_dir, capsys) -> None:
    names = run("docs/guides/python.md", str(tiny_encoder_dir))
    assert [hit.id for hit in names["near"]]
    assert len(names["many"]) == 2
    assert (papers / "library.parquet").is_file()
    assert names["again"].names == names["topics"].names
    said = capsys.readouterr().out
    assert "1 files, 1 documents added, 0 deleted" in said
    assert "k must be at least 1" in said
