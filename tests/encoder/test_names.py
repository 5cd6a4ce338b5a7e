"""One door for encoder names: what each loads, what a malformed one costs, what an index keeps of it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest

from llm2comp_apps.encoder import BASELINES, encoder_record, load_encoder, locate, parse_name, source_of
from llm2comp_apps.encoder.names import EncoderName, backbone_of, known_names
from llm2comp_apps.errors import EncoderError, UsageError


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("default", {"kind": "checkpoint", "target": "default"}),
        ("default@merge", {"kind": "checkpoint", "target": "default", "pooling": "merge"}),
        ("someone/model@first", {"kind": "checkpoint", "target": "someone/model", "pooling": "first"}),
        ("runs/kl@2", {"kind": "checkpoint", "target": "runs/kl@2"}),
        ("@mean", {"kind": "checkpoint", "target": "@mean"}),
        ("baseline:lt", {"kind": "baseline", "target": "lt"}),
        ("baseline:lt@some/llm", {"kind": "baseline", "target": "lt", "backbone": "some/llm"}),
        ("baseline:ee@mean", {"kind": "baseline", "target": "ee", "backbone": "mean"}),
        ("st:some/model", {"kind": "st", "target": "some/model"}),
        ("pypi:gt-mini", {"kind": "pypi", "target": "gt-mini"}),
        ("C:models", {"kind": "checkpoint", "target": "C:models"}),
    ],
)
def test_a_name_is_taken_apart_and_put_together(name, parts):
    parsed = parse_name(name)
    assert parsed == EncoderName(**parts)
    assert str(parsed) == name


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("baseline:nope", "baseline 'nope' is unknown; choose one of lt, wmp, ee, prompteol, metaeol"),
        ("baseline:lt@", "after the @ comes a backbone"),
        ("st:", "after the colon comes a model"),
        ("pypi:", "after the colon comes a package"),
    ],
)
def test_a_malformed_name_is_refused_before_anything_is_loaded(name, line):
    with pytest.raises(UsageError, match=line):
        parse_name(name)
    with pytest.raises(UsageError, match=line):
        load_encoder(name)


def test_a_directory_whose_name_looks_like_a_pooling_is_a_directory(tmp_path):
    (tmp_path / "run@mean").mkdir()
    assert parse_name(str(tmp_path / "run@mean")).pooling is None
    assert parse_name(str(tmp_path / "other@mean")).pooling == "mean"


def test_ours_with_another_pooling(tiny_encoder_dir):
    plain, merge = load_encoder(str(tiny_encoder_dir)), load_encoder(f"{tiny_encoder_dir}@merge")
    assert (plain.pooling, merge.pooling) == ("mean", "merge")
    assert plain.fingerprint != merge.fingerprint


def test_a_device_that_is_none_is_refused(tiny_encoder_dir):
    with pytest.raises(UsageError, match="device must be cpu, cuda, cuda:1 or mps, not 'foo'"):
        load_encoder(str(tiny_encoder_dir), device="foo")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(tiny_encoder_dir, tmp_path, enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        load_encoder(str(tiny_encoder_dir))
        assert gc.isenabled() is enabled
        with pytest.raises(EncoderError):
            load_encoder(str(tmp_path))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_a_record_loads_the_encoder_from_any_folder(tiny_encoder_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_encoder_dir.parent)
    name = f"{tiny_encoder_dir.name}@merge"
    encoder = load_encoder(name)
    record = encoder_record(encoder, name)
    assert record == {
        "name": "tiny",
        "fingerprint": encoder.fingerprint,
        "source": f"{tiny_encoder_dir.resolve()}@merge",
    }
    monkeypatch.chdir(tmp_path)
    assert load_encoder(record["source"]).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("prefix", ["baseline:lt@", "st:"])
def test_directories_behind_a_prefix_are_recorded_as_absolute_paths(hash_encoder, tmp_path, monkeypatch, prefix):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert encoder_record(hash_encoder, f"{prefix}model")["source"] == f"{prefix}{tmp_path.resolve() / 'model'}"


@pytest.mark.parametrize("name", ["default", "pypi:default", "someone/model", "baseline:ee", "st:someone/model@mean"])
def test_names_that_mean_the_same_everywhere_are_recorded_as_they_are(hash_encoder, tmp_path, monkeypatch, name):
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert encoder_record(hash_encoder, name)["source"] == name


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two checkpoints that ship: ``default`` stands for ``new``, and was once ``old``."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        settings = {"backbone": "x", "backbone_sha256": "", "k": 4, "name": f"llm2comp-{name}", "format": 1}
        (tmp_path / name / "encoder.json").write_text(json.dumps(settings))
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    monkeypatch.setitem(locate.SHIPPED, "default", "new")
    monkeypatch.setitem(locate.SHIPPED, "quality", "old")
    return tmp_path


@pytest.mark.parametrize(
    ("record", "source"),
    [
        ({"name": "llm2comp-old", "source": "default"}, "old"),
        ({"name": "llm2comp-new", "source": "default"}, "new"),
        ({"name": "llm2comp-old", "source": "quality"}, "old"),
        ({"name": "llm2comp-old", "source": "default@merge"}, "old@merge"),
        ({"name": "gone", "source": "default@merge"}, "default@merge"),
        ({"name": "llm2comp-old", "source": "runs/kl@merge"}, "runs/kl@merge"),
        ({"name": "gone", "source": "default"}, "default"),
        ({"name": "llm2comp-old", "source": "runs/kl"}, "runs/kl"),
        ({"name": "llm2comp-old"}, None),
    ],
)
def test_what_default_meant_is_known_by_the_name_of_the_encoder(shipped, record, source):
    assert source_of(record) == source


def test_short_names_and_folders_names_find_what_is_shipped(shipped, monkeypatch):
    assert [locate.locate_checkpoint(name).name for name in ("default", "quality", "old")] == ["new", "old", "old"]
    assert known_names(shipped / "new")[:4] == ["default", "quality", "new", "old"]
    assert locate.is_local("quality")
    assert not locate.is_local("someone/model")
    monkeypatch.chdir(shipped)
    for name in ("", "..", "new/.."):
        with pytest.raises(EncoderError, match=r"not a directory|has no encoder.json"):
            locate.locate_checkpoint(name)


def test_what_stood_in_for_the_default_is_recorded_by_its_own_name(hash_encoder):
    hash_encoder.name = "baseline:prompteol(smollm2-135m)"
    assert encoder_record(hash_encoder, "default")["source"] == "baseline:prompteol"


def test_the_llm_underneath_is_found_without_loading(tiny_encoder_dir, tmp_path):
    backbone = str(tiny_encoder_dir.parent / "backbone")
    assert backbone_of(str(tiny_encoder_dir)) == backbone_of(f"{tiny_encoder_dir}@merge") == backbone
    assert {backbone_of(f"baseline:{kind}") for kind in BASELINES} == {"smollm2-135m"}
    assert backbone_of("baseline:lt@some/llm") == "some/llm"
    assert backbone_of("st:some/model") is None
    with pytest.raises(EncoderError):
        backbone_of(str(tmp_path))


def test_names_are_checked_without_heavy_imports():
    code = (
        "import sys; from llm2comp_apps.encoder import load_encoder, parse_name; parse_name('baseline:lt@x'); "
        "from llm2comp_apps.encoder.names import backbone_of; backbone_of('default'); "
        "print({'torch', 'numpy', 'transformers'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_the_collector_does_not_walk_what_was_loaded(tiny_encoder_dir):
    """A search took two seconds of CPU time more where it did."""
    gc.unfreeze()
    load_encoder(str(tiny_encoder_dir))
    frozen = gc.get_freeze_count()
    load_encoder(str(tiny_encoder_dir))
    assert frozen > 100_000
    assert gc.get_freeze_count() <= frozen  # a second one is not pinned: it may be replaced
    assert gc.isenabled()
    gc.unfreeze()
