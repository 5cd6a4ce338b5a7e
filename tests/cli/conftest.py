from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

_WORDS = ["a", "few", "words", "so", "that", "there", "is", "something", "to", "learn"]
TOPICS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
    "ships": "Ships float because they displace water. A ship sinks when it takes in too much of it.",
}


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path, monkeypatch):
    """Each test runs in an empty directory of its own, with no index named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLM2COMP_INDEX", raising=False)
    monkeypatch.delenv("LLM2COMP_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def write_corpus(tmp_path):
    """Writes a JSON lines corpus of n documents: the four topics, numbered; returns its path."""

    def write(count: int = 4, name: str = "corpus.jsonl", **changes: str):
        path = tmp_path / name
        with path.open("w") as file:
            for number in range(count):
                topic = list(TOPICS)[number % len(TOPICS)]
                text = TOPICS[topic] if number < len(TOPICS) else f"{TOPICS[topic]} Note {number} of many."
                record = {"_id": f"{topic}-{number}", "title": topic.title(), "text": text, "year": 2000 + number}
                if record["_id"] in changes:
                    record["text"] = changes[record["_id"]]
                file.write(json.dumps(record) + "\n")
        return path

    return write


class Encoders(dict):
    """Encoders by name."""

    def __init__(self, **encoders):
        super().__init__(encoders)
        self.loaded = []


@pytest.fixture
def encoders(monkeypatch, make_hash_encoder):
    """Stand-ins for what ``load_encoder`` would load, by name; ``loaded`` lists what was asked for."""

    table = Encoders(default=make_hash_encoder(), other=make_hash_encoder(seed="other"))

    def load(name, device=None):
        table.loaded.append(name)
        return table[name]

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", load)
    return table


@pytest.fixture
def cli():
    """Runs a command in this process; the result has exit_code, stdout and stderr."""
    from llm2comp_apps.cli.main import app

    def run(*arguments: object, **extra):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], **extra)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


class Process:
    """``llm2comp`` in a process of its own."""

    def __init__(self, arguments, environment):
        # The module, not the script: a test of a source tree must not depend on what is first on the PATH.
        command = [sys.executable, "-c", "from llm2comp_apps.cli.main import main; main()", *map(str, arguments)]
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def finish(self, timeout=120):
        """Wait; returns (exit code, stdout, stderr)."""
        stdout, stderr = self.popen.communicate(timeout=timeout)
        return self.popen.returncode, stdout, stderr

    def interrupt(self):
        self.popen.send_signal(signal.SIGINT)

    def kill_after(self, seconds):
        time.sleep(seconds)
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def process():
    """Starts a command in a process of its own, one thread, no network."""
    started = []

    def start(*arguments: object, **environment: str):
        settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
        started.append(Process(arguments, settings))
        return started[-1]

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.communicate()


@pytest.fixture
def run():
    """Calls ``llm2comp train``."""
    from llm2comp_apps.cli.main import app

    def call(*arguments):
        return CliRunner().invoke(app, ["train", *map(str, arguments)])

    return call


@pytest.fixture
def data(tmp_path) -> dict[str, Path]:
    """Files to train on: ``text`` and ``pairs``."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(_WORDS, k=8)) + f" {number}" for number in range(40)]
    found = {"text": tmp_path / "text.jsonl", "pairs": tmp_path / "pairs.jsonl"}
    found["text"].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    rows = [{"query": text, "positive": text[::-1]} for text in texts]
    found["pairs"].write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return found


@pytest.fixture
def small(tiny_encoder_dir):
    """Options of a run of two small steps."""
    backbone = json.loads((tiny_encoder_dir / "encoder.json").read_text())["backbone"]
    return [
        "--backbone", backbone, "--k", 4, "--max-steps", 2, "--batch-size", 4, "--context", "4,6", "--continuation", 4,
        "--validation-texts", 4, "--dead-gain", -9, "--float32-layers", 0, "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip


@pytest.fixture
def built(cli, encoders, write_corpus):
    """An index of eight documents, ``corpus.index`` in the working directory."""
    corpus = write_corpus(8)
    assert cli("index", "build", corpus, "--memory").exit_code == 0
    encoders.loaded.clear()
    return corpus.with_suffix(".index")
