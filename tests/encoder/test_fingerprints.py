"""Digests of encoders: what indexes of earlier versions remember stays what it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm2comp_apps.encoder.decoding import load_reader
from llm2comp_apps.encoder.fingerprints import encoder_fingerprint
from llm2comp_apps.encoder.names import identity_of, load_encoder
from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.errors import EncoderError

MEMORY = (np.arange(6).reshape(2, 3) / 7).astype(np.float32)
SETTINGS = EncoderSettings(backbone="any", backbone_sha256="b" * 64, k=2, prompts={"query": "find: "})


def test_an_encoder_of_all_layers_has_the_fingerprint_of_version_0_1():
    """The digest was computed by the version that knew nothing of layers."""
    assert encoder_fingerprint(SETTINGS, MEMORY, "a" * 64) == "9199274a176aac0403bb12a9cdbba3e9"


def test_what_changes_no_vector_changes_no_fingerprint_and_the_rest_does():
    known = encoder_fingerprint(SETTINGS, MEMORY, "a" * 64)
    for same in ({"name": "other"}, {"space": {"name": "x", "fingerprint": "y"}}, {"training": {"seed": 1}}):
        assert encoder_fingerprint(replace(SETTINGS, **same), MEMORY, "a" * 64) == known
    others = [
        encoder_fingerprint(replace(SETTINGS, layers=[0]), MEMORY, "a" * 64),
        encoder_fingerprint(replace(SETTINGS, layers=[0, 1]), MEMORY, "a" * 64),
        encoder_fingerprint(replace(SETTINGS, pooling="first"), MEMORY, "a" * 64),
        encoder_fingerprint(SETTINGS, MEMORY + 1, "a" * 64),
        encoder_fingerprint(SETTINGS, MEMORY, "c" * 64),
    ]
    assert len({known, *others}) == len(others) + 1


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_an_adapter_that_is_lost_makes_no_other_encoder(make_checkpoint, monkeypatch, tmp_path, backend):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    folder = make_checkpoint()
    (folder / "adapter_model.safetensors").unlink()  # as by a copy that broke off
    with pytest.raises(EncoderError, match=r"adapter_model\.safetensors: No such file or directory; copy or install"):
        load_encoder(str(folder), backend=backend, device="cpu")
    with pytest.raises(EncoderError, match=r"adapter_model\.safetensors: No such file"):
        identity_of(str(folder))
    with pytest.raises(EncoderError, match=r"adapter_model\.safetensors: No such file"):
        load_reader(str(folder), device="cpu")
    (folder / "adapter_config.json").unlink()  # an encoder may have none
    assert load_encoder(str(folder), backend=backend, device="cpu").dimension
