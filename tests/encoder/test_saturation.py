"""Sums of 8-bit products that do not fit into 16 bits: exact where an export needs it, on every processor."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from llm2comp_apps.encoder.backends import export, onnx_encoder, saturation
from llm2comp_apps.encoder.backends.export import export_encoder
from llm2comp_apps.encoder.backends.exported import MANIFEST, read_manifest
from llm2comp_apps.encoder.backends.graph import MICROSOFT, Graph
from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder
from llm2comp_apps.encoder.backends.saturation import add_exactly, products_saturate
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.errors import EncoderError

COUNT = 64
BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.fixture
def encoder(make_checkpoint):
    return LLM2Comp.from_pretrained(str(make_checkpoint("llama", max_length=64)), device="cpu", dtype=torch.float32)


def test_largest_sums_are_exact_on_every_processor():
    graph = Graph()
    rows = graph.input("rows", ("n", COUNT), np.uint8)
    weight = graph.constant(np.full((COUNT, COUNT), 127), np.int8)
    scales = graph.constant(1.0), graph.constant(1.0)
    graph.output("sums", graph.add("MatMulIntegerToFloat", rows, weight, *scales, domain=MICROSOFT), ("n", COUNT))
    options = onnxruntime.SessionOptions()
    add_exactly(options)
    session = onnxruntime.InferenceSession(graph.model().SerializeToString(), options)
    (sums,) = session.run(None, {"rows": np.full((3, COUNT), 255, np.uint8)})
    np.testing.assert_array_equal(sums, np.full((3, COUNT), COUNT * 127 * 255, np.float32))


def test_the_graph_that_is_asked_is_one_product():
    """As onnx reads it, which the program must not import."""
    model = onnx.load_from_string(saturation._BEFORE_WEIGHTS + bytes([127]) * 32**2 + saturation._BEHIND_WEIGHTS)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["MatMulIntegerToFloat", "Identity"]
    held = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    assert [(each.dtype, each.shape, set(each.ravel().tolist())) for each in held] == [
        (np.int8, (32, 32), {127}),
        (np.float32, (), {1.0}),
    ]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the instructions of its processor")
def test_it_is_processors_without_vnni_that_saturate():
    flags = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    assert products_saturate() == (platform.machine() == "x86_64" and not flags & {"avx512_vnni", "avx_vnni"})


@pytest.mark.parametrize(
    ("saturates", "fast_will_do", "exact"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_an_export_remembers_what_it_needs(encoder, tmp_path, monkeypatch, saturates, fast_will_do, exact):
    measured = []

    def compared(folder, encoder, manifest, rows, expected):
        measured.append(manifest.exact)
        if not manifest.exact and not fast_will_do:
            raise EncoderError("moved too far")
        return replace(manifest, smallest_cosine=0.99, mean_cosine=0.999)

    monkeypatch.setattr(export, "products_saturate", lambda: saturates)
    monkeypatch.setattr(export, "_compared", compared)
    written = export_encoder(encoder, tmp_path / "out", texts=32)
    assert (written.exact, measured[-1]) == (exact, exact)
    assert read_manifest(tmp_path / "out").exact == exact
    assert measured == ([False, True] if saturates and exact else [exact])


def test_only_processors_that_need_it_take_the_slower_kernel(monkeypatch):
    """One with AMX would take 3.4 times the time."""
    levels = set()
    for saturates in (True, False):
        monkeypatch.setattr(onnx_encoder, "products_saturate", lambda saturates=saturates: saturates)
        assert onnx_encoder._options(exact=False).graph_optimization_level == BASIC
        levels.add((saturates, onnx_encoder._options(exact=True).graph_optimization_level))
    assert levels == {(True, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED), (False, BASIC)}


def test_what_no_kernel_can_do_is_refused(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "products_saturate", lambda: True)
    monkeypatch.setitem(export.LIMITS, "int8", export.Limit(smallest=1.1, mean=1.1))
    with pytest.raises(EncoderError, match=r"precision int8 moves the vectors of tiny too far"):
        export_encoder(encoder, tmp_path / "out", texts=32)
    assert not (tmp_path / "out").exists()


def test_exports_from_before_are_added_exactly(encoder, tmp_path, texts):
    """They say nothing of it, and may have been made on any processor."""
    export_encoder(encoder, tmp_path / "out", texts=32)
    path = tmp_path / "out" / MANIFEST
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "exact"}))
    found = read_manifest(tmp_path / "out")
    assert found.exact
    light = OnnxEncoder(tmp_path / "out", found, encoder.settings, "", threads=1)
    cosines = (light.encode(texts) * encoder.encode(texts)).sum(axis=1)
    assert cosines.min() > 0.97
