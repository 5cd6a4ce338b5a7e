"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# A busy machine is no fault of an example; where CI is set, hypothesis says so by itself.
hypothesis.settings.register_profile("busy", hypothesis.settings(), deadline=None)
if "CI" not in os.environ:
    hypothesis.settings.load_profile("busy")

# Networks of two layers gain nothing from threads, and where virtual processors share a core each wait for another
# thread costs milliseconds: a study of tiny runs took 99 s on two threads and 4 s on one. Processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An export takes a second even for a tiny network; what is tested with one asks for it by name. Inherited as above.
os.environ.setdefault("LLM2COMP_BACKEND", "torch")

# A shell that runs the suite in the background has it ignore ctrl-C, and every process the suite starts would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_WORD = re.compile(r"\w+")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Numba, which umap computes with, sets the threads of torch, too; last digits of a product depend on them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def freed() -> Iterator[None]:
    """Commands leave the index that they read to the end of their process; here thousands of them share one."""
    yield
    gc.collect()


class HashEncoder:
    """A text encoder without a model: a bag of words, each word a random vector drawn from its hash.

    Deterministic across processes, independent of batch neighbours, and near for texts that share words. ``seed``
    makes another encoder with another fingerprint. ``calls`` counts the texts encoded.
    """

    k = 4
    pooling = "mean"

    def __init__(self, dimension: int = 32, seed: str = "") -> None:
        self.dimension = dimension
        self.name = f"hash{seed}"
        self.fingerprint = hashlib.sha256(f"{dimension} {seed}".encode()).hexdigest()[:32]
        self.prompts = {"query": "find: "}
        self.calls = 0
        self._seed = seed
        self._words: dict[str, np.ndarray] = {}

    def _word(self, word: str) -> np.ndarray:
        if word not in self._words:
            digest = hashlib.blake2b(f"{self._seed} {word}".encode(), digest_size=8).digest()
            generator = np.random.default_rng(int.from_bytes(digest, "little"))
            self._words[word] = generator.standard_normal(self.dimension)
        return self._words[word]

    def encode_memory(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
        """``(n, k, d)``: word i of a text goes to memory vector i mod k."""
        self.calls += len(texts)
        memory = np.zeros((len(texts), self.k, self.dimension), np.float32)
        for row, text in enumerate(texts):
            memory[row] += self._word("(bias)") / 100
            for place, word in enumerate(_WORD.findall(text.removeprefix(prompt or "").lower())):
                memory[row, place % self.k] += self._word(word)
        return memory

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> np.ndarray:
        vectors = self.encode_memory(texts, prompt=prompt).mean(axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[np.ndarray]:
        for text in texts:
            yield self.encode([text], prompt=prompt)

    def tokenizer(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        """Words as tokens, for chunking."""
        return {"input_ids": [[len(word) for word in _WORD.findall(text)] for text in texts]}


@pytest.fixture
def hash_encoder() -> HashEncoder:
    """A fast deterministic encoder."""
    return HashEncoder()


@pytest.fixture
def slow_encoder(hash_encoder: HashEncoder, monkeypatch: pytest.MonkeyPatch) -> HashEncoder:
    """One that takes so long that writers meet each other."""
    encode = hash_encoder.encode

    def slowly(*args: Any, **named: Any) -> np.ndarray:
        time.sleep(0.1)
        return encode(*args, **named)

    monkeypatch.setattr(hash_encoder, "encode", slowly)
    return hash_encoder


@pytest.fixture(scope="session")
def make_hash_encoder() -> Callable[..., HashEncoder]:
    """Makes more of them."""
    return HashEncoder


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint on a tiny random Llama: loaded in the time torch takes to import."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from llm2comp_apps.encoder.backbones import load_backbone
    from llm2comp_apps.encoder.checkpoint import EncoderSettings
    from llm2comp_apps.encoder.model import LLM2Comp
    from llm2comp_apps.encoder.network import CompressionNetwork

    root = tmp_path_factory.mktemp("tiny")
    backbone = root / "backbone"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["a few words, so that there is something to learn"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>").save_pretrained(backbone)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(backbone)
    loaded = load_backbone(str(backbone), device="cpu")
    settings = EncoderSettings(backbone=str(backbone), backbone_sha256=loaded.sha256, k=4, max_length=128, name="tiny")
    LLM2Comp(CompressionNetwork.fresh(loaded.lm, 4), loaded.tokenizer, settings).save_pretrained(root / "encoder")
    return root / "encoder"


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser():
    """A real browser. Of a module, not of the session: while it runs, no test can run an event loop of its own."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser on the PATH: none of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, and in most containers, Chromium's sandbox cannot start; the only pages it sees here are our own.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()
