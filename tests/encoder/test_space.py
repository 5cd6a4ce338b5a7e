"""Whose queries may search whose index."""

from __future__ import annotations

from types import SimpleNamespace

from llm2comp_apps import LLM2Comp, load_encoder
from llm2comp_apps.encoder.checkpoint import read_settings
from llm2comp_apps.encoder.space import same_space


def test_an_encoder_searches_its_own_index_and_that_of_the_one_it_was_aligned_to(make_checkpoint):
    large = LLM2Comp.from_pretrained(str(make_checkpoint("llama", k=4)), device="cpu")
    space = {"name": large.name, "fingerprint": large.fingerprint}
    directory = make_checkpoint("llama", k=2, space=space)
    small = LLM2Comp.from_pretrained(str(directory), device="cpu")
    assert read_settings(directory).space == small.space == space
    records = [{"name": one.name, "fingerprint": one.fingerprint} for one in (large, small)]
    assert [same_space(small, record) for record in records] == [True, True]
    assert [same_space(large, record) for record in records] == [True, False]


def test_the_light_runtime_says_it_too(make_checkpoint):
    space = {"name": "the large one", "fingerprint": "a"}
    light = load_encoder(str(make_checkpoint("llama", space=space)), backend="onnx")
    assert same_space(light, {"fingerprint": "a"})
    assert not same_space(light, {"fingerprint": "b"})


def test_the_card_names_the_space_and_the_layers(make_checkpoint, tmp_path):
    space = {"name": "the large one", "fingerprint": "a"}
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama", space=space, layers=[1])), device="cpu")
    encoder.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved/README.md").read_text("utf-8")
    assert "| searches indexes of | the large one |" in card
    assert "| layers of the backbone | 1 |" in card
    assert "a LoRA adapter" in card


def test_nothing_known_is_nothing_alike():
    assert not same_space(SimpleNamespace(fingerprint="a"), {})
    assert not same_space(SimpleNamespace(fingerprint="a", space=None), {"fingerprint": "b"})
    assert same_space(SimpleNamespace(fingerprint="a"), {"fingerprint": "a"})
