"""``llm2comp train prune`` as people call it."""

from __future__ import annotations

import json

import pytest


def written(path, count):
    """A file of so many texts."""
    path.write_text("".join(json.dumps({"text": f"text number {index}"}) + "\n" for index in range(count)))
    return path


@pytest.fixture
def texts(tmp_path):
    return written(tmp_path / "texts.jsonl", 12)


def test_a_number_or_a_list_of_layers(cli, tiny_encoder_dir, texts, tmp_path):
    result = cli("train", "prune", tiny_encoder_dir, "--layers", 1, "--data", texts, "--out", tmp_path / "one")
    assert result.exit_code == 0, result.stderr
    assert not result.stdout
    assert "1 of 2 layers: " in result.stderr
    assert "cosine to the encoder it was cut from: " in result.stderr
    assert "times as fast; layers of " in result.stderr
    found = cli(
        "train", "prune", tiny_encoder_dir, "--layers", "1,", "--data", texts, "--out", tmp_path / "second", "--json"
    )
    assert json.loads(found.stdout)["layers"] == [1]
    assert json.loads((tmp_path / "second/encoder.json").read_text())["layers"] == [1]
    rows = cli("encode", texts, "--encoder", tmp_path / "second", "-o", tmp_path / "x.npy")
    assert rows.exit_code == 0, rows.stderr


@pytest.fixture
def many_texts(tmp_path):
    """Enough to judge and to fit with."""
    return written(tmp_path / "many.jsonl", 200)


def test_layers_are_fitted(cli, tiny_encoder_dir, many_texts, tmp_path):
    given = ("train", "prune", tiny_encoder_dir, "--layers", 1, "--data", many_texts, "--fit", 40)
    result = cli(*given, "--out", tmp_path / "fitted")
    assert result.exit_code == 0, result.stderr
    assert "before its layers were fitted)" in result.stderr
    found = json.loads(cli(*given, "--out", tmp_path / "again", "--json").stdout)
    assert found["cosine"] > found["cosine_cut"]
    rows = cli("encode", many_texts, "--encoder", tmp_path / "fitted", "-o", tmp_path / "x.npy")
    assert rows.exit_code == 0, rows.stderr


def test_the_text_may_stop_in_between(cli, tiny_encoder_dir, many_texts, tmp_path):
    given = ("train", "prune", tiny_encoder_dir, "--text-layers", 1, "--data", many_texts, "--fit", 40)
    result = cli(*given, "--out", tmp_path / "split")
    assert result.exit_code == 0, result.stderr
    assert "the text goes through the first 1, the memory tokens through all" in result.stderr
    assert json.loads((tmp_path / "split/encoder.json").read_text())["text_layers"] == 1
    assert json.loads(cli(*given, "--out", tmp_path / "again", "--json").stdout)["text_layers"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--text-layers", "1"], "--fit must be above 0 for --text-layers, whose maps are fitted"),
        (["--layers", "3"], "--layers must be from 1 to 2, the number of its layers, not 3"),
        (["--layers", "first"], "--layers must be a number or a list like 0,1,11,29, not 'first'"),
        (["--layers", "0,5"], "--layers must be ascending numbers from 0 to 1, not 0, 5"),
        (["--layers", "1", "--fit", "5"], "--fit needs data of 133 texts or more, 128 of which judge; these hold 12"),
        (["--layers", "1", "--fit", "4"], "--fit must be 0 or at least 5, not 4"),
        (["--layers", "1", "--method", "luck"], "--method must be one of influence, greedy, not 'luck'"),
    ],
)
def test_a_slip_is_named_by_its_option_and_nothing_is_written(cli, tiny_encoder_dir, texts, tmp_path, given, message):
    result = cli("train", "prune", tiny_encoder_dir, "--data", texts, "--out", tmp_path / "new", *given)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "new").exists()
