"""Builds in processes of their own: killed, interrupted, run again; and what a process writes where."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import Index

DOCUMENTS = 120
WINDOW = 10

# The command as it is, but with an encoder that needs no model and commits every few documents, so that a build has
# many moments to be killed at and lasts a second or two.
DRIVER = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import HashEncoder
from llm2comp_apps import encoder
from llm2comp_apps.cli.ui import progress
from llm2comp_apps.retrieval import build
class Slow(HashEncoder):
    def encode(self, texts, **options):
        time.sleep(0.02)
        return super().encode(texts, **options)
encoder.load_encoder = lambda name, device=None: Slow()
progress.LINE_INTERVAL = 0.0
build._WINDOW_DOCUMENTS = {window}
build.CommitRule.__init__.__defaults__ = (1e9, 20)
from llm2comp_apps.cli.main import main
main()
"""


@pytest.fixture
def start_build(tmp_path):
    """Starts ``index build`` in a process of its own; returns its Popen."""
    started = []

    def start(corpus, output, *command):
        driver = DRIVER.format(tests=str(Path(__file__).parents[1]), window=WINDOW)
        command = [sys.executable, "-c", driver, *(command or ("index", "build")), str(corpus), "-o", str(output)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for popen in started:
        if popen.poll() is None:
            popen.kill()
        popen.communicate()


def state(index, encoder):
    """All that an index answers: each document, and each document's score for some queries."""
    queries = encoder.encode(["cells divide", "gas star", "note 17"])
    scores = [{hit.id: hit.score for hit in hits} for hits in index.search(queries, DOCUMENTS)]
    documents = {document.id: document for document in index.get(list(index.ids()))}
    lexical = {hit.id for hit in index.search_lexical("note", DOCUMENTS)}
    return documents, scores, lexical


def assert_same(state_a, state_b):
    documents_a, scores_a, lexical_a = state_a
    documents_b, scores_b, lexical_b = state_b
    assert documents_a == documents_b
    assert lexical_a == lexical_b
    for one, other in zip(scores_a, scores_b, strict=True):
        assert one.keys() == other.keys()
        assert np.allclose([one[name] for name in one], [other[name] for name in one], atol=1e-6)


@pytest.fixture
def undisturbed(cli, encoders, write_corpus, tmp_path, hash_encoder):
    """The corpus, what a build of it answers when nothing happens, and how long it takes a process."""
    corpus = write_corpus(DOCUMENTS)
    assert cli("index", "build", corpus, "-o", tmp_path / "undisturbed.index").exit_code == 0
    return corpus, state(Index.open(tmp_path / "undisturbed.index"), hash_encoder)


def kill_and_resume(start_build, cli, corpus, expected, path, encoder, lines, seconds):
    """Kill a build some seconds after it reported progress so often; returns how many documents were safe then."""
    popen = start_build(corpus, path)
    for _ in range(lines):
        wait_for_progress(popen)
    time.sleep(seconds)
    popen.kill()
    popen.communicate()
    safe = 0
    if path.exists():
        survivor = Index.open(path)
        assert survivor.verify() == []
        safe = len(survivor)
        survivor.close()
    assert cli("index", "build", corpus, "-o", path).exit_code == 0
    rebuilt = Index.open(path)
    assert rebuilt.verify() == []
    assert_same(state(rebuilt, encoder), expected)
    return safe


@pytest.mark.parametrize("lines", [1, 4, 7])
def test_a_killed_build_goes_on_where_it_stopped(start_build, cli, undisturbed, tmp_path, hash_encoder, lines):
    corpus, expected = undisturbed
    kill_and_resume(start_build, cli, corpus, expected, tmp_path / "killed.index", hash_encoder, lines, 0.01)


@pytest.mark.torture
def test_twenty_killed_builds_go_on_where_they_stopped(start_build, cli, undisturbed, tmp_path, hash_encoder):
    corpus, expected = undisturbed
    generator = random.Random(0)
    moments = [(generator.randrange(DOCUMENTS // WINDOW), generator.uniform(0, 0.3)) for _ in range(20)]
    safe = [
        kill_and_resume(start_build, cli, corpus, expected, tmp_path / f"{n}.index", hash_encoder, *moment)
        for n, moment in enumerate(moments)
    ]
    print(f"documents safe when killed, of {DOCUMENTS}: {safe}")
    assert sum(0 < count < DOCUMENTS for count in safe) > 5, "too few builds were killed in the middle"


def wait_for_progress(popen):
    """Read stderr up to the next line that tells of encoded documents."""
    seen = ""
    for line in popen.stderr:
        seen += line
        if re.match(r"encoding: \d+/", line):
            return
    raise AssertionError(f"no progress was reported:\n{seen}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_asked_to_stop_keeps_what_was_encoded_and_says_how_to_go_on(
    start_build, cli, undisturbed, tmp_path, hash_encoder, encoders, number
):
    corpus, expected = undisturbed
    path = tmp_path / "stopped.index"
    popen = start_build(corpus, path)
    wait_for_progress(popen)
    popen.send_signal(number)
    stdout, stderr = popen.communicate(timeout=300)
    assert popen.returncode == 130
    assert stdout == ""
    assert "continues from there" in stderr
    assert "Traceback" not in stderr
    kept = len(Index.open(path))
    assert 0 < kept < DOCUMENTS
    assert f"{kept} documents are added" in stderr
    before = encoders["default"].calls
    assert cli("index", "build", corpus, "-o", path).exit_code == 0
    assert encoders["default"].calls - before == DOCUMENTS - kept
    assert_same(state(Index.open(path), hash_encoder), expected)


def test_a_second_ctrl_c_stops_at_once_and_harms_nothing(start_build, undisturbed, tmp_path):
    corpus, _ = undisturbed
    path = tmp_path / "stopped.index"
    popen = start_build(corpus, path)
    wait_for_progress(popen)
    popen.send_signal(2)
    popen.send_signal(2)
    _, stderr = popen.communicate(timeout=300)
    assert popen.returncode == 130
    assert "Traceback" not in stderr
    assert Index.open(path).verify() == []


@pytest.mark.parametrize("output", ["x.npy", "x.parquet"])
def test_sigterm_takes_away_what_is_half_written(start_build, tmp_path, output):
    corpus = tmp_path / "long.jsonl"
    corpus.write_text("".join(json.dumps({"_id": str(n), "text": f"a text {n}"}) + "\n" for n in range(20_000)))
    popen = start_build(corpus, tmp_path / output, "encode")
    limit = time.monotonic() + 60
    while not list(tmp_path.glob(".x.*.new")):
        assert time.monotonic() < limit
        time.sleep(0.02)
    popen.terminate()
    _, stderr = popen.communicate(timeout=60)
    assert popen.returncode == 130
    assert stderr.splitlines()[-1] == "Error: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["long.jsonl"]


def test_progress_in_a_pipe_is_plain_lines_with_rate_and_time_left(start_build, undisturbed, tmp_path):
    corpus, _ = undisturbed
    popen = start_build(corpus, tmp_path / "x.index")
    stdout, stderr = popen.communicate(timeout=300)
    assert (popen.returncode, stdout) == (0, "")
    assert "\r" not in stderr
    assert "\x1b" not in stderr
    assert re.search(rf"^encoding: \d+/{DOCUMENTS} documents, [\d.]+/s, \d+ s left$", stderr, re.MULTILINE)


def test_a_real_encoder_from_corpus_to_hits(process, write_corpus, tiny_encoder_dir, tmp_path):
    corpus = write_corpus(12)
    code, stdout, stderr = process("index", "build", corpus, "--encoder", tiny_encoder_dir, "--memory").finish()
    assert (code, stdout) == (0, ""), stderr
    code, stdout, stderr = process("search", "cells divide", "-k", "3", "--rerank", "memory", "--json").finish()
    assert code == 0, stderr
    assert len(json.loads(stdout)["hits"]) == 3
    code, stdout, stderr = process("search", "x", "--encoder", "baseline:lt", "--index", "nothing.index").finish()
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1
    index = Index.open(corpus.with_suffix(".index"))
    assert index.info().encoder["source"] == str(tiny_encoder_dir)


def test_lexical_search_imports_no_torch(write_corpus, cli, encoders):
    cli("index", "build", write_corpus(4))
    code = (
        "import sys; sys.argv = ['llm2comp', 'search', 'cells', '--mode', 'lexical']\n"
        "from llm2comp_apps.cli.main import main\n"
        "try: main()\nexcept SystemExit: print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "False False"


@pytest.mark.parametrize(
    ("device", "message"),
    [("quantum", "--device must be cpu, cuda, cuda:1 or mps, not 'quantum'"), ("cuda:77", "torch finds none here")],
)
def test_a_device_that_is_not_there_is_one_line(cli, tiny_encoder_dir, write_corpus, device, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = cli("index", "build", write_corpus(4), "--encoder", tiny_encoder_dir, "--device", device)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="no shell that closes streams")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&-"])
def test_closed_streams_are_no_error(tmp_path, closed):
    """As after ``llm2comp ... >&-`` in a script that wants to hear nothing."""
    command = (
        f"{shlex.quote(sys.executable)} -c 'from llm2comp_apps.cli.main import main; main()' index list --json {closed}"
    )
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
