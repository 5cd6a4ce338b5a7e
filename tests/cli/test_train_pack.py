"""``llm2comp train pack`` as people call it."""

from __future__ import annotations

import json


def test_a_packed_encoder_has_its_own_name_and_works(cli, tiny_encoder_dir, tmp_path):
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "light", "--name", "small")
    assert result.exit_code == 0, result.stderr
    assert not result.stdout
    assert "2 layers in " in result.stderr
    assert "cosine to the encoder before: mean " in result.stderr
    settings = json.loads((tmp_path / "light/encoder.json").read_text())
    assert (settings["name"], settings["own_layers"]) == ("small", True)
    card = (tmp_path / "light/README.md").read_text()
    assert "# small" in card
    assert "encoding on a CPU needs nothing else" in card
    (tmp_path / "texts.txt").write_text("cells divide")
    again = cli("encode", tmp_path / "texts.txt", "--encoder", tmp_path / "light", "-o", tmp_path / "x.npy")
    assert again.exit_code == 0, again.stderr


def test_numbers_for_programs_and_a_folder_that_is_taken(cli, tiny_encoder_dir, tmp_path):
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "light", "--json")
    found = json.loads(result.stdout)
    assert found["layers"] == 2
    assert found["size"] == sum(path.stat().st_size for path in (tmp_path / "light").rglob("*") if path.is_file())
    assert 0.97 < found["smallest_cosine"] <= found["mean_cosine"] <= 1
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "light")
    assert result.exit_code == 2
    assert "light holds something already; choose a new folder" in result.stderr
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "four", "--token-bits", 4, "--json")
    assert json.loads(result.stdout)["size"] < found["size"]
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "five", "--token-bits", 5)
    assert result.exit_code == 2
    assert "--token-bits must be 8 or 4, not 5" in result.stderr


def test_layers_that_were_rounded_before_can_stay(cli, tiny_encoder_dir, tmp_path):
    assert cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "first").exit_code == 0
    kept = ("train", "pack", tmp_path / "first", "--out", tmp_path / "second", "--layers-of", tmp_path / "first")
    result = cli(*kept)
    assert result.exit_code == 0, result.stderr
    first, second = (tmp_path / name / "graph/layers.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    result = cli("train", "pack", tiny_encoder_dir, "--out", tmp_path / "third", "--layers-of", tmp_path / "first")
    assert result.exit_code == 1
    assert "has other layers than" in result.stderr
    assert not (tmp_path / "third").exists()
