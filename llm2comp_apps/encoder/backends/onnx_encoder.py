"""The encoder for CPUs: numpy, tokenizers and ONNX Runtime, and nothing else.

Texts of one length make a batch, so nothing is padded and nothing masked, and a text's vector is the same whatever
stands beside it. Batches are dealt out to threads, each of which computes on its own: the operations of a small encoder
are too short to be worth sharing, and a thread that waits for work sleeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Encoding, Tokenizer

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.backends.cores import usable_cores
from llm2comp_apps.encoder.backends.exported import GRAPH, TOKENIZER, TOKENS, Manifest
from llm2comp_apps.encoder.backends.poolings import pool
from llm2comp_apps.encoder.backends.saturation import add_exactly, products_saturate
from llm2comp_apps.encoder.backends.tokens import TokenTable
from llm2comp_apps.encoder.batching import MAX_ROWS, dealt, encode_in_windows, limit, with_progress
from llm2comp_apps.encoder.beginnings import of_beginnings, tells
from llm2comp_apps.encoder.habits import EncoderHabits, Texts, one_or_many
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.encoder.token_states import TokenStates, unit_states
from llm2comp_apps.errors import EncoderError, UsageError

__all__ = ["OnnxEncoder", "TextTokenizer"]

STREAM_WINDOW = 2048
"""Texts that a stream holds at once; enough for batches of one length."""
TOKENS_PER_BATCH = 512
"""Keeps what a layer makes of a batch in a core's own cache; larger batches are no faster."""


