"""``align``: the loss against its formula, the map against scipy, teachers' vectors on disk, and runs end to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from llm2comp_train.data import alignment
from llm2comp_train.data.sources import single_rows
from llm2comp_train.data.teacher_vectors import teacher_vectors
from llm2comp_train.engine.metrics import MetricsLog, read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.losses.align import align_loss, joined, procrustes, reduction
from llm2comp_train.stages import get_stage
from safetensors.torch import load_file
from scipy.linalg import orthogonal_procrustes
from torch.nn.functional import normalize

from llm2comp_apps.corpus import Record
from llm2comp_apps.encoder.checkpoint import read_settings
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.errors import CorpusError, TrainingError, UsageError

TEXTS = ["the king and the queen", "atom", "light sound of the river and the market in peace"]


def unit(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape), dim=-1)


# The loss and the map


def test_a_map_can_be_read_by_whoever_may_read_a_plain_file(tmp_path):
    alignment.write_map(tmp_path / "map.safetensors", torch.eye(3)[:, :2].T)
    (tmp_path / "plain").touch()
    assert load_file(tmp_path / "map.safetensors")["map"].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (tmp_path / "map.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_loss_is_its_formula():
    torch.manual_seed(0)
    vectors, targets = torch.randn(5, 8, requires_grad=True), torch.randn(5, 8)
    found = align_loss(vectors, targets, cosine_weight=3.0)
    cosine = torch.cosine_similarity
    wanted = sum(1 - cosine(vectors[i], targets[i], dim=0) for i in range(5)) / 5
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    differences = [cosine(vectors[i], vectors[j], dim=0) - cosine(targets[i], targets[j], dim=0) for i, j in pairs]
    wanted = wanted + 3 * sum(difference**2 for difference in differences) / len(pairs)
    torch.testing.assert_close(found, wanted)
    (gradient,) = torch.autograd.grad(found, vectors, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, vectors)[0])
    assert float(align_loss(2 * targets, targets, cosine_weight=3.0)) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(align_loss(vectors[:1], targets[:1], cosine_weight=3.0))


def test_the_term_of_contrast_is_the_divergence_from_the_teachers_neighbours():
    torch.manual_seed(0)
    vectors, targets = torch.randn(5, 8, requires_grad=True), torch.randn(5, 8)
    alone = align_loss(vectors, targets, cosine_weight=3.0)
    found = align_loss(vectors, targets, cosine_weight=3.0, contrast_weight=2.0, temperature=0.1) - alone
    wanted = torch.zeros(())
    for i in range(5):
        known = torch.stack([torch.cosine_similarity(targets[i], targets[j], dim=0) for j in range(5)]) / 0.1
        given = torch.stack([torch.cosine_similarity(vectors[i], targets[j], dim=0) for j in range(5)]) / 0.1
        chances = known.exp() / known.exp().sum()
        wanted = wanted + (chances * (chances / (given.exp() / given.exp().sum())).log()).sum() / 5
    torch.testing.assert_close(found, 2 * wanted)
    (gradient,) = torch.autograd.grad(found, vectors, retain_graph=True)
    torch.testing.assert_close(gradient, 2 * torch.autograd.grad(wanted, vectors)[0], atol=1e-5, rtol=1e-4)
    same = align_loss(3 * targets, targets, cosine_weight=3.0, contrast_weight=2.0)
    assert float(same) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(align_loss(vectors[:1], targets[:1], cosine_weight=3.0, contrast_weight=1.0))


def test_the_map_is_scipys_where_the_spaces_are_equally_wide():
    torch.manual_seed(0)
    teacher, student = unit(40, 6), unit(40, 6)
    wanted, _ = orthogonal_procrustes(teacher.numpy().astype(float), student.numpy().astype(float))
    np.testing.assert_allclose(procrustes(teacher, student).numpy(), wanted, atol=1e-5)


def test_the_map_finds_a_turn_into_a_wider_space_and_keeps_cosines():
    torch.manual_seed(0)
    teacher, turn = unit(50, 4), torch.linalg.qr(torch.randn(9, 9)).Q[:4]
    found = procrustes(teacher, teacher @ turn + 0.01 * torch.randn(50, 9))
    torch.testing.assert_close(found, turn, atol=0.02, rtol=0)
    torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-5, rtol=0)


def test_a_wider_teacher_keeps_its_cosines_as_well_as_the_students_width_can():
    torch.manual_seed(0)
    flat = unit(60, 5) @ torch.linalg.qr(torch.randn(12, 12)).Q[:5]  # 12 wide, 5 of it used
    student = unit(60, 6)
    found = alignment.fit_map(flat, student)
    assert found.shape == (12, 6)
    mapped = flat @ found
    torch.testing.assert_close(mapped @ mapped.T, flat @ flat.T, atol=1e-4, rtol=0)
    columns = reduction(flat, 6)
    torch.testing.assert_close(columns.T @ columns, torch.eye(6), atol=1e-5, rtol=0)
    kept = (flat @ reduction(flat, 3)).square().sum()
    assert kept == pytest.approx(float(torch.linalg.svdvals(flat)[:3].square().sum()), rel=1e-4)


def test_several_teachers_are_one_whose_cosines_are_the_weighted_mean():
    torch.manual_seed(0)
    first, second = unit(7, 4), unit(7, 9)
    whole = joined([first, second], [1.0, 3.0])
    torch.testing.assert_close(whole @ whole.T, 0.25 * first @ first.T + 0.75 * second @ second.T)


# The data


def records(*fields: dict) -> list[Record]:
    return [Record(given, "file.jsonl", line) for line, given in enumerate(fields, start=1)]


def test_every_text_of_any_file_is_a_row_once():
    rows = list(
        single_rows(
            records(
                {"text": "a whole paragraph"},
                {"query": "who", "positive": "an answer", "negative": ["no answer", "an answer"]},
                {"query": "who", "positive": "a whole paragraph"},
            ),
            "ask: ",
        )
    )
    assert [(row.prompt, *row.texts, row.line) for row in rows] == [
        ("", "a whole paragraph", 1), ("ask: ", "who", 2), ("", "an answer", 2), ("", "no answer", 2)
    ]  # fmt: skip
    with pytest.raises(CorpusError, match=r"file.jsonl:1: the field 'text' is not there"):
        list(single_rows(records({"txt": "a"}), ""))


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        ("texts", ["whole", "who asks?", "a first answer. And a second answer."]),
        ("sentences", ["The first sentence is here.", "The second one follows.", "who asks?",
                       "a first answer. And a second answer."]),
        ("both", ["whole", "The first sentence is here.", "The second one follows.", "who asks?",
                  "a first answer. And a second answer."]),
    ],
)  # fmt: skip
def test_a_text_may_be_taken_apart_into_its_sentences_but_a_pair_is_not(pieces, wanted):
    text = "The first sentence is here. The second one follows. No."
    given = records({"text": text}, {"query": "who asks?", "positive": "a first answer. And a second answer."})
    found = [row.texts[0] for row in single_rows(given, "", pieces=pieces)]
    assert found == [text if name == "whole" else name for name in wanted]


def test_neighbouring_texts_may_be_joined_to_longer_ones_within_their_title():
    texts = [
        ("a", "one two three"),
        ("a", "four five"),
        ("a", "six"),
        ("b", "seven eight"),
        ("b", "nine"),
        ("c", "ten"),
    ]
    given = records(*({"title": title, "text": text} for title, text in texts), {"query": "who?", "positive": "I am."})
    rows = list(single_rows(given, "", joined=20))
    assert [(row.texts[0], row.line) for row in rows if row.texts[0].count(" ") > 2] == [
        ("one two three four five", 1)  # of a's third text nothing is left to join
    ]
    assert [row.texts[0] for row in rows] == [
        "one two three", "four five", "one two three four five", "six", "seven eight", "nine", "ten",
        "seven eight nine", "who?", "I am.",
    ]  # fmt: skip
    assert [row.texts[0] for row in single_rows(given, "")] == [
        row.texts[0] for row in rows if row.texts[0] not in ("one two three four five", "seven eight nine")
    ]
    last = list(single_rows(records({"text": "left"}, {"text": "over"}), "", joined=99))
    assert [row.texts[0] for row in last] == ["left", "over", "left over"]
    assert not list(single_rows(records({"text": "left"}, {"text": "over"}), "", 10, joined=99))


def test_longer_rows_than_are_read_are_refused(settings):
    settings = replace(settings, teacher="a", max_length=64, joined=384)
    get_stage("align").check(settings)
    with pytest.raises(UsageError, match=r"joined must be at most 384, about what 64 tokens hold, not 385; raise .max"):
        get_stage("align").check(replace(settings, joined=385))


# Runs


@pytest.fixture
def teach(monkeypatch, make_hash_encoder, tmp_path):
    """Encoders by name, wider names for wider ones; none but these is loaded."""
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    made = {name: make_hash_encoder(width, name) for name, width in (("a", 16), ("b", 24), ("wide", 64))}
    monkeypatch.setattr("llm2comp_train.data.teacher.load_teacher", lambda name, _device: made[name])
    return made


@pytest.fixture
def small(settings):
    return replace(
        settings, teacher="a", train_weights="all", max_steps=40, batch_size=8, fit_texts=40, lr=3e-3, layers="1,",
        query_prompt="king ", clip_norm=1.0,
    )  # fmt: skip


def go(settings, data, out, **options):
    given = {"data": [str(data["text"]), str(data["pairs"])], "out": out, "device": "cpu"} | options
    return run_stage("align", settings, RunOptions(**given))


def losses(run):
    return [row["loss"] for row in read_metrics(run) if "loss" in row]


def weights(run):
    step = sorted((run / "checkpoints").glob("step-*"))[-1]
    return torch.load(step / "state.pt", weights_only=True)["parameters"]


@pytest.mark.parametrize("teacher", ["a", "a=1,b=2", "wide", "a=0.5,wide"])
@pytest.mark.parametrize("train_weights", ["all", "adapter"])
def test_the_student_comes_nearer_to_its_teachers(teacher, train_weights, small, data, tmp_path, teach):
    settings = replace(small, teacher=teacher, train_weights=train_weights, eval_every=20, max_steps=60)
    if train_weights == "adapter":
        settings = replace(settings, lr=2e-2)
    directory = go(settings, data, tmp_path / "run")
    evaluated = [row for row in read_metrics(tmp_path / "run") if "teacher_cosine" in row]
    assert evaluated[-1]["teacher_cosine"] > evaluated[0]["teacher_cosine"] > 0
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    made = read_settings(directory)
    assert made.layers == [1]
    assert made.own_layers == (train_weights == "all")
    assert made.space is None
    described = made.training["alignment"]["teachers"]
    names = [name for name, _ in settings.teachers]
    assert [found["fingerprint"] for found in described] == [teach[name].fingerprint for name in names]
    assert [found["weight"] for found in described] == [weight for _, weight in settings.teachers]
    # The file in the checkpoint says where the teachers' vectors lie in the encoder's space.
    turn = load_file(directory / "alignment.safetensors")["map"]
    parts = [torch.from_numpy(teach[name].encode(TEXTS)) for name in names]
    targets = joined(parts, [weight for _, weight in settings.teachers]) @ turn
    vectors = torch.from_numpy(encoder.encode(TEXTS))
    assert torch.cosine_similarity(vectors, targets).mean() > torch.cosine_similarity(vectors, targets.flip(0)).mean()


def test_the_frozen_parts_stay_and_all_others_move(small, data, tmp_path, teach, backbone):
    directory = go(small, data, tmp_path / "run")
    layers = load_file(directory / "layers.safetensors")
    body = backbone.lm.get_decoder()
    before = {f"layers.0.{name}": value for name, value in body.layers[1].state_dict().items()}
    before["norm.weight"] = body.norm.weight
    assert set(layers) == set(before)
    for name, tensor in layers.items():
        assert tensor.dtype == torch.float16
        assert not torch.allclose(tensor.float(), before[name], atol=1e-3), name
    assert not any("embed" in name for name in weights(tmp_path / "run"))


def test_a_number_of_layers_chooses_those_and_a_resumed_run_keeps_them(small, data, tmp_path, teach):
    first = go(replace(small, layers="", max_steps=2), data, tmp_path / "whole")
    said: list[str] = []
    settings = replace(small, layers="1", max_steps=4, save_every=2)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 3:
            raise Killed

    with pytest.raises(Killed):
        go(settings, data, tmp_path / "cut", init=first, say=said.append, show=kill)
    chosen = read_settings(tmp_path / "cut/checkpoints/step-000002").layers
    assert len(chosen) == 1
    assert f"layers: {chosen[0]}" in said
    said.clear()
    directory = go(settings, data, tmp_path / "cut", init=first, say=said.append, resume=True)
    assert read_settings(directory).layers == chosen
    assert not any("layers" in line for line in said)
    fresh = go(replace(settings, layers="1"), data, tmp_path / "fresh")
    assert len(read_settings(fresh).layers) == 1
    with pytest.raises(UsageError) as caught:
        go(replace(small, layers="3"), data, tmp_path / "many", init=first)
    assert caught.value.field == "layers"


def test_only_visited_rows_of_a_teachers_file_are_written_and_what_a_killed_run_left_goes(tmp_path, teach):
    texts = [f"text {number}" for number in range(50)]
    rows, path = np.array([1, 2, 3, 7, 30, 31, 49]), tmp_path / "teacher-0.f16"
    left = tmp_path / f".{path.name}.4711.new"
    left.write_bytes(b"half")

    def read(wanted):
        return [texts[row] for row in wanted], [False] * len(wanted)

    found = teacher_vectors(path, teach["a"], rows, len(texts), read, lambda _: None)
    np.testing.assert_allclose(found[rows], teach["a"].encode([texts[row] for row in rows]), atol=1e-3)
    assert not np.delete(np.asarray(found), rows, axis=0).any()
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [path.name]


def test_teachers_are_asked_once_with_their_own_prompts_and_only_for_what_is_visited(small, data, tmp_path, teach):
    asked = []
    encode = teach["a"].encode

    def note(texts, *, prompt=None):
        asked.extend((prompt, text) for text in texts)
        return encode(texts, prompt=prompt)

    teach["a"].encode = note
    go(replace(small, max_steps=2), data, tmp_path / "one")
    assert {prompt for prompt, _ in asked} == {None, "find: "}
    assert len(asked) == len(set(asked))
    queries = {text for prompt, text in asked if prompt}
    stored = [json.loads(line)["query"] for line in data["pairs"].read_text("utf-8").splitlines()]
    assert queries
    assert queries <= set(stored)  # without the student's prompt
    asked.clear()
    go(replace(small, max_steps=2, lr=1e-4), data, tmp_path / "two")
    assert not asked
    assert losses(tmp_path / "two")[0] == losses(tmp_path / "one")[0]


@pytest.mark.parametrize(("train_weights", "topics"), [("all", 0), ("adapter", 0), ("all", 4)])
def test_a_killed_run_that_is_resumed_ends_bit_for_bit_as_an_undisturbed_one(
    train_weights, topics, small, data, tmp_path, teach
):
    settings = replace(small, max_steps=7, save_every=3, train_weights=train_weights, teacher="a=1,wide=2")
    settings = replace(settings, topics=topics, contrast_weight=0.5 if topics else 0.0)
    go(settings, data, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:  # two steps beyond the last checkpoint
            raise Killed

    with pytest.raises(Killed):
        go(settings, data, tmp_path / "cut", show=kill)
    shutil.rmtree(tmp_path / "cache")  # the run has what it needs
    for teacher in teach.values():
        teacher.encode = None
    go(settings, data, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_gradients_do_not_depend_on_passes(weight, small, data, tmp_path, teach):
    small = replace(small, max_steps=3, maxsim_weight=weight)
    go(small, data, tmp_path / "one")
    go(replace(small, tokens_per_pass=24), data, tmp_path / "many")
    go(replace(small, tokens_per_pass=24, tokens_kept=1), data, tmp_path / "cached")
    for run in ("many", "cached"):
        np.testing.assert_allclose(losses(tmp_path / run), losses(tmp_path / "one"), rtol=1e-4)


def test_a_later_run_goes_on_where_the_earlier_one_ended(small, data, tmp_path, teach):
    first = go(replace(small, layers="", k=3), data, tmp_path / "first")
    still = replace(small, lr=1e-12, max_steps=1, layers="")
    second = go(still, data, tmp_path / "second", init=tmp_path / "first")
    before, after = (
        LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32) for directory in (first, second)
    )
    np.testing.assert_allclose(after.encode(TEXTS), before.encode(TEXTS), atol=1e-4)
    maps = [load_file(directory / "alignment.safetensors")["map"] for directory in (first, second)]
    assert torch.equal(*maps)
    other = go(replace(still, teacher="b"), data, tmp_path / "third", init=first)
    assert load_file(other / "alignment.safetensors")["map"].shape == (24, 32)
    # Cut in steps: a run may keep some of the layers that an earlier one had.
    fewer = go(replace(still, layers="1,"), data, tmp_path / "fewer", init=second)
    kept, all_of_them = (load_file(directory / "layers.safetensors") for directory in (fewer, second))
    assert torch.equal(kept["layers.0.mlp.up_proj.weight"], all_of_them["layers.1.mlp.up_proj.weight"])
    with pytest.raises(TrainingError, match="has no layer 0 any more; `layers` may name some of 1"):
        go(replace(still, layers="0,"), data, tmp_path / "more", init=fewer)
    with pytest.raises(TrainingError, match="continue with `train_weights=all`"):
        go(replace(still, train_weights="adapter"), data, tmp_path / "adapter", init=fewer)


def test_all_weights_start_from_an_adapter_merged(small, settings, data, tmp_path, teach):
    kl = replace(settings, max_steps=20, lr=1e-2)
    first = run_stage("kl", kl, RunOptions(data=[str(data["text"])], out=tmp_path / "kl", device="cpu"))
    second = go(replace(small, lr=1e-12, max_steps=1, layers=""), data, tmp_path / "all", init=tmp_path / "kl")
    before, after = (
        LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32).encode(TEXTS)
        for directory in (first, second)
    )
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_compression_stages_train_a_shallow_encoder_beside_a_whole_decoder(settings, data, tmp_path):
    for train_weights in ("adapter", "all"):
        changed = replace(settings, layers="1,", train_weights=train_weights, max_steps=30, lr=5e-3, eval_every=30)
        out = tmp_path / train_weights
        directory = run_stage("kl", changed, RunOptions(data=[str(data["text"])], out=out, device="cpu"))
        found = losses(out)
        assert np.mean(found[-8:]) < np.mean(found[:8])
        assert read_settings(directory).layers == [1]
        assert LLM2Comp.from_pretrained(str(directory), device="cpu").encode(TEXTS).shape == (3, 32)


def test_a_teacher_of_ours_and_as_wide_lends_its_space(small, settings, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    deep = run_stage(
        "scl",
        replace(settings, max_steps=5),
        RunOptions(data=[str(data["pairs"])], out=tmp_path / "deep", device="cpu"),
    )
    teacher = LLM2Comp.from_pretrained(str(deep), device="cpu")
    directory = go(replace(small, teacher=str(deep), layers="0,"), data, tmp_path / "run", init=deep)
    assert read_settings(directory).space == {"name": teacher.name, "fingerprint": teacher.fingerprint}
    assert not (directory / "alignment.safetensors").exists()
    student = LLM2Comp.from_pretrained(str(directory), device="cpu")
    assert student.space == read_settings(directory).space
    assert (student.encode(TEXTS) * teacher.encode(TEXTS)).sum(1).mean() > 0.5
    later = run_stage(
        "scl",
        replace(settings, max_steps=1, train_weights="all"),
        RunOptions(data=[str(data["pairs"])], out=tmp_path / "later", device="cpu", init=directory),
    )
    assert read_settings(later).space is None  # contrast moved it away


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"teacher": ""}, "teacher", "is missing: stage align needs an encoder to learn from"),
        ({"teacher": "a=0"}, "teacher", "must have weights above 0, not 0 for a"),
        ({"layers": "7,"}, "layers", "must be ascending numbers from 0 to 1, not 7"),
    ],
)
def test_wrong_settings_are_refused_and_leave_nothing(changes, field, message, small, data, tmp_path, teach):
    with pytest.raises(UsageError) as caught:
        go(replace(small, **changes), data, tmp_path / "run")
    assert caught.value.field == field
    assert message in caught.value.reason
    assert not (tmp_path / "run").exists()


def test_settings_out_of_range_name_their_field():
    from llm2comp_train.settings import Settings

    wrong: dict[str, object] = {"layers": "1,two", "train_weights": "some", "batch_tokens": -1}
    wrong |= dict.fromkeys(("cosine_weight", "contrast_weight", "maxsim_weight"), -1.0)
    for name, value in wrong.items():
        with pytest.raises(UsageError) as caught:
            Settings(**{name: value})
        assert caught.value.field == name


# Steps that are skipped


def test_single_steps_without_finite_gradients_are_skipped_and_counted(small, data, tmp_path, teach, monkeypatch):
    from llm2comp_train.engine import contrast

    learn = contrast.ContrastiveWork.learn
    bad: set[int] = set()
    steps = iter(range(10_000))

    def spoiled(self, *arguments, **late):
        outcome = learn(self, *arguments, **late)
        if next(steps) in bad:
            self._network.memory_tokens.grad.fill_(torch.inf)
        return outcome

    monkeypatch.setattr(contrast.ContrastiveWork, "learn", spoiled)
    bad |= {2, 3}
    settings = replace(small, max_steps=6, save_every=2)
    go(settings, data, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in rows if row.get("skipped")] == [3, 4]
    assert rows[2]["loss"] is None
    assert (tmp_path / "run/encoder/encoder.json").is_file()
    assert MetricsLog(tmp_path / "run", settings, 4).skipped == 2
    steps = iter(range(10_000))
    bad |= {4}
    with pytest.raises(TrainingError, match=r"step 5: .*, the 3rd step like this in a row. Its batch: .*\.jsonl:\d+"):
        go(settings, data, tmp_path / "lost")


def test_a_student_shares_the_space_of_one_encoder_with_memory_that_is_as_wide(make_hash_encoder):
    """Whatever runs it: on a CPU that is a graph, not a network."""
    assert alignment.shares_space([make_hash_encoder(32)], 32)
    assert not alignment.shares_space([make_hash_encoder(48)], 32)
    assert not alignment.shares_space([make_hash_encoder(32), make_hash_encoder(32)], 32)
    foreign = SimpleNamespace(
        name="other", fingerprint="x", dimension=32, prompts={}, encode=print, encode_stream=print
    )
    assert not alignment.shares_space([foreign], 32)
