"""Pushing to a hub on this machine that speaks the real one's HTTP, and loading what was pushed by its name."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp, load_encoder
from llm2comp_apps.encoder.backends.packing import pack_encoder
from llm2comp_apps.encoder.publishing import alone, comparison, export
from llm2comp_apps.encoder.publishing.push import check_repository, push_model
from llm2comp_apps.errors import EncoderError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
FakeHub = importlib.import_module("fake_hub").FakeHub


@pytest.fixture(autouse=True)
def _in_process(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def compare(folder, kind, texts, expected):
        return comparison.compared(texts, alone.vectors_of(str(folder), kind, texts), expected)

    monkeypatch.setattr(export, "compare", compare)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    found = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    template = found.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    yield found
    found.close()


@pytest.fixture
def encoder(make_checkpoint):
    return make_checkpoint("llama", max_length=40, prompts={"query": "query: "})


def backbone_of(encoder: Path) -> str:
    """Where the backbone of a checkpoint lies on this machine, which a repository does not say."""
    return str(json.loads((encoder / "encoder.json").read_text())["backbone"])


def report_of(path: Path, fingerprint: str) -> Path:
    cell = {
        "fingerprint": fingerprint, "task": "stsbenchmark", "category": "STS", "main_metric": "cosine_spearman",
        "scores": {"cosine_spearman": 0.82549},
    }  # fmt: skip
    path.write_text(json.dumps({"results": {"a row": {"stsbenchmark": cell}}}))
    return path


def test_both_forms_load_by_the_name_of_the_repository(hub, encoder, tmp_path, texts):
    from sentence_transformers import SentenceTransformer

    original = LLM2Comp.from_pretrained(str(encoder), device="cpu", dtype=torch.float32)
    (encoder / "training.log").write_text("not for everybody")
    (encoder / "README.md").write_text("# A card\n![A curve](curve.png)\n")
    (encoder / "curve.png").write_bytes(b"a picture")
    scores = report_of(tmp_path / "report.json", original.fingerprint)
    pushed = push_model(str(encoder), "me/tiny", private=True, scores=scores)
    assert pushed.url == f"{hub.url}/me/tiny"
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"
    files = hub.repositories["me/tiny"]
    assert {path: len(content) for path, content in files.items()} == pushed.files
    assert "llm2comp/encoder.json" in files
    assert "modules.json" in files
    assert "llm2comp/training.log" not in files
    assert [path for path in files if path.endswith(".png")] == ["llm2comp/curve.png"], "beside the card that shows it"

    card = files["README.md"].decode()
    assert set(hub.cards) == {card}, "the hub has seen its front matter"
    front = {
        line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in card.split("---")[1].split("\n")[1:-1]
    }
    assert front["library_name"] == "sentence-transformers"
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "cosine_spearman", "value": 82.55}]
    assert "base_model" not in front, "a directory of this machine is nobody's base model"
    assert str(tmp_path) not in card
    assert ("(llm2comp/README.md)" in card) == ("llm2comp/README.md" in files)
    assert "ENCODER.md" not in files, "the encoder's own card lies beside the checkpoint"
    assert "| stsbenchmark | STS | cosine_spearman | 82.55 |" in card

    found = load_encoder("me/tiny", backbone=backbone_of(encoder), backend="torch", device="cpu", dtype=torch.float32)
    assert found.fingerprint == original.fingerprint
    native = SentenceTransformer("me/tiny", device="cpu")
    np.testing.assert_allclose(native.encode(texts), original.encode(texts), atol=1e-5)


def holding(folder: Path, place: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and place.encode() in path.read_bytes()]


@pytest.mark.parametrize("packed", [False, True])
def test_no_path_of_this_machine_leaves_it(make_checkpoint, tmp_path, packed):
    made = ["/srv/somebody/runs/kl=2", "baseline:wmp@/srv/somebody/lm", "st:~/models/one", "org/name"]
    kept = ["kl=2", "baseline:wmp@lm", "st:one", "org/name"]
    training = {"init": "/srv/somebody/runs/kl", "teacher": ",".join(made), "alignment": {"teachers": made}}
    encoder = make_checkpoint("llama", max_length=40, training=training)
    backbone = Path(backbone_of(encoder))
    config = json.loads((encoder / "adapter_config.json").read_text())
    (encoder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(backbone)}))
    if packed:
        source = LLM2Comp.from_pretrained(str(encoder), device="cpu", dtype=torch.float32)
        encoder = tmp_path / "packed"
        pack_encoder(source, encoder)
        assert holding(encoder, "somebody") == []
    assert holding(encoder, str(backbone)), "a checkpoint on this machine says where its backbone is"
    pushed = push_model(str(encoder), "me/tiny", folder=tmp_path / "sent", dry_run=True)
    export.export_model(str(encoder), tmp_path / "native")
    export.export_model(str(encoder), tmp_path / "graph", format="onnx")
    for folder in ("sent", "native", "graph"):
        assert holding(tmp_path / folder, str(backbone)) == holding(tmp_path / folder, "somebody") == []
    sent = json.loads((tmp_path / "sent/llm2comp/encoder.json").read_text())
    assert sent["backbone"] == backbone.name
    assert sent["training"] == {"init": "kl", "teacher": ",".join(kept), "alignment": {"teachers": kept}}
    assert pushed.unknown_backbone == (None if packed else backbone.name)
    named = push_model(str(encoder), "me/tiny", folder=tmp_path / "sent", backbone="org/llama", dry_run=True)
    assert named.unknown_backbone is None
    for name in ("encoder.json", "README.md", *([] if packed else ["adapter_config.json"])):
        assert "org/llama" in (tmp_path / "sent/llm2comp" / name).read_text()


def test_a_second_push_and_a_pull_request(hub, encoder):
    push_model(str(encoder), "me/tiny")
    first = dict(hub.repositories["me/tiny"])
    pushed = push_model(str(encoder), "me/tiny", pr=True)
    assert pushed.url == f"{hub.url}/me/tiny/discussions/1"
    assert hub.repositories["me/tiny"] == first
    assert set(hub.pull_requests["me/tiny"]) == set(first)


def test_what_replaces_another_kind_of_checkpoint_is_not_mixed_with_it(hub, encoder, tmp_path, texts):
    source = LLM2Comp.from_pretrained(str(encoder), device="cpu", dtype=torch.float32)
    pack_encoder(source, tmp_path / "packed")
    push_model(str(tmp_path / "packed"), "me/tiny")
    hub.repositories["me/tiny"]["notes.txt"] = b"somebody's own"
    push_model(str(encoder), "me/tiny")
    files = set(hub.repositories["me/tiny"])
    assert not {path for path in files if path.startswith("llm2comp/graph/")}
    assert {"llm2comp/adapter_model.safetensors", "notes.txt"} < files
    found = load_encoder("me/tiny", backbone=backbone_of(encoder), backend="torch", device="cpu", dtype=torch.float32)
    np.testing.assert_allclose(found.encode(texts), source.encode(texts), atol=1e-5)


def test_a_pooling_in_the_name_is_that_of_both_forms(hub, make_checkpoint, texts):
    from sentence_transformers import SentenceTransformer

    encoder = make_checkpoint("llama", max_length=40, pooling="first")
    push_model(f"{encoder}@mean", "me/tiny")
    found = load_encoder("me/tiny", backbone=backbone_of(encoder), backend="torch", device="cpu", dtype=torch.float32)
    assert found.pooling == "mean"
    assert found.fingerprint == LLM2Comp.from_pretrained(str(encoder), device="cpu", pooling="mean").fingerprint
    native = SentenceTransformer("me/tiny", device="cpu")
    np.testing.assert_allclose(native.encode(texts), found.encode(texts), atol=1e-5)


def test_packed_checkpoints_keep_their_graph(hub, encoder, tmp_path, texts):
    source = LLM2Comp.from_pretrained(str(encoder), device="cpu", dtype=torch.float32)
    pack_encoder(source, tmp_path / "packed")
    push_model(str(tmp_path / "packed"), "me/packed")
    assert "llm2comp/graph/graph.onnx" in hub.repositories["me/packed"]
    light = load_encoder("me/packed", backend="onnx")
    assert (light.encode(texts) * source.encode(texts)).sum(1).min() > 0.99


def test_a_dry_run_needs_no_network(encoder, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    pushed = push_model(str(encoder), "me/tiny", dry_run=True)
    assert pushed.url is None
    lying = {path.relative_to("tiny").as_posix() for path in Path("tiny").rglob("*") if path.is_file()}
    assert lying == set(pushed.files)
    assert load_encoder("tiny", backbone=backbone_of(encoder), backend="torch", device="cpu").name == "tiny"
    push_model(str(encoder), "me/tiny", dry_run=True)


def test_no_token(encoder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(EncoderError, match=r"^no token for the Hugging Face hub; run hf auth login, or set HF_TOKEN$"):
        push_model(str(encoder), "me/tiny")


def test_a_token_that_the_hub_does_not_take(hub, encoder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(EncoderError, match=r"^Hugging Face hub: .+") as caught:
        push_model(str(encoder), "me/tiny")
    assert "\n" not in str(caught.value)
    assert not hub.repositories


def test_no_network(encoder, hub):
    hub.close()
    with pytest.raises(EncoderError, match=r"^Hugging Face hub: .*refused"):
        push_model(str(encoder), "me/tiny")


@pytest.mark.parametrize("place", ["/api/repos/create", "/commit/"])
def test_what_the_hub_refuses_is_one_line(hub, encoder, place):
    hub.fail[place] = (403, "You are not allowed to do this")
    with pytest.raises(EncoderError, match=r"^Hugging Face hub: .+") as caught:
        push_model(str(encoder), "you/tiny")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("repo", ["tiny", "me/tiny/more", "me/", "../tiny", "me/a b", "me/a--b", "me/.git", "me/a..b"])
def test_names_that_cannot_be(repo):
    with pytest.raises(UsageError, match="repo must be USER/NAME"):
        check_repository(repo)


def test_scores_of_another_encoder_are_refused(encoder, tmp_path):
    scores = report_of(tmp_path / "report.json", "0" * 64)
    with pytest.raises(UsageError, match="scores has no row for this encoder"):
        push_model(str(encoder), "me/tiny", scores=scores, folder=tmp_path / "made", dry_run=True)
    assert not (tmp_path / "made").exists(), "before the export, which takes minutes"
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(UsageError, match=r"scores must be the report\.json of an evaluation"):
        push_model(str(encoder), "me/tiny", scores=scores, dry_run=True)
