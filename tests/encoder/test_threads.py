"""How many threads compute: one for each batch, as many as cores are idle for a lone one, and none that spins."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import base, load_encoder
from llm2comp_apps.encoder.backends import cores
from llm2comp_apps.encoder.threads import fitting_threads, one_thread


def test_the_number_of_threads_comes_back_when_the_last_one_leaves():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        assert torch.get_num_threads() == 1
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1, "another one is still inside"
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_cores_that_are_busy_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "_LOAD", tmp_path / "loadavg")
    found = {}
    for running in (1, 4, 5, 7, 30):
        (tmp_path / "loadavg").write_text(f"1.02 1.09 1.77 {running}/96 2378\n")
        found[running] = cores.idle_cores()
    assert found == {1: 4, 4: 4, 5: 4, 7: 2, 30: 1}
    (tmp_path / "loadavg").write_text("no numbers")
    assert cores.idle_cores() == 4
    monkeypatch.setattr(cores, "_LOAD", tmp_path / "missing")
    assert cores.idle_cores() == 4


def test_torch_gets_idle_cores_and_its_number_back(monkeypatch):
    from llm2comp_apps.encoder import threads

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(threads, "idle_cores", lambda: 2)
        with fitting_threads("cpu"):
            assert torch.get_num_threads() == 2
        monkeypatch.setattr(threads, "idle_cores", lambda: 16)
        with fitting_threads("cpu"):
            assert torch.get_num_threads() == 3, "never more than whoever set it wants"
        monkeypatch.setattr(threads, "idle_cores", lambda: 1)
        with fitting_threads("cuda:1"):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_batches_are_computed_beside_one_another_each_on_one_thread(make_checkpoint, texts, monkeypatch):
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu", dtype=torch.bfloat16)
    seen: list[tuple[int, int]] = []
    forward = encoder._forward

    def watched(rows, ids, mask):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return forward(rows, ids, mask)

    monkeypatch.setattr(encoder, "_forward", watched)
    found = {}
    for lanes in (1, 3):
        monkeypatch.setattr(base, "usable_cores", lambda lanes=lanes: lanes)
        found[lanes] = encoder.encode(texts * 3, tokens_per_batch=16)
    np.testing.assert_array_equal(found[3], found[1])
    assert len({thread for thread, _ in seen}) > 2
    assert {count for _, count in seen} == {1}


def test_what_fails_in_one_batch_reaches_the_caller(make_checkpoint, texts, monkeypatch):
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu")
    monkeypatch.setattr(base, "usable_cores", lambda: 3)

    def broken(rows, ids, mask):
        raise MemoryError("out of it")

    monkeypatch.setattr(encoder, "_forward", broken)
    before = torch.get_num_threads()
    with pytest.raises(MemoryError, match="out of it"):
        encoder.encode(texts, tokens_per_batch=16)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_openmp_sleep_while_they_wait_unless_someone_wants_otherwise(given, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    command = "import llm2comp_apps, os; print(os.environ['OMP_WAIT_POLICY'])"
    ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.strip() == expected


def test_encoders_that_are_loaded_beside_one_another_are_whole(tiny_encoder_dir):
    """While transformers loads a model it changes torch for all threads; others had no weights then, or random ones."""
    names = [str(tiny_encoder_dir), f"{tiny_encoder_dir}@first"] * 3

    def encoded(name: str):
        return load_encoder(name, device="cpu", backend="torch").encode(["a few words"])[0]

    expected = [encoded(name) for name in names[:2]] * 3
    for _ in range(2):
        with ThreadPoolExecutor(len(names)) as pool:
            np.testing.assert_allclose(list(pool.map(encoded, names)), expected, atol=1e-6)
