"""What a person sees: the same commands on a (pseudo) terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time

import pytest


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, arguments):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            code = "from llm2comp_apps.cli.main import main; main()"
            os.execv(sys.executable, [sys.executable, "-c", code, *map(str, arguments)])
        self.seen = ""

    def wait_for(self, pattern, timeout=300):
        """Read until the pattern is on the screen."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            chunk = self._read() if ready else b""
            assert chunk, f"{pattern!r} never came; the screen was:\n{self.seen}"
            self.seen += chunk.decode(errors="replace")
        return self.seen

    def type(self, text):
        os.write(self.file, text.encode())

    def finish(self, timeout=300):
        """Read to the end; returns the exit code."""
        end = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            assert ready, f"the command did not end; the screen was:\n{self.seen}"
            if not (chunk := self._read()):
                break
            self.seen += chunk.decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self):
        try:
            return os.read(self.file, 65536)
        except OSError:  # Linux says that the process is gone by an error
            return b""


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    opened = []

    def start(*arguments):
        opened.append(Terminal(arguments))
        return opened[-1]

    yield start
    for one in opened:
        os.close(one.file)


@pytest.fixture
def built(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    assert cli("index", "build", corpus).exit_code == 0
    return corpus.with_suffix(".index")


def test_hits_mark_words_by_style_and_not_by_asterisks(built, terminal):
    screen = terminal("search", "cells divide", "--mode", "lexical")
    assert screen.finish() == 0
    assert "\x1b[" in screen.seen
    assert "**" not in screen.seen


def test_the_prompt_answers_goes_on_after_no_hits_and_leaves_with_ctrl_d(built, terminal):
    screen = terminal("search", "--mode", "lexical", "-k", "1")
    screen.wait_for("query> ")
    screen.type("cells divide\n")
    screen.wait_for(r"(?s)Cells.*query> ")
    screen.type("xylophone\n")
    screen.wait_for(r"(?s)No hits.*query> ")
    screen.type("\x1b[A\x1b[A\n")  # twice up in the history
    screen.wait_for(r"(?s)No hits.*Cells.*query> ")
    screen.type("\x04")
    assert screen.finish() == 0
    assert "Traceback" not in screen.seen


def test_ctrl_c_at_the_prompt_leaves_with_130(built, terminal):
    screen = terminal("search", "--mode", "lexical")
    screen.wait_for("query> ")
    # Python's readline loses a signal that comes between the prompt and its wait for a key, faster than any person.
    time.sleep(0.5)
    screen.type("cel")
    screen.wait_for("cel")
    screen.type("\x03")
    assert screen.finish() == 130
    assert "Traceback" not in screen.seen
    assert re.search(r"cel\s*\r?\nError: interrupted", screen.seen)


def test_building_shows_a_bar_and_leaves_only_the_result(write_corpus, tiny_encoder_dir, terminal):
    screen = terminal("index", "build", write_corpus(8), "--encoder", tiny_encoder_dir)
    assert screen.finish() == 0
    assert "\x1b[2K" in screen.seen  # the bar was drawn and wiped
    assert "8 documents added" in screen.seen.splitlines()[-1]
