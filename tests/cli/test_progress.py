"""What commands tell while they encode: how many, how fast, and how long it will take; in a pipe and on a terminal."""

from __future__ import annotations

import json
import re

import pytest

from llm2comp_apps.cli.ui import progress
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.encoder.progress import EncodingProgress, watcher

LINE = r"^encoding: \d+(/\d+)? (documents|texts), [\d.]+/s, \d+ s left$"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "sts" / "stsbenchmark"
    folder.mkdir(parents=True)
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n % 3}", "score": n % 5} for n in range(30)]
    for split in ("dev", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": f"what is {n}", "positive": f"{n} is a number"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("command", ["encode", "cluster", "eval", "mine-negatives"])
def test_in_a_pipe_lines_say_how_many_how_fast_and_how_long(
    cli, encoders, write_corpus, data, pairs, command, monkeypatch
):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    load = lambda name, *, backbone=None, device=None: encoders[name]  # noqa: E731
    for place in ("llm2comp_apps.encoder.load_encoder", "llm2comp_apps.encoder.names.load_encoder"):
        monkeypatch.setattr(place, load)
    call = {
        "encode": ["encode", write_corpus(12), "-o", "out.npy"],
        "cluster": ["cluster", write_corpus(40), "--no-cache"],
        "eval": ["eval", "run", "--data", data, "--suite", "dev", "--encoder", "default", "-o", "out"],
        "mine-negatives": ["train", "mine-negatives", pairs, "--out", "mined.jsonl"],
    }[command]
    done = cli(*call)
    assert done.exit_code == 0, done.stderr
    assert re.search(LINE, done.stderr, re.MULTILINE), done.stderr
    assert "\x1b" not in done.stderr


def test_on_a_terminal_a_bar_is_drawn(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    states = []
    with ProgressDisplay("encoding", "documents") as display:
        assert display._bar is not None
        monkeypatch.setattr(display._bar, "update", lambda *_, **told: states.append(told))
        display._start -= 10
        display.encoded(EncodingProgress(done=50, total=200, fraction=0.5))
    (told,) = states
    assert told["completed"] == 0.5
    assert re.fullmatch(r"50/200 documents, [\d.]+/s, 10 s left", told["state"])


def test_several_calls_of_one_work_have_one_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    lines = []
    monkeypatch.setattr(progress, "note", lines.append)
    with progress.show_encoding():
        report = watcher()
        for time, done in ((0.0, 0), (10.0, 20), (11.0, 20), (20.0, 40)):  # the end of a call is told twice
            now[0] = time
            report(EncodingProgress(done=done, total=200, fraction=done / 200))
        now[0] = 21.0
        report(EncodingProgress(done=0, total=10, fraction=0.0, step="reranking", unit="queries"))
        now[0] = 22.0
        report(EncodingProgress(done=5, total=10, fraction=0.5, step="reranking", unit="queries"))
    assert lines[3] == "encoding: 40/200 texts, 2.0/s, 1 min 20 s left"
    assert lines[-1] == "reranking: 5/10 queries, 5.0/s, 1 s left"
