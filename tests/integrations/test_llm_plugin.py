"""The plugin of the ``llm`` command: found by its entry point, and what it embeds."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip("llm", reason="needs the extra llm")

from llm2comp_apps.integrations import llm_plugin


@pytest.fixture
def loaded(hash_encoder, monkeypatch):
    names = []
    monkeypatch.setattr(llm_plugin, "load_encoder", lambda name: names.append(name) or hash_encoder)
    return names


def test_it_embeds_texts_in_batches(loaded, hash_encoder):
    model = llm_plugin.LLM2CompEmbeddingModel()
    assert model.embed("cells") == hash_encoder.encode(["cells"])[0].tolist()
    texts = [f"text {number}" for number in range(600)]
    assert list(model.embed_multi(texts)) == hash_encoder.encode(texts).tolist()
    assert loaded == ["default"]


def test_the_environment_names_another_encoder(loaded, monkeypatch):
    monkeypatch.setenv("LLM2COMP_ENCODER", "runs/scl/encoder")
    llm_plugin.LLM2CompEmbeddingModel().embed("cells")
    assert loaded == ["runs/scl/encoder"]


def test_llm_finds_it(monkeypatch, tmp_path):
    """By the entry point that pyproject.toml declares, and by what the plugin registers."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert 'llm2comp = "llm2comp_apps.integrations.llm_plugin"' in project.partition("[project.entry-points.llm]")[2]
    entry = metadata.EntryPoint("llm2comp", "llm2comp_apps.integrations.llm_plugin", "llm")
    found = []
    entry.load().register_embedding_models(lambda model, aliases=(): found.append(model.model_id))
    assert found == ["llm2comp"]
