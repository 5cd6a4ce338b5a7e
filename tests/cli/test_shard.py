"""``llm2comp shard``."""

from __future__ import annotations

import json

import pytest
from llm2comp_indexes import Index


def test_plan_run_status_commit(cli, encoders, write_corpus, tmp_path):
    corpus = write_corpus(40)
    result = cli("shard", "plan", corpus, "-o", "job", "--shards", 4, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["parts"] == 4
    assert "job: 4 parts, encoder hash" in result.stderr
    result = cli("shard", "run", "job", "--shard", 2)
    assert result.exit_code == 0
    assert "1 parts encoded" in result.stderr
    result = cli("shard", "run", "job", "--next")
    assert "1 parts encoded" in result.stderr
    assert "2 of 4 parts done" in cli("shard", "status", "job").stdout
    result = cli("shard", "commit", "job", "-o", "library.index")
    assert result.exit_code == 2
    assert "2 of 4 parts are not done (1, 3)" in result.stderr
    assert "--partial takes those that are there" in result.stderr
    assert cli("shard", "run", "job").exit_code == 0
    assert json.loads(cli("shard", "status", "job", "--json").stdout)["done"] == 4
    result = cli("shard", "commit", "job", "-o", "library.index", "--json")
    assert json.loads(result.stdout)["added"] == 40
    with Index.open(tmp_path / "library.index") as index:
        assert len(index) == 40
        assert index.encoder["source"] == "default"
    assert "cells-0" in cli("search", "--index", "library.index", "cells divide").stdout
    result = cli("index", "build", corpus, "-o", "library.index")
    assert "40 unchanged" in result.stderr


def test_documents_of_a_link_are_called_as_a_build_calls_them(cli, encoders, tmp_path):
    (tmp_path / "version-7").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "version-7" / name).write_text(f"Cells divide in {name}.")
    (tmp_path / "notes").symlink_to("version-7")
    (tmp_path / "latest.txt").symlink_to("version-7/b.txt")
    corpus = ("notes", "latest.txt")
    assert cli("shard", "plan", *corpus, "-o", "job").exit_code == 0
    assert cli("shard", "run", "job").exit_code == 0
    assert cli("shard", "commit", "job", "-o", "parts.index").exit_code == 0
    assert cli("index", "build", *corpus, "-o", "whole.index").exit_code == 0
    with Index.open(tmp_path / "parts.index") as parts, Index.open(tmp_path / "whole.index") as whole:
        assert sorted(parts.ids()) == sorted(whole.ids()) == ["latest.txt", "notes/a.txt", "notes/b.txt"]


def test_a_failed_part_ends_with_1_and_its_reason(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    cli("shard", "plan", corpus, "-o", "job", "--shards", 2)
    corpus.write_text(corpus.read_text().replace("Cells divide", "Calls divide", 1))
    result = cli("shard", "run", "job")
    assert result.exit_code == 1
    assert "part 0: given up:" in result.stderr
    assert "has changed since" in result.stderr
    assert "part 0: given up" in cli("shard", "status", "job").stdout


def test_wrong_calls(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    assert "--shards must be at least 1" in cli("shard", "plan", corpus, "-o", "job", "--shards", 0).stderr
    assert "there is no plan.json" in cli("shard", "run", "nothing").stderr
    cli("shard", "plan", corpus, "-o", "job", "--shards", 2)
    result = cli("shard", "run", "job", "--shard", 7)
    assert result.exit_code == 2
    assert "--shard must be between 0 and 1, not 7" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ray", "local", "--shard", 0), "--shard: with --ray, all parts are dealt out; leave it out"),
        (("--ray", "local", "--next"), "--next: with --ray, all parts are dealt out; leave it out"),
        (("--workers", 8), "--workers: without --ray, this program is the only worker; leave it out"),
        (("--gpus-per-worker", 1), "--gpus-per-worker: without --ray, this program is the only worker; leave it out"),
    ],
)
def test_options_that_a_run_would_not_read_are_refused(cli, encoders, write_corpus, options, message):
    cli("shard", "plan", write_corpus(8), "-o", "job", "--shards", 2)
    result = cli("shard", "run", "job", *options)
    assert result.exit_code != 0
    assert message in result.stderr
    assert json.loads(cli("shard", "status", "job", "--json").stdout)["done"] == 0