class TextTokenizer:
    """The backbone's tokenizer: called with a list of texts, it gives their ``input_ids``."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Token ids of a text or of each of a list; other arguments of transformers' tokenizers have no effect."""
        if return_offsets_mapping:  # places in characters, which the fast way does not count
            found = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
            return {"input_ids": [one.ids for one in found], "offset_mapping": [one.offsets for one in found]}
        if isinstance(texts, str):
            return {"input_ids": self._tokenizer.encode(texts, add_special_tokens=add_special_tokens).ids}
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [one.ids for one in encoded]}

    @property
    def first(self) -> int | None:
        """Id of the special token that it puts in front of every text, if it does."""
        found = self._tokenizer.encode("x")
        return found.ids[0] if found.special_tokens_mask[0] else None

    def cut(self, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
        """Token ids of texts, at most ``limit`` of each with special tokens, and how many texts had more."""
        # The tokenizer's own truncation is a state that other threads would see.
        room = max(limit - self._special, 0)

        def tokenise(shown: list[str], whole: bool) -> Sequence[Encoding]:
            way = self._tokenizer.encode_batch_fast if whole else self._tokenizer.encode_batch  # which knows the pieces
            found: list[Encoding] = way(shown, add_special_tokens=False)
            return found

        encoded = of_beginnings(texts, room, tokenise, partial(tells, limit=room))
        long = [one for one in encoded if len(one) > room]
        for one in long:
            one.truncate(room)
        if self._special:
            encoded = [self._tokenizer.post_process(one) for one in encoded]
        return [one.ids for one in encoded], len(long)


class OnnxEncoder(EncoderHabits):
    """A checkpoint of ours in ONNX Runtime; offers what :class:`~llm2comp_apps.encoder.model.LLM2Comp` does.

    Attributes:
        precision: of the products with weights, ``int8`` or ``float32``.
        cut: texts encoded so far of which only the beginning was read.
    """

    device = "cpu"

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        settings: EncoderSettings,
        fingerprint: str,
        *,
        threads: int | None = None,
    ) -> None:
        """Open an export.

        Args:
            folder: the export.
            manifest: its ``export.json``.
            settings: the checkpoint's, with the pooling and the maximum length to use.
            fingerprint: the checkpoint's, with these.
            threads: that encode at once; by default one for every core that this process may use.

        Raises:
            EncoderError: the files are no graph that this version of ONNX Runtime runs.
        """
        self.settings = settings
        self.fingerprint = fingerprint
        self.precision = manifest.precision
        self._exact = manifest.exact
        self.name = settings.name or settings.backbone
        self.prompts = dict(settings.prompts)
        self.pooling = settings.pooling
        self.max_length = settings.max_length
        self.space: Mapping[str, str] | None = settings.space
        self.cut = 0
        self._threads = threads or usable_cores()
        self._folder = folder
        self._open()

    def _open(self) -> None:
        try:
            arrays = open_arrays(self._folder / TOKENS)
            self._tokens = TokenTable(arrays)
            self._memory = np.array(arrays["memory_tokens"])
            self.tokenizer = TextTokenizer(self._folder / TOKENIZER)
            self._session = _session(self._folder / GRAPH, self._exact)
            self._states: onnxruntime.InferenceSession | None = None
        except Exception as error:  # tokenizers and ONNX Runtime raise errors of no common class
            raise EncoderError(f"{self._folder}: this export cannot be opened: {error}") from error
        self.k, self.dimension = self._memory.shape

    @one_or_many
    def encode(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = True,
        pooling: str | None = None,
    ) -> FloatArray:
        """Embed texts; see :meth:`~llm2comp_apps.encoder.model.LLM2Comp.encode`."""
        sizes = {"tokens_per_batch": tokens_per_batch, "batch_size": batch_size}
        memory = self.encode_memory(list_of_texts(texts), prompt=prompt, show_progress=show_progress, **sizes)
        pooled = pool(memory, pooling or self.pooling)
        if not normalize_embeddings:
            return pooled
        return pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)

    def encode_stream(
        self, texts: Iterable[str], *, prompt: str | None = None, window: int = STREAM_WINDOW
    ) -> Iterator[FloatArray]:
        """Embed a stream; yields ``(m, d)`` float32 blocks in input order, holding at most ``window`` texts."""
        return encode_in_windows(texts, window, lambda held: self.encode(held, prompt=prompt))

    @one_or_many
    def encode_memory(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
    ) -> FloatArray:
        """The memory vectors as they leave the network: ``(n, k, d)`` float32, not normalised."""
        rows, cut = self.tokenizer.cut([(prompt or "") + text for text in list_of_texts(texts)], self.max_length)
        self.cut += cut
        sizes = {"tokens_per_batch": tokens_per_batch, "batch_size": batch_size}
        return self.memory_of(rows, show_progress=show_progress, **sizes)

    def memory_of(
        self,
        rows: Sequence[Sequence[int]],
        *,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
    ) -> FloatArray:
        """Memory vectors ``(n, k, d)`` of token ids, in their order."""
        out = np.empty((len(rows), self.k, self.dimension), dtype=np.float32)
        budget = self.batch_tokens(tokens_per_batch)
        most = limit(batch_size, MAX_ROWS, "batch_size")
        batches = equal_batches([len(row) for row in rows], self.k, budget, most)

        def run(batch: list[int]) -> list[int]:
            out[batch] = self._forward(np.array([rows[index] for index in batch], dtype=np.int64))
            return batch

        sizes = [len(row) + self.k for row in rows]
        for _ in with_progress(dealt(run, batches, self._threads), sizes, show_progress):
            pass
        return out

    def encode_tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[TokenStates]:
        """See :meth:`~llm2comp_apps.encoder.protocol.ReadsTokens.encode_tokens`.

        Raises:
            EncoderError: this graph does not show them.
            UsageError: ``max_length`` is less than 1.
        """
        session = self._token_session()
        longest = min(limit(max_length, self.max_length, "max_length"), self.max_length)
        rows, _ = self.tokenizer.cut(list_of_texts(texts), longest)
        found = [unit_states([], np.zeros((0, self.dimension), dtype=np.float32)) for _ in rows]
        filled = [number for number, row in enumerate(rows) if row]

        def run(batch: list[int]) -> list[int]:
            numbers = [filled[place] for place in batch]
            ids = np.array([rows[number] for number in numbers], dtype=np.int64)
            (states,) = session.run(None, {"embeddings": self._tokens.look_up(ids).astype(np.float32)})
            for number, each in zip(numbers, states, strict=True):
                found[number] = unit_states(rows[number], each)
            return batch

        batches = equal_batches([len(rows[number]) for number in filled], 0, TOKENS_PER_BATCH)
        for _ in dealt(run, batches, self._threads):
            pass
        return found

    def to(self, device: str) -> Self:
        """Stay on the CPU, and give the encoder back.

        Raises:
            UsageError: another device is asked for.
        """
        if device != "cpu":
            raise UsageError(f"{device}: this encoder runs on the cpu; load it again for another one", field="device")
        return self

    def batch_tokens(self, wanted: int | None = None) -> int:
        """Tokens of a batch: as wanted, else what suits a CPU."""
        return limit(wanted, TOKENS_PER_BATCH, "tokens_per_batch")

    def room(self, prompt: str | None = None) -> int:
        """Tokens of a text that are read behind a prompt; what a text has beyond them is cut off."""
        return self.max_length - len(self.tokenizer(prompt or "")["input_ids"])

    def _forward(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """Memory vectors ``(B, k, d)`` of token ids ``(B, T)``."""
        count, length = ids.shape
        embedded = np.empty((count, length + self.k, self.dimension), dtype=np.float32)
        embedded[:, :length] = self._tokens.look_up(ids)
        embedded[:, length:] = self._memory
        (memory,) = self._session.run(None, {"embeddings": embedded})
        return np.asarray(memory)

    def _token_session(self) -> onnxruntime.InferenceSession:
        """From embeddings to the states of tokens; opened at first use, which takes an import of onnx."""
        if self._states is None:
            from llm2comp_apps.encoder.backends.token_graph import token_session

            self._states = token_session(self._folder / GRAPH, _options(self._exact))
        return self._states

    def __getstate__(self) -> dict[str, Any]:
        opened = ("_tokens", "_memory", "_session", "_states", "tokenizer")
        return {name: value for name, value in vars(self).items() if name not in opened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def equal_batches(lengths: Sequence[int], extra: int, budget: int, most: int = MAX_ROWS) -> list[list[int]]:
    """Indices of rows of one length, at most ``budget`` tokens together, the longest rows first.

    Args:
        lengths: tokens of each row.
        extra: tokens that are put behind every row.
        budget: tokens of one batch; a single longer row makes a batch of its own.
        most: rows of a batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches = []
    for length, group in itertools.groupby(order, key=lambda index: lengths[index]):
        indices = list(group)
        size = max(1, min(most, budget // (length + extra)))
        batches += [indices[start : start + size] for start in range(0, len(indices), size)]
    return batches


def _session(path: Path, exact: bool) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), _options(exact), providers=["CPUExecutionProvider"])


def _options(exact: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Beyond folding constants nothing is gained: the graph is made of fused operations where these are faster.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if exact and products_saturate():
        add_exactly(options)
    return options
