"""``llm2comp push``: options reach the room below, files are listed, and what is missing is one line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def pushed(monkeypatch):
    """What ``push_model`` was called with."""
    from llm2comp_apps.encoder.publishing import push

    calls = []

    def record(encoder, repo, **settings):
        calls.append((encoder, repo, settings))
        url = None if settings["dry_run"] else f"https://hub/{repo}"
        return push.Pushed(
            repo=repo, url=url, files={"README.md": 1200, "model.safetensors": 5_000_000}, smallest_cosine=1,
            unknown_backbone=None if settings["backbone"] else "llama",
        )  # fmt: skip

    monkeypatch.setattr(push, "push_model", record)
    return calls


def test_options_and_listing(cli, pushed):
    result = cli(
        "push", "runs/encoder", "--repo", "me/it", "--private", "--pr", "--dtype", "float16", "--backbone", "org/llama"
    )
    ((encoder, repo, settings),) = pushed
    assert (encoder, repo) == ("runs/encoder", "me/it")
    assert settings["backbone"] == "org/llama"
    assert (settings["private"], settings["pr"], settings["dtype"], settings["dry_run"]) == (
        True,
        True,
        "float16",
        False,
    )
    assert result.stdout.splitlines() == ["       1,200  README.md", "   5,000,000  model.safetensors"]
    assert result.stderr.strip() == "2 files, 5 MB at https://hub/me/it"


def test_a_dry_run(cli, pushed):
    result = cli("push", "default", "--repo", "me/it", "--dry-run", "--scores", "report.json", "--json")
    assert json.loads(result.stdout)["files"]["README.md"] == 1200
    warning, total = result.stderr.strip().splitlines()
    assert "the backbone llama is a folder of this machine, which others do not find: name a backbone" in warning
    assert total == "2 files, 5 MB; nothing was sent"


def test_what_is_wrong_is_one_line(cli, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    result = cli("push", "default", "--repo", "me/it")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "hf auth login" in result.stderr
    result = cli("push", "default", "--repo", "it")
    assert (result.exit_code, result.stderr.startswith("Error: --repo must be USER/NAME")) == (2, True)
