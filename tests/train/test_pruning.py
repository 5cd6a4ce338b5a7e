"""Pruning a trained encoder: the texts that decide, what is written, what the report says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.pruning import PruneReport, parse_layers, prune_encoder, sample_texts

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder.checkpoint import ADAPTER_CONFIG, read_settings
from llm2comp_apps.errors import EncoderError, TrainingError, UsageError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"query": f"question {index}", "positive": f"answer {index % 5}"} for index in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": f"a text {index}"}) + "\n" for index in range(40)))
    return folder


def test_texts_are_drawn_evenly_without_repetition_and_by_seed(data):
    texts = sample_texts([str(data)], 20)
    assert len(set(texts)) == 20
    assert sum(text.startswith("a text") for text in texts) == 10
    assert sample_texts([str(data)], 20) == texts
    assert sample_texts([str(data)], 20, seed=1) != texts
    assert len(sample_texts([str(data)], 1000)) == 40 + 5 + 40
    (data / "other.jsonl").write_text(json.dumps({"name": "no text"}) + "\n")
    with pytest.raises(UsageError, match="data holds no texts"):
        sample_texts([str(data / "other.jsonl")], 3)
    with pytest.raises(TrainingError, match="no such file"):
        sample_texts([str(data / "nothing")], 3)


@pytest.mark.parametrize("method", ["greedy", "influence"])
def test_a_number_of_layers_is_chosen_and_reported(deep_encoder_dir, data, tmp_path, method):
    seen = []
    out = tmp_path / "pruned"
    report = prune_encoder(
        str(deep_encoder_dir),
        [str(data)],
        2,
        out,
        method=method,
        device="cpu",
        on_progress=lambda *step: seen.append(step),
    )
    encoder = LLM2Comp.from_pretrained(str(out), device="cpu", dtype=torch.float32)
    assert report.layers == encoder.layers
    assert len(encoder.layers) == 2
    assert report.layers_before == 3
    assert -1 <= report.lowest <= report.cosine < 1
    assert report.speed > 0
    full = LLM2Comp.from_pretrained(str(deep_encoder_dir), device="cpu", dtype=torch.float32)
    assert report.bytes_now == 4 * sum(weight.numel() for weight in encoder.network.layer_weights().values())
    assert report.bytes_now < report.bytes_before
    assert encoder.fingerprint != full.fingerprint
    assert seen == ([(1, 1)] if method == "greedy" else [])


def test_layers_can_be_named(deep_encoder_dir, data, tmp_path):
    report = prune_encoder(str(deep_encoder_dir), [str(data)], [0, 2], tmp_path / "pruned", device="cpu")
    assert report.layers == LLM2Comp.from_pretrained(str(tmp_path / "pruned"), device="cpu").layers == [0, 2]


def test_memory_tokens_can_be_cut_with_layers_or_without(deep_encoder_dir, data, tmp_path):
    whole = LLM2Comp.from_pretrained(str(deep_encoder_dir), device="cpu", dtype=torch.float32)
    report = prune_encoder(str(deep_encoder_dir), [str(data)], None, tmp_path / "fewer", k=2, device="cpu")
    fewer = LLM2Comp.from_pretrained(str(tmp_path / "fewer"), device="cpu", dtype=torch.float32)
    assert (report.k, report.k_before) == (fewer.k, whole.k) == (2, whole.k)
    assert fewer.layers == whole.layers
    assert f"the first 2 of {whole.k} memory tokens" in report.lines()
    assert fewer.encode_memory(["text"]).shape == (1, 2, whole.dimension)
    torch.testing.assert_close(fewer.network.memory_tokens, whole.network.memory_tokens[:2])
    both = prune_encoder(str(deep_encoder_dir), [str(data)], [0, 2], tmp_path / "both", k=1, device="cpu")
    assert (both.layers, both.k) == ([0, 2], 1)
    assert LLM2Comp.from_pretrained(str(tmp_path / "both"), device="cpu").encode(["text"]).shape == (1, whole.dimension)


def test_kept_layers_are_fitted_with_texts_that_judge_nothing(deep_encoder_dir, data, tmp_path, monkeypatch):
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 20)
    seen = []
    how = {"device": "cpu", "on_progress": lambda *step: seen.append(step)}
    report = prune_encoder(str(deep_encoder_dir), [str(data)], 2, tmp_path / "fitted", fit=60, **how)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert report.cosine > report.cosine_cut + 0.05
    assert f"({report.cosine_cut:.3f} before its layers were fitted)" in report.lines()[1]
    fitted = LLM2Comp.from_pretrained(str(tmp_path / "fitted"), device="cpu", dtype=torch.float32)
    assert fitted.settings.own_layers
    assert fitted.layers == report.layers
    cut = prune_encoder(str(deep_encoder_dir), [str(data)], report.layers, tmp_path / "cut", device="cpu")
    assert cut.cosine_cut is None
    assert LLM2Comp.from_pretrained(str(tmp_path / "cut"), device="cpu").fingerprint != fitted.fingerprint
    with pytest.raises(UsageError, match="fit must be at most 65, not 66: the data hold 85 texts, and 20 of them"):
        prune_encoder(str(deep_encoder_dir), [str(data)], 2, tmp_path / "more", fit=66, device="cpu")
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 84)
    with pytest.raises(UsageError, match=r"fit needs data of 89 texts or more, 84 of which judge; these hold 85"):
        prune_encoder(str(deep_encoder_dir), [str(data)], 2, tmp_path / "more", fit=5, device="cpu")


@pytest.mark.parametrize("adapter", ["continue", "fresh"])
def test_a_cut_adapter_is_trained_on_in_the_layers_that_are_left(adapter, deep_encoder_dir, settings, data, tmp_path):
    backbone, texts = read_settings(deep_encoder_dir).backbone, str(data / "texts.jsonl")
    settings = replace(settings, backbone=backbone, max_steps=2, lr=1e-2)
    run_stage("kl", settings, RunOptions(data=[texts], out=tmp_path / "kl", device="cpu"))
    prune_encoder(str(tmp_path / "kl" / "encoder"), [texts], [0, 2], tmp_path / "cut", device="cpu")
    options = RunOptions(data=[str(data / "pairs.jsonl")], out=tmp_path / "scl", init=tmp_path / "cut", device="cpu")
    made = run_stage("scl", replace(settings, adapter=adapter), options)
    assert json.loads((made / ADAPTER_CONFIG).read_text())["layers_to_transform"] == [0, 2]
    before, after = (LLM2Comp.from_pretrained(str(path), device="cpu") for path in (tmp_path / "cut", made))
    assert after.layers == before.layers == [0, 2]
    nearness = (before.encode(["the king"]) * after.encode(["the king"])).sum()
    assert 0.5 < nearness < 0.9999


def test_what_cannot_be_done_is_refused_before_layers_are_chosen(deep_encoder_dir, data, tmp_path, monkeypatch):
    def chosen(*_, **__):
        raise AssertionError("minutes of work for nothing")

    def unfit(*_):
        raise EncoderError("cannot be fitted")

    monkeypatch.setattr("llm2comp_train.pruning.choose_layers", chosen)
    with pytest.raises(UsageError, match="k must be from 1 to"):
        prune_encoder(str(deep_encoder_dir), [str(data)], 2, tmp_path / "new", k=9, device="cpu")
    monkeypatch.setattr("llm2comp_train.pruning.TEXTS", 20)
    monkeypatch.setattr("llm2comp_train.pruning.check_fitting", unfit)
    with pytest.raises(EncoderError, match="cannot be fitted"):
        prune_encoder(str(deep_encoder_dir), [str(data)], 2, tmp_path / "new", fit=20, device="cpu")


def test_what_cannot_be_done_is_refused_and_nothing_is_written(deep_encoder_dir, data, tmp_path):
    def refused(match: str, layers=2, out=tmp_path / "new", **given) -> None:
        with pytest.raises(UsageError, match=match):
            prune_encoder(str(deep_encoder_dir), [str(data)], layers, out, device="cpu", **given)

    refused("method must be one of", method="luck")
    refused("out .* holds something", out=data)
    refused("layers must be from 1 to 3", layers=4)
    refused("layers must be ascending", layers=[0, 3])
    refused("layers is missing: the layers to keep, or `k`", layers=None)
    for k in (0, 9):
        refused("k must be from 1 to", layers=None, k=k)
    assert not (tmp_path / "new").exists()


def test_a_report_in_three_lines():
    report = PruneReport([0, 3], 4, 8, 8, 0.91234, 0.5, 1.96, 8_400_000, 4_200_000)
    assert report.lines() == [
        "2 of 4 layers: 0,3",
        "cosine to the encoder it was cut from: 0.912 on average, 0.500 at least",
        "2.0 times as fast; layers of 4.2 MB instead of 8.4 MB in float32",
    ]
    fewer = PruneReport([0], 1, 2, 8, 0.91234, 0.5, 1.25, 8_400_000, 8_400_000)
    assert fewer.lines()[1::2] == ["the first 2 of 8 memory tokens", "1.2 times as fast"]


def test_a_number_of_layers_or_a_list_of_them():
    assert [parse_layers(text) for text in ("12", "0,1, 11", "11,")] == [12, [0, 1, 11], [11]]
    for text in ("", "first", "1,b"):
        with pytest.raises(UsageError, match="layers must be a number or a list"):
            parse_layers(text)
