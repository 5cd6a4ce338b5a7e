"""MTEB takes an encoder by its name, and an exported folder as it is."""

from __future__ import annotations

import pytest

pytest.importorskip("mteb", reason="needs the extra eval")

import mteb

from llm2comp_apps.integrations import mteb as ours


def test_a_model_of_any_name(hash_encoder, monkeypatch):
    monkeypatch.setattr(ours, "load_encoder", lambda name, device=None: hash_encoder)
    meta = ours.model_meta("default", license="apache-2.0", training_datasets=set())
    assert meta.name == "llm2comp/hash"
    assert (meta.embed_dim, meta.revision) == (32, hash_encoder.fingerprint)
    assert meta.license == "apache-2.0"
    model = meta.load_model()
    metadata = mteb.get_task("STSBenchmark").metadata
    vectors = model.encode([{"text": ["cells divide", "a star"]}], task_metadata=metadata)
    assert vectors.shape == (2, 32)
    assert ours.model_meta("default", name="me/mine").name == "me/mine"
