"""Encoding without torch: the same vectors, from exports that are made once and checked."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.backends import export, exported, load_light, resolve_backend, wants_light
from llm2comp_apps.encoder.backends.exported import MANIFEST, in_cache, read_manifest
from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder, equal_batches
from llm2comp_apps.encoder.backends.poolings import pool
from llm2comp_apps.encoder.backends.tokens import TokenTable, packed_tokens
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.pooling import pool as torch_pool
from llm2comp_apps.encoder.protocol import CountsCut, HasTokenizer, LimitsLength, MakesMemory, TextEncoder
from llm2comp_apps.encoder.settings import ALL, POOLINGS
from llm2comp_apps.encoder.space import Aligned
from llm2comp_apps.errors import EncoderError, UsageError


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pair(make_checkpoint):
    """The same checkpoint in torch and in ONNX Runtime, both in float32."""
    directory = make_checkpoint("llama", max_length=64, prompts={"query": "query: "})
    light = load_light(str(directory), precision="float32")
    return LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32), light


def test_the_vectors_are_those_of_torch(pair, texts):
    heavy, light = pair
    assert isinstance(light, OnnxEncoder)
    assert (light.fingerprint, light.dimension, light.k) == (heavy.fingerprint, heavy.dimension, heavy.k)
    np.testing.assert_allclose(light.encode(texts), heavy.encode(texts), atol=1e-5)
    np.testing.assert_allclose(light.encode_memory(texts), heavy.encode_memory(texts), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(light.encode(texts, prompt="query: "), heavy.encode(texts, prompt="query: "), atol=1e-5)
    for pooling in ("first", "merge", "all"):
        expected = heavy.encode(texts, pooling=pooling)
        np.testing.assert_allclose(light.encode(texts, pooling=pooling), expected, atol=1e-5)


def test_long_texts_are_cut_where_torch_cuts_them(pair, texts):
    heavy, light = pair
    np.testing.assert_allclose(light.encode(["y" * 500, *texts]), heavy.encode(["y" * 500, *texts]), atol=1e-5)
    assert light.cut == heavy.cut == 4
    assert light.room("query: ") == heavy.room("query: ")


def test_a_stream_is_in_order(pair, texts):
    _, light = pair
    found = np.concatenate(list(light.encode_stream(iter(texts), window=3)))
    np.testing.assert_array_equal(found, light.encode(texts))
    assert light.encode([]).shape == (0, light.dimension)


def test_what_takes_long_is_told_to_the_log_and_not_printed(make_checkpoint, caplog, capfd):
    with caplog.at_level("INFO", "llm2comp_apps"):
        load_light(str(make_checkpoint("llama")), precision="float32")
    assert [record.getMessage().partition(" (")[0][-11:] for record in caplog.records] == ["for the CPU"]
    assert "for the CPU" not in "".join(capfd.readouterr())


def test_vectors_do_not_depend_on_neighbours(make_checkpoint, texts):
    light = load_light(str(make_checkpoint("llama")), precision="int8")
    alone = np.concatenate([light.encode([text]) for text in texts])
    np.testing.assert_allclose(light.encode(texts), alone, atol=1e-6)


def test_threads_give_the_same_vectors(make_checkpoint, texts):
    directory = str(make_checkpoint("llama"))
    one = load_light(directory, precision="int8")
    four = OnnxEncoder(one._folder, read_manifest(one._folder), one.settings, one.fingerprint, threads=4)
    np.testing.assert_array_equal(four.encode(texts * 3), one.encode(texts * 3))
    found: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: found.append(four.encode(texts))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for vectors in found:
        np.testing.assert_array_equal(vectors, one.encode(texts))


def test_an_encoder_has_the_abilities_of_ours(pair):
    _, light = pair
    for ability in (TextEncoder, CountsCut, LimitsLength, HasTokenizer, MakesMemory, Aligned):
        assert isinstance(light, ability)
    assert light.tokenizer(["a text", ""], add_special_tokens=False, verbose=False)["input_ids"][1] == []
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(light)).encode(["a text"]), light.encode(["a text"]))
    with pytest.raises(UsageError, match="list of texts"):
        light.encode({"a text"})


def test_an_export_is_made_once_and_found_by_other_settings(make_checkpoint, monkeypatch):
    directory = str(make_checkpoint("llama", max_length=64))
    first = load_light(directory)
    monkeypatch.setattr(export, "export_encoder", None)  # a second one would fail
    assert load_light(directory).fingerprint == first.fingerprint
    other = load_light(directory, pooling="first", max_length=32)
    assert (other.pooling, other.max_length) == ("first", 32)
    assert other.fingerprint != first.fingerprint
    heavy = LLM2Comp.from_pretrained(directory, device="cpu", pooling="first", max_length=32)
    assert other.fingerprint == heavy.fingerprint


def test_longer_texts_than_the_graph_takes_need_another_export(make_checkpoint):
    directory = str(make_checkpoint("llama", max_length=64))
    short = load_light(directory)
    long = load_light(directory, max_length=2000)
    assert long.encode(["z" * 1800]).shape == (1, long.dimension)
    assert read_manifest(long._folder).positions > read_manifest(short._folder).positions - 1
    # The memory tokens need places, too: the export at hand is just too short for these.
    beyond = read_manifest(long._folder).positions - long.k + 1
    assert load_light(directory, max_length=beyond).max_length == beyond


@pytest.mark.parametrize(("name", "value"), [("exact", "no"), ("positions", "64"), ("network", None)])
def test_an_entry_of_another_kind_is_named(make_checkpoint, name, value):
    folder = load_light(str(make_checkpoint("llama", max_length=64)))._folder
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(raw | {name: value}))
    with pytest.raises(EncoderError, match=rf"export\.json: damaged \({name} is {value!r}\)"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["graph.onnx", "layers.safetensors", "tokens.safetensors", "tokenizer.json", MANIFEST])
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_export_is_made_again(make_checkpoint, texts, name, how):
    directory = str(make_checkpoint("llama", max_length=64))
    light = load_light(directory)
    expected = light.encode(texts)
    path = light._folder / name
    content = bytearray(path.read_bytes())
    del light
    path.unlink()
    if how == "flipped":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    again = load_light(directory)
    np.testing.assert_array_equal(again.encode(texts), expected)
    read_manifest(again._folder)


def test_a_precision_below_the_limit_is_refused_by_name(make_checkpoint, monkeypatch):
    directory = str(make_checkpoint("llama", max_length=64))
    for limit in (export.Limit(smallest=0.9999999, mean=0.5), export.Limit(smallest=0.5, mean=0.9999999)):
        monkeypatch.setitem(export.LIMITS, "int8", limit)
        with pytest.raises(EncoderError, match=r"precision int8 moves the vectors of tiny too far.*0\.9999999"):
            load_light(directory, precision="int8")
    assert not list((in_cache("x", "int8").parent).glob("*-int8"))
    assert load_light(directory).precision == "float32"  # without a wish, what is exact enough


def test_who_waits_for_an_export_takes_what_was_made_where_int8_is_refused(make_checkpoint, monkeypatch):
    directory = str(make_checkpoint("llama", max_length=64))
    monkeypatch.setitem(export.LIMITS, "int8", export.Limit(smallest=0.9999999, mean=0.9999999))
    find, make, both, looks, made = exported.find_export, export.export_encoder, threading.Barrier(2), [], []

    def find_together(*arguments):
        looks.append(None)
        if len(looks) <= 2:
            both.wait(timeout=60)  # nobody has exported anything yet
            return None
        return find(*arguments)

    def counted(encoder, folder, precision, **settings):
        made.append(precision)
        return make(encoder, folder, precision, **settings)

    monkeypatch.setattr(exported, "find_export", find_together)
    monkeypatch.setattr(export, "export_encoder", counted)
    with ThreadPoolExecutor(2) as pool_of_two:
        found = list(pool_of_two.map(load_light, [directory] * 2))
    assert [each.precision for each in found] == ["float32"] * 2
    assert made == ["int8", "float32"]


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "phi3"])
def test_other_families(make_checkpoint, texts, family):
    directory = str(make_checkpoint(family, max_length=150))
    heavy = LLM2Comp.from_pretrained(directory, device="cpu", dtype=torch.float32)
    assert (load_light(directory).encode(texts) * heavy.encode(texts)).sum(1).min() > 0.99


def test_what_has_no_graph_runs_in_torch(make_checkpoint):
    directory = str(make_checkpoint("llama", k=2, readout="prompts"))
    with pytest.raises(EncoderError, match="readout 'prompts' has no graph; `backend=torch` runs it"):
        load_light(directory)
    assert load_light(directory, backend="auto") is None


def test_a_cache_that_cannot_be_written_leaves_the_work_to_torch(make_checkpoint, tmp_path, monkeypatch):
    directory = str(make_checkpoint("llama", max_length=64))
    (tmp_path / "a file").write_text("x", "utf-8")
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "a file"))
    with pytest.warns(UserWarning, match=r"cannot be written to the cache; name another folder by \$LLM2COMP_CACHE"):
        assert load_light(directory, backend="auto") is None
    with pytest.raises(EncoderError, match=r"cannot be written to the cache.*`backend=torch` runs it"):
        load_light(directory)


def test_the_environment_names_a_backend(monkeypatch, make_checkpoint):
    assert resolve_backend("auto", None) == "torch"  # see tests/conftest.py
    assert resolve_backend("onnx", "cpu") == "onnx"
    monkeypatch.setenv("LLM2COMP_BACKEND", "onnx")
    assert resolve_backend("auto", "cuda") == "torch"
    assert isinstance(load_encoder(str(make_checkpoint("llama"))), OnnxEncoder)
    assert isinstance(load_encoder(str(make_checkpoint("llama")), backend="torch", device="cpu"), LLM2Comp)
    assert isinstance(load_encoder(str(make_checkpoint("llama")), dtype=torch.float32, device="cpu"), LLM2Comp)
    monkeypatch.setenv("LLM2COMP_BACKEND", "jax")
    with pytest.raises(UsageError, match="backend must be one of auto, torch, onnx, not 'jax'"):
        resolve_backend("auto", None)
    with pytest.raises(UsageError, match="onnx runs on the cpu, not on cuda"):
        resolve_backend("onnx", "cuda")


def test_a_cpu_gets_the_light_one_and_a_gpu_does_not(monkeypatch):
    assert wants_light("auto", "cpu")
    assert not wants_light("auto", "cuda")
    assert not wants_light("torch", "cpu")
    monkeypatch.setattr("llm2comp_apps.encoder.backends._gpu_in_sight", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not wants_light("auto", None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert wants_light("auto", None)


def test_encoding_imports_neither_torch_nor_transformers(make_checkpoint, tmp_path):
    directory = str(make_checkpoint("llama"))
    load_light(directory)
    program = (
        "import sys, json\nfrom llm2comp_apps import load_encoder\n"
        f"load_encoder({directory!r}, backend='onnx').encode(['a text'])\n"
        "print(json.dumps([name for name in ('torch', 'transformers', 'peft', 'onnx', 'sklearn', 'pyarrow', 'scipy')"
        " if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.fixture
def without(monkeypatch):
    """Make packages look as if they were not installed."""

    def hide(*names):
        for name in list(sys.modules):
            if name.endswith(("backends.onnx_encoder", "backends.onnx_pairs")):
                monkeypatch.delitem(sys.modules, name)
        # In its place and without its parts: Python takes modules apart in their order, and torch's parts need it.
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_without_onnxruntime_torch_encodes_and_says_so(make_checkpoint, monkeypatch, without, texts):
    monkeypatch.delenv("LLM2COMP_BACKEND", raising=False)
    directory = str(make_checkpoint("llama"))
    without("onnxruntime")
    with pytest.warns(UserWarning, match="onnxruntime or tokenizers cannot be imported .*; torch runs the encoder"):
        encoder = load_encoder(directory, device="cpu")
    assert isinstance(encoder, LLM2Comp)
    assert encoder.encode(texts).shape == (len(texts), encoder.dimension)
    with pytest.raises(EncoderError, match="onnxruntime or tokenizers cannot be imported"):
        load_encoder(directory, device="cpu", backend="onnx")


@pytest.mark.parametrize("damaged", [False, True])
def test_without_torch_an_export_is_not_blamed_on_the_cache(make_checkpoint, monkeypatch, damaged):
    directory = str(make_checkpoint("llama"))

    class Damaged:
        def find_spec(self, name, *_):
            if name == "torch":
                raise OSError("libtorch_cpu.so: cannot open shared object file")

    with monkeypatch.context() as patch:
        if damaged:
            patch.delitem(sys.modules, "torch")
            patch.setattr(sys, "meta_path", [Damaged(), *sys.meta_path])
        else:
            patch.setitem(sys.modules, "torch", None)
        for backend in ("auto", "onnx"):
            with pytest.raises(EncoderError, match=r"torch prepares it for the CPU once, and cannot be imported"):
                load_light(directory, backend=backend)
    assert load_light(directory).encode(["a text"]).shape[0] == 1


def test_a_gpu_is_of_no_use_without_torch(monkeypatch, without):
    monkeypatch.setattr("llm2comp_apps.encoder.backends._gpu_in_sight", lambda: True)
    without("torch")
    assert wants_light("auto", None)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_length_without_room_is_refused(make_checkpoint, backend):
    directory = str(make_checkpoint("llama"))
    for length in (0, -3):
        with pytest.raises(UsageError, match=f"max_length must be at least 1, not {length}"):
            load_encoder(directory, device="cpu", backend=backend, max_length=length)
        with pytest.raises(UsageError, match="max_length must be at least 1"):
            LLM2Comp.from_pretrained(directory, max_length=length)


def test_poolings_are_those_of_torch():
    generator = np.random.default_rng(0)
    memory = generator.standard_normal((6, 5, 16)).astype(np.float32)
    memory[:3, 1] = memory[:3, 0] * 2 + 0.01  # near-copies
    memory[1, 2] = memory[1, 0]
    for pooling in (*POOLINGS, ALL):
        expected = torch_pool(torch.from_numpy(memory), pooling).numpy()
        np.testing.assert_allclose(pool(memory, pooling), expected, atol=1e-6)
    with pytest.raises(UsageError, match="pooling must be one of mean, merge, first, all, not 'last'"):
        pool(memory, "last")


def test_rows_of_one_length_make_a_batch():
    lengths = [3, 10, 3, 0, 3, 10, 3]
    batches = equal_batches(lengths, extra=2, budget=15)
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert [{lengths[index] for index in batch} for batch in batches] == [{10}, {10}, {3}, {3}, {0}]


def test_token_embeddings_of_8_bits_are_kept_without_loss():
    generator = np.random.default_rng(0)
    integers = generator.integers(-127, 128, (50, 2, 32))
    integers[..., 0] = 127
    scales = generator.uniform(1e-3, 1e-1, (50, 2, 1)).astype(np.float16)
    tokens = (integers * scales.astype(np.float32)).reshape(50, 64).astype(np.float32)
    packed = packed_tokens(tokens, exactly=True)
    assert packed["tokens"].dtype == np.int8
    ids = np.array([[3, 49], [0, 3]])
    np.testing.assert_array_equal(TokenTable(packed).look_up(ids), tokens[ids])
    other = generator.standard_normal((50, 24)).astype(np.float32)
    np.testing.assert_array_equal(TokenTable(packed_tokens(other, exactly=True)).look_up(ids), other[ids])
    near = TokenTable(packed_tokens(other, exactly=False)).look_up(ids)
    assert 0 < np.abs(near - other[ids]).max() < np.abs(other).max() / 200


@pytest.mark.parametrize("d", [64, 24])
def test_token_embeddings_of_4_bits_are_near_by_half_a_step(d):
    tokens = np.random.default_rng(0).standard_normal((50, d)).astype(np.float32)
    packed = packed_tokens(tokens, exactly=False, bits=4)
    assert (packed["tokens"].dtype, packed["tokens"].shape) == (np.uint8, (50, d // 2))
    ids = np.array([[3, 49], [0, 3]])
    found = TokenTable(packed).look_up(ids)
    assert (found.shape, found.dtype) == ((2, 2, d), np.float32)
    blocks = tokens[ids].reshape(2, 2, -1, min(d, 32))
    steps = np.ptp(blocks, axis=-1, keepdims=True) / 15
    assert (np.abs(found.reshape(blocks.shape) - blocks) <= 0.51 * steps + 1e-3).all()
    nothing = TokenTable(packed_tokens(np.zeros((3, d), np.float32), exactly=False, bits=4))
    assert not nothing.look_up(np.arange(3)).any()
    assert packed_tokens(tokens[:, 1:], exactly=False, bits=4)["tokens"].dtype == np.int8, "an odd number has no halves"
    np.testing.assert_array_equal(TokenTable(packed_tokens(tokens, exactly=True, bits=4)).look_up(ids), tokens[ids])


def test_settings_of_the_manifest_are_checked(make_checkpoint):
    folder = load_light(str(make_checkpoint("llama")))._folder
    manifest = read_manifest(folder)
    dataclasses.replace(manifest, format=99).write(folder)
    with pytest.raises(EncoderError, match="export format 99"):
        read_manifest(folder)
