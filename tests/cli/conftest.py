from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

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
