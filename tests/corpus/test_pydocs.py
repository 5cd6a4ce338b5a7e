"""The demo's corpus: real text from whatever Python runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from llm2comp_apps.corpus import ReadReport, pydocs, read_corpus


def test_corpus_is_clean_and_real(tmp_path: Path) -> None:
    path = tmp_path / "pydocs.jsonl"
    pydocs.main([str(path)])
    report = ReadReport()
    documents = {document.id: document for document in read_corpus([path], None, report)}
    # Nothing is empty, broken or there twice: every line became a document.
    assert report.documents == len(documents) == len(path.read_text("utf-8").splitlines())
    assert 1000 < len(documents) < 2500
    kinds = Counter(document.metadata["kind"] for document in documents.values())
    assert set(kinds) == {"topic", "module", "class", "function"}
    assert min(kinds.values()) > 50
    assert "repeated execution" in documents["topic:while"].text
    assert documents["topic:while"].title == "The while statement"
    assert documents["bisect.bisect_left"].metadata == {"kind": "function", "module": "bisect"}
    assert documents["builtins.sorted"].text.startswith("Return a new list containing all items")
    assert max(len(document.text) for document in documents.values()) <= 300


def test_same_python_gives_the_same_corpus_without_importing_it(tmp_path: Path) -> None:
    program = """
import json, sys
from llm2comp_apps.corpus import pydocs
before = set(sys.modules)
print(json.dumps([entry._asdict() for entry in pydocs.entries()]))
imported = {name.partition(".")[0] for name in set(sys.modules) - before}
assert imported <= {"pydoc_data", "math", "itertools", "time"}, imported
"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, check=True, capture_output=True, env={"PYTHONHASHSEED": "1"}).stdout
    assert json.loads(output) == [entry._asdict() for entry in pydocs.entries()]
