"""A result that cannot be written is named before anything is loaded or computed for it."""

from __future__ import annotations

import json

import pytest

NOBODY = "/proc/none"  # a folder that nobody can make
_EVAL = ("--data", "data", "--task", "sts")
_ANALYZE = ("--data", "data", "--pairs", "sts", "--suite", "none")


@pytest.fixture
def there(write_corpus, tmp_path):
    """What the calls below read: whatever comes before the check is in order."""
    write_corpus()
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"query": "a", "positive": "b"}) + "\n")
    (tmp_path / "data/sts").mkdir(parents=True)
    rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in range(3)]
    (tmp_path / "data/sts/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run/checkpoints/step-1").mkdir(parents=True)
    (tmp_path / "run/checkpoints/step-1/encoder.json").write_text("{}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "a text", "--encoder", "nowhere", "--html", "/proc/page.html"],
        ["encode", "corpus.jsonl", "--encoder", "nowhere", "-o", "/proc/x.npy"],
        ["encode", "corpus.jsonl", "--encoder", "nowhere", "-o", "/proc/x.parquet"],
        ["search", "--index", "nowhere", "--queries", "corpus.jsonl", "-o", "/proc/run.trec"],
        ["cluster", "corpus.jsonl", "--encoder", "nowhere", "-o", f"{NOBODY}/x.clusters"],
        ["eval", *_EVAL, "--encoder", "nowhere", "-o", NOBODY],
        ["eval", "curve", "run", "--suite", "offline", *_EVAL, "-o", NOBODY],
        [
            "eval",
            "analyze",
            "--data",
            "data",
            "--pairs",
            "sts",
            "--suite",
            "none",
            "--encoder",
            "nowhere",
            "-o",
            NOBODY,
        ],
        ["export-model", "nowhere", "-o", f"{NOBODY}/model"],
        ["push", "nowhere", "--repo", "me/it", "--dry-run", "-o", f"{NOBODY}/model"],
        ["train", "mine-negatives", "pairs.jsonl", "--encoder", "nowhere", "--out", "/proc/mined.jsonl"],
        ["train", "prune", "nowhere", "--layers", "1", "--data", "pairs.jsonl", "--out", f"{NOBODY}/pruned"],
        ["train", "pack", "nowhere", "--out", f"{NOBODY}/packed"],
        ["train", "--data", "corpus.jsonl", "--backbone", "nowhere", "--out", f"{NOBODY}/run"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_place_where_nothing_can_be_written_is_found_first(cli, there, arguments):
    result = cli(*arguments)
    assert result.exit_code == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: /proc/"), result.stderr
    assert "No such file or directory" in line


def test_a_folder_in_the_place_of_a_page_is_found_first(cli, tmp_path):
    (tmp_path / "page.html").mkdir()
    result = cli("explain", "a text", "--encoder", "nowhere", "--html", "page.html")
    assert (result.exit_code, result.stderr.strip()) == (1, "Error: page.html: Is a directory")
