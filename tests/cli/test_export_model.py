"""``llm2comp export-model``: the options reach the room below, and what came of it is printed."""

from __future__ import annotations

import json
import re


def test_a_graph(cli, tmp_path, tiny_encoder_dir, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    result = cli("export-model", tiny_encoder_dir, "-o", "graph", "--format", "onnx", "--dtype", "float32", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["format"], report["dtype"], report["multi_vector"]) == ("onnx", "float32", False)
    assert report["comparison"]["smallest_cosine"] > 0.9999
    assert re.search(r"graph: tiny in float32, \d+ MB; compared over 25 texts: cosine at least", result.stderr)
    assert (tmp_path / "graph" / "example.py").is_file()


def test_wrong_settings_show_their_options(cli):
    assert "--dtype must be float32 or float16" in cli("export-model", "default", "-o", "x", "--dtype", "int4").stderr
    assert "--format must be" in cli("export-model", "default", "-o", "x", "--format", "gguf").stderr
    result = cli("export-model", "default", "-o", "x", "--format", "onnx", "--multi-vector")
    assert (result.exit_code, "--multi-vector is for" in result.stderr) == (2, True)
