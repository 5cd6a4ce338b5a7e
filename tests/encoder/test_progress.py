"""Progress of encoding: by tokens, over several calls and streams, and a time left that is about right."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder.batching import encode_in_windows, length_batches, with_progress
from llm2comp_apps.encoder.names import load_encoder
from llm2comp_apps.encoder.progress import EncodingMeter, watch_encoding


class Clocked:
    """Takes as long as its texts have tokens (words), and reads the first 300 of each."""

    name, fingerprint, dimension, prompts, k = "clocked", "0", 4, {}, 8

    def __init__(self, window=64):
        self.time = 0.0
        self.window = window

    def room(self, prompt=None):
        return 300

    def encode(self, texts, *, prompt=None, show_progress=False):
        sizes = [min(len(text.split()), 300) + self.k for text in texts]

        def run():
            for batch in length_batches(sizes, 2048):
                self.time += sum(sizes[row] for row in batch)
                yield batch

        for _ in with_progress(run(), sizes, False):
            pass
        return np.zeros((len(texts), 4), np.float32)

    def encode_stream(self, texts, *, prompt=None):
        return encode_in_windows(texts, self.window, lambda held: self.encode(held, prompt=prompt))


def uneven(count=900, seed=0):
    """Texts of 3 to 2,000 words, the long ones rather at the end."""
    draw = random.Random(seed)
    lengths = sorted(int(3 * 2 ** draw.uniform(0, 9.4)) for _ in range(count))
    return [" ".join("words"[: draw.randint(2, 5)] for _ in range(length)) for length in lengths]


def worst_estimate(told, end):
    """How wrong the whole time was that one would have worked out from any report after a tenth of it."""
    estimates = [(time, time / fraction) for time, fraction in told if fraction and time >= end / 10]
    assert len(estimates) > 10
    return max(max(whole / end, end / whole) for _, whole in estimates)


@pytest.mark.parametrize("known", [True, False])
def test_the_time_left_is_right_within_a_factor_of_one_and_a_half(known):
    texts, encoder, told = uneven(), Clocked(), []
    random.Random(1).shuffle(texts)
    read = 0

    def reading():
        nonlocal read
        for text in texts:
            read += len(text)
            yield text

    whole = sum(map(len, texts))
    told_more = []

    def report(progress):
        told.append((encoder.time, progress.fraction))
        told_more.append(progress)

    meter = EncodingMeter(encoder, report, **({"texts": texts} if known else {"share": lambda: read / whole}))
    for _ in meter.stream(reading()):
        pass
    assert worst_estimate(told, encoder.time) < 1.5
    assert told[-1][1] == 1
    assert (told_more[-1].done, told_more[-1].total) == (len(texts), len(texts))
    assert [progress.done for progress in told_more] == sorted(progress.done for progress in told_more)


def test_texts_that_are_sorted_by_length_are_no_excuse():
    texts, encoder, told = uneven(), Clocked(), []
    meter = EncodingMeter(encoder, lambda progress: told.append((encoder.time, progress.fraction)), texts=texts)
    for _ in meter.stream(texts):
        pass
    assert worst_estimate(told, encoder.time) < 1.5
    by_count = sum(len(text.split()) for text in texts[: len(texts) // 2]) / sum(len(text.split()) for text in texts)
    assert by_count < 0.1, "counting texts, half of them would have looked like half of the work"


def test_several_calls_are_one_piece_of_work():
    texts, encoder, told = uneven(300), Clocked(), []
    meter = EncodingMeter(encoder, told.append, texts=texts)
    meter.encode(texts[:200])
    half = told[-1]
    meter.encode(texts[200:])
    assert (half.done, half.total) == (200, 300)
    assert 0 < half.fraction < 0.4, "the first two hundred are the short ones"
    assert told[-1].fraction == 1


def test_a_stream_of_unknown_length_is_known_at_its_end():
    encoder, told = Clocked(window=100), []
    for _ in EncodingMeter(encoder, told.append).stream(iter(uneven(250))):
        pass
    assert told[0].fraction is None
    assert told[0].total is None
    assert told[-2].total == 250
    assert told[-1].fraction == 1


def test_an_encoder_that_tells_nothing_is_reported_on_between_its_calls(hash_encoder):
    told = []
    vectors = list(EncodingMeter(hash_encoder, told.append, texts=["one", "two"]).stream(["one", "two"]))
    assert len(vectors) == 2
    assert [(progress.done, progress.fraction) for progress in told] == [(1, 0.5), (2, 1.0)]


def test_no_one_is_told_after_the_watch():
    told = []
    with watch_encoding(told.append):
        Clocked().encode(["a b c"])
    Clocked().encode(["a b c"])
    assert len(told) == 1


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_our_encoders_tell_after_each_batch(make_checkpoint, texts, backend):
    encoder = load_encoder(str(make_checkpoint("llama")), device="cpu", backend=backend)
    told = []
    with watch_encoding(told.append):
        encoder.encode(texts, tokens_per_batch=32)
    fractions = [progress.fraction for progress in told]
    assert len(told) > 2
    assert fractions == sorted(fractions)
    assert (told[-1].done, told[-1].total, round(fractions[-1], 9)) == (len(texts), len(texts), 1)
    assert isinstance(encoder, LLM2Comp) == (backend == "torch")
