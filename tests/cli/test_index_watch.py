"""``llm2comp index watch``."""

from __future__ import annotations

import json
import time


def test_once(cli, encoders, tmp_path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "cells.txt").write_text("Cells divide.")
    (notes / "stars.txt").write_text("Stars burn.")
    result = cli("index", "watch", "notes", "--once", "--json", "--chunk", 16)
    assert json.loads(result.stdout)["added"] == 2
    (notes / "stars.txt").unlink()
    (notes / ".gitignore").write_text("private*\n")
    (notes / "private.txt").write_text("Secret words.")
    result = cli("index", "watch", "notes/", "--once", "--chunk", 16)
    assert "1 files, 0 documents added, 1 deleted" in result.stderr
    assert result.stdout == ""
    assert cli("index", "watch", "notes", "--once", "--no-gitignore").exit_code == 0
    result = cli("search", "secret words", "--mode", "lexical", "--index", "notes.index", "--json")
    assert [hit["id"] for hit in json.loads(result.stdout)["hits"]] == ["notes/private.txt"]


def test_wrong_calls(cli, encoders, tmp_path) -> None:
    result = cli("index", "watch", "none")
    assert result.exit_code == 2
    assert "FOLDER must be a folder: none is none" in result.stderr
    (tmp_path / "notes").mkdir()
    result = cli("index", "watch", "notes", "--interval", 0)
    assert result.exit_code == 2
    assert "--interval must be above 0" in result.stderr


def test_follows_until_ctrl_c(process, tiny_encoder_dir, tmp_path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "cells.txt").write_text("Cells divide.")
    running = process("index", "watch", notes, "--encoder", tiny_encoder_dir, "--interval", 0.1, "--json")
    assert json.loads(running.popen.stdout.readline())["files"] == 1
    (notes / "stars.txt").write_text("Stars burn.")
    added, deadline = 0, time.monotonic() + 60
    while added < 1 and time.monotonic() < deadline:
        added += json.loads(running.popen.stdout.readline())["added"]
    running.interrupt()
    code, _, errors = running.finish()
    assert added
    assert code == 130, errors
