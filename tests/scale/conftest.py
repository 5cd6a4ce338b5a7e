"""A corpus, and jobs of it."""

from __future__ import annotations

import json

import pytest

from llm2comp_apps.scale import plan_job

WORDS = [
    "cell",
    "star",
    "bread",
    "ship",
    "river",
    "stone",
    "cloud",
    "tree",
    "flame",
    "wheel",
    "salt",
    "copper",
    "violin",
    "winter",
    "glass",
]


def corpus_records(count: int) -> list[dict]:
    """Documents of different lengths."""
    return [
        {
            "_id": f"d{number}",
            "title": f"Title {number}",
            "text": " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 4 + number % 40)) + f" {number}",
            "year": 1900 + number,
        }
        for number in range(count)
    ]


@pytest.fixture
def corpus(tmp_path):
    """60 documents in JSON lines."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in corpus_records(60)))
    return path


@pytest.fixture
def job(tmp_path, corpus, hash_encoder):
    """A job of six parts that nobody has begun."""
    return plan_job(tmp_path / "job", [corpus], parts=6, encoder=hash_encoder)
