"""The folder of downloaded and derived files, and what an encoder does without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm2comp_apps.diagnosis import diagnose
from llm2comp_apps.encoder.cache import cache_dir, file_sha256, remembered_sha256
from llm2comp_apps.errors import UsageError
from llm2comp_apps.serving.running import announced, find_running


@pytest.fixture
def homeless(monkeypatch):
    """A user whom the system knows no home of, as in a container that runs under a number."""
    for name in ("LLM2COMP_CACHE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)

    def home(_=None):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(Path, "expanduser", home)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def test_without_a_home_digests_are_computed_and_the_rest_says_what_to_do(homeless, weights):
    assert remembered_sha256(weights) == file_sha256(weights)
    with pytest.raises(UsageError, match=r"no home folder is known .*; name a folder by \$LLM2COMP_CACHE"):
        cache_dir()


def test_a_blank_variable_names_no_folder(monkeypatch, tmp_path):
    for name in ("LLM2COMP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "  ")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "llm2comp"
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "a folder "))
    assert cache_dir() == tmp_path / "a folder "


def test_a_home_of_nobody_is_named_too(homeless, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(UsageError, match="no home folder"):
        cache_dir()


def test_the_doctor_and_a_server_do_without_a_home(homeless):
    looks = {look.name: look for look in diagnose()}
    assert looks["cache"].status == "warning"
    assert "LLM2COMP_CACHE" in looks["cache"].advice
    assert looks["encoder"].status == "ok"
    with announced("http://localhost:1", {}, key=False, write=False):
        assert find_running([]) is None


@pytest.mark.parametrize("content", ["[1, 2]", "7", "null", '{"a":', "\x00"])
def test_a_damaged_memory_of_digests_is_written_again(monkeypatch, tmp_path, weights, content):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path))
    memory = tmp_path / "file-digests.json"
    memory.write_text(content)
    assert remembered_sha256(weights) == file_sha256(weights)
    assert file_sha256(weights) in json.loads(memory.read_text()).values()
