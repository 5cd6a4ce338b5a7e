"""Encoders through whose last layers the memory goes alone: how they are made, and that they train."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.pruning import prune_encoder
from safetensors.torch import load_file

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder.checkpoint import read_settings
from llm2comp_apps.errors import UsageError

TEXTS = ["the king and the queen", "atom", "light sound of the river and the market in peace"]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"the king and the queen {index}"}) + "\n" for index in range(200)))
    return path


@pytest.fixture
def split(deep_encoder_dir, data, tmp_path, monkeypatch):
    """Three layers, the first of them for the text."""
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 10)
    out = tmp_path / "split"
    prune_encoder(str(deep_encoder_dir), [str(data["text"])], None, out, fit=30, text_layers=1, device="cpu")
    return out


@pytest.fixture
def train(settings, deep_encoder_dir, data, tmp_path, monkeypatch, make_hash_encoder):
    """``train(init, "name", lr=...)`` -> the folder of an encoder that learned a teacher's vectors."""
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    teacher = make_hash_encoder(16, "a")
    monkeypatch.setattr("llm2comp_train.data.teacher.load_teacher", lambda *_: teacher)
    backbone = read_settings(deep_encoder_dir).backbone

    def run(init, name, stage="align", **changes):
        given = {"train_weights": "all", "backbone": backbone, "lr": 3e-3, "max_steps": 40, "batch_size": 8}
        given |= {"teacher": "a", "fit_texts": 40, "clip_norm": 1.0} if stage == "align" else {}
        options = RunOptions(data=[str(data["text"])], out=tmp_path / name, device="cpu", init=init)
        return run_stage(stage, replace(settings, **(given | changes)), options)

    return run


def test_the_report_says_where_the_text_stops(deep_encoder_dir, data, tmp_path, monkeypatch):
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 10)
    how = {"fit": 30, "device": "cpu"}
    report = prune_encoder(str(deep_encoder_dir), [str(data["text"])], [0, 2], tmp_path / "two", text_layers=1, **how)
    assert (report.layers, report.text_layers) == ([0, 2], 1)
    assert "the text goes through the first 1, the memory tokens through all" in report.lines()
    assert read_settings(tmp_path / "two").text_layers == 1
    assert LLM2Comp.from_pretrained(str(tmp_path / "two"), device="cpu").encode(TEXTS).shape[0] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text_layers": 1}, r"fit must be above 0 for `text_layers`"),
        ({"text_layers": 3, "fit": 30}, r"text_layers must be from 1 to 2, one less than all layers, not 3"),
        ({"text_layers": 2, "fit": 30, "layers": 2}, r"text_layers must be from 1 to 1"),
        ({"text_layers": 0, "fit": 30}, r"text_layers must be from 1 to 2"),
    ],
)
def test_where_it_cannot_stop(deep_encoder_dir, data, tmp_path, monkeypatch, given, message):
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 10)
    layers = given.pop("layers", None)
    with pytest.raises(UsageError, match=message):
        prune_encoder(str(deep_encoder_dir), [str(data["text"])], layers, tmp_path / "new", device="cpu", **given)
    assert not (tmp_path / "new").exists()


def test_it_learns_with_all_its_weights(split, train, tmp_path):
    before = load_file(split / "layers.safetensors")
    directory = train(split, "run", eval_every=20)
    made = read_settings(directory)
    assert (made.text_layers, made.own_layers) == (1, True)
    evaluated = [row for row in read_metrics(tmp_path / "run") if "teacher_cosine" in row]
    assert evaluated[-1]["teacher_cosine"] > evaluated[0]["teacher_cosine"]
    after = load_file(directory / "layers.safetensors")
    assert before.keys() == after.keys()
    assert any(name.endswith("text_key.weight") for name in before)
    for name, weight in before.items():
        assert not torch.equal(weight, after[name]), name


def test_the_memory_tokens_and_what_they_alone_go_through_learn(split, train):
    directory = train(split, "run", train_weights="memory")
    before, after = (load_file(folder / "layers.safetensors") for folder in (split, directory))
    assert before.keys() == after.keys()
    learned = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert learned == {name for name in before if name.startswith(("layers.1.", "layers.2."))}
    tokens = [load_file(folder / "memory_tokens.safetensors")["memory_tokens"] for folder in (split, directory)]
    assert not torch.equal(*tokens)


def test_the_gradient_of_a_map_is_what_a_small_change_says(split):
    """Through keys that are put in front of a layer's own."""
    encoder = LLM2Comp.from_pretrained(str(split), device="cpu", dtype=torch.float32)
    network, ids = encoder.network.double(), torch.tensor([[5, 6, 7, 8, 9]])
    weight = network.encoder.layers[1].text_key.weight.requires_grad_(True)
    direction = torch.randn_like(weight)

    def value() -> torch.Tensor:
        return network.memory(ids).double().square().mul(torch.linspace(-1, 1, weight.shape[1])).sum()

    (gradient,) = torch.autograd.grad(value(), weight)
    with torch.no_grad():
        weight += 1e-3 * direction
        above = value()
        weight -= 2e-3 * direction
        slope = (above - value()) / 2e-3
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-3)
    assert abs(float(slope)) > 1e-6


def test_a_later_run_starts_where_it_is(split, train):
    second = train(split, "still", lr=1e-12, max_steps=1)
    before, after = (
        LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32).encode(TEXTS)
        for directory in (split, second)
    )
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_texts_that_stop_cannot_be_packed_which_is_said_before_teachers_read(split, train, tmp_path):
    with pytest.raises(UsageError, match="attention cannot be packed: the encoder stops texts behind a layer"):
        train(split, "packed", attention="packed")
    assert not list((tmp_path / "packed" / "data").glob("teacher-*"))


def test_a_later_run_may_take_some_of_its_layers(split, train):
    fewer = train(split, "fewer", layers="0,2", max_steps=1, lr=1e-12)
    assert (read_settings(fewer).layers, read_settings(fewer).text_layers) == ([0, 2], 1)
    kept, all_of_them = (load_file(directory / "layers.safetensors") for directory in (fewer, split))
    name = "text_value.weight"
    torch.testing.assert_close(kept[f"layers.1.{name}"], all_of_them[f"layers.2.{name}"])
    alone = train(split, "text", layers="0,", max_steps=1)
    assert read_settings(alone).text_layers is None
    with pytest.raises(UsageError, match=r"layers must hold one of 0, which the text goes through"):
        train(split, "none", layers="1,2", max_steps=1)


def test_it_learns_to_compress_beside_a_whole_decoder(split, train, tmp_path):
    directory = train(split, "kl", stage="kl", max_steps=30, lr=5e-3)
    assert read_settings(directory).text_layers == 1
    losses = [row["loss"] for row in read_metrics(tmp_path / "kl") if "loss" in row]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
