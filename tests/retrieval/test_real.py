"""The way that people take on a CPU: the encoder that ships, in ONNX Runtime, from documents to hits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from llm2comp_apps import Collection, Document

long = " ".join(f"Sentence {number} tells how cells divide by mitosis." for number in range(40))
documents = [
    Document("cells", long, "Cells", {"year": 2021}),
    Document("bread", "Bread rises because yeast makes gas.", "", {"year": 2001}),
    Document("rail", "Trains run on steel rails.", "", {"year": 2022}),
]
with Collection.create("a.index", chunk=64, overlap=8, memory=True) as library:
    report = library.update(documents)
    assert (report.added, report.vectors > 5) == (3, True), report
    (first, *_) = library.search("what makes dough grow", k=3, mode="dense")
    assert first.id == "bread", first
    (first, *_) = library.search("how do cells divide", where="year >= 2020", rerank="memory")
    assert (first.id, first.span is not None) == ("cells", True), first
    assert library.similar("cells", k=2)
    (first, *_) = library.search("why does bread rise", k=3, mode="dense", rerank="tokens")
    assert first.id == "bread", first
with Collection.open("a.index") as library:
    assert library.update(documents).unchanged == 3
print("torch" in sys.modules)
"""


@pytest.mark.real
def test_from_documents_to_hits_without_torch(tmp_path):
    environment = {**os.environ, "LLM2COMP_BACKEND": "onnx"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
