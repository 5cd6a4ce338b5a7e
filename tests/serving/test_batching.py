"""The engine: what it batches, who goes first, and what failures leave."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from llm2comp_apps.encoder.token_states import TokenStates
from llm2comp_apps.serving.batching import MIN_BATCH_TOKENS, Engine
from llm2comp_apps.serving.errors import ApiError, OverloadedError


class Scripted:
    """An encoder whose vectors say which text they are of, and that can be held up, fail, and run out of memory."""

    name, fingerprint, dimension, prompts, k = "scripted", "f" * 32, 3, {"query": "q: "}, 2

    def __init__(self) -> None:
        self.batches: list[tuple[str | None, list[str]]] = []
        self.go = threading.Event()
        self.go.set()
        self.seconds = 0.0
        self.room_for = 10_000
        self.failing: dict[str, BaseException] = {}

    def encode(self, texts, *, prompt=None, show_progress=False):
        self.go.wait(30)
        time.sleep(self.seconds * len(texts))
        self.batches.append((prompt, list(texts)))
        for text in texts:
            if text in self.failing:
                raise self.failing[text]
        if len(texts) > self.room_for:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return np.array([[len(text), sum(map(ord, text)) % 97, 1] for text in texts], np.float32)

    def encode_memory(self, texts, *, prompt=None):
        return np.repeat(self.encode(texts, prompt=prompt)[:, None], self.k, axis=1)

    def encode_tokens(self, texts, *, max_length=None):
        vectors = self.encode(texts)
        numbers = [np.arange(len(text))[:max_length] for text in texts]
        return [TokenStates(ids, vector[None]) for ids, vector in zip(numbers, vectors, strict=True)]


@pytest.fixture
def scripted():
    return Scripted()


@pytest.fixture
def smallest_batches(monkeypatch):
    """Batches of one size, however fast the encoder seems."""
    monkeypatch.setattr("llm2comp_apps.serving.batching.MAX_BATCH_TOKENS", MIN_BATCH_TOKENS)


@pytest.fixture
def engine(scripted):
    made = Engine(lambda: scripted).start()
    made.loaded.result(5)
    yield made
    scripted.go.set()
    made.close()
    assert not made.alive


def ask(engine, texts, lane="bulk", tokens=1, prompt=None, form="embedding"):
    return engine.submit(texts, [tokens] * len(texts), lane=lane, prompt=prompt, form=form)


def expected(scripted, texts):
    return np.array([[len(text), sum(map(ord, text)) % 97, 1] for text in texts], np.float32)


def held(engine, scripted):
    """Keep the engine busy with one text, so that what comes now waits."""
    scripted.go.clear()
    first = ask(engine, ["busy"])
    while engine._running == 0:
        time.sleep(0.001)
    return first


def test_requests_that_wait_share_a_batch(engine, scripted) -> None:
    held(engine, scripted)
    futures = [ask(engine, [f"text {n}", f"{n}" * n]) for n in range(20)]
    scripted.go.set()
    for n, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(5), expected(scripted, [f"text {n}", f"{n}" * n]))
    assert [len(texts) for _, texts in scripted.batches] == [1, 40]


def test_batches_keep_to_the_budget_and_the_longest_texts_go_first(engine, scripted, smallest_batches) -> None:
    held(engine, scripted)
    lengths = [MIN_BATCH_TOKENS // 4] * 6 + [2 * MIN_BATCH_TOKENS, 3]
    texts = [f"{length} {n}" for n, length in enumerate(lengths)]
    future = engine.submit(texts, lengths, lane="bulk", prompt=None)
    scripted.go.set()
    np.testing.assert_array_equal(future.result(5), expected(scripted, texts))
    sizes = [len(batch) for _, batch in scripted.batches[1:3]]
    assert sizes == [1, 4]  # a text above the budget alone, then as many as fit


def test_tokens_come_back_in_order_from_several_batches(engine, scripted, smallest_batches) -> None:
    texts = ["word" * n for n in (3, 1, 4, 5, 9, 2)]
    lengths = [MIN_BATCH_TOKENS // 2 - n for n in range(len(texts))]
    future = engine.submit(texts, lengths, lane="query", prompt=None, form="tokens", max_length=7)
    found = future.result(5)
    assert [len(batch) for _, batch in scripted.batches] == [2, 2, 2]
    assert [len(each.ids) for each in found] == [7, 4, 7, 7, 7, 7]
    np.testing.assert_array_equal(np.concatenate([each.vectors for each in found]), expected(scripted, texts))
    assert engine.submit([], [], lane="query", prompt=None, form="tokens").result(5) == []


def test_a_state_that_is_no_number_fails_its_request_alone(engine, scripted, monkeypatch) -> None:
    def broken(texts, **_):
        return [TokenStates(np.zeros(1), np.full((1, 3), np.nan)) for _ in texts]

    monkeypatch.setattr(scripted, "encode_tokens", broken)
    with pytest.raises(ApiError, match="no vector"):
        ask(engine, ["a"], form="tokens").result(5)
    assert ask(engine, ["a"]).result(5).shape == (1, 3)


def test_prompts_and_memory_do_not_mix(engine, scripted) -> None:
    held(engine, scripted)
    futures = [
        ask(engine, ["a"], prompt="q: "),
        ask(engine, ["b"]),
        ask(engine, ["c"], prompt="q: "),
        ask(engine, ["d"], form="memory"),
        ask(engine, ["e"], form="tokens"),
    ]
    scripted.go.set()
    *arrays, (states,) = [future.result(5) for future in futures]
    assert [array.shape for array in arrays] == [(1, 3), (1, 3), (1, 3), (1, 2, 3)]
    assert states.vectors.shape == (1, 3)
    assert scripted.batches[1:] == [("q: ", ["a", "c"]), (None, ["b"]), (None, ["d"]), (None, ["e"])]


def test_queries_go_before_bulk_and_bulk_gets_its_turn(engine, scripted, smallest_batches) -> None:
    held(engine, scripted)
    big = MIN_BATCH_TOKENS
    bulk = [ask(engine, [f"bulk {n}"], tokens=big) for n in range(2)]
    queries = [ask(engine, [f"query {n}"], lane="query", tokens=big) for n in range(12)]
    scripted.go.set()
    for future in (*bulk, *queries):
        future.result(5)
    order = [texts[0].split()[0] for _, texts in scripted.batches[1:]]
    assert order[:8] == ["query"] * 8
    assert order[8] == "bulk"
    assert order.count("bulk") == 2


def test_a_large_request_does_not_hold_up_others(engine, scripted, smallest_batches) -> None:
    held(engine, scripted)
    large = ask(engine, [f"large {n}" for n in range(8)], tokens=MIN_BATCH_TOKENS)
    small = ask(engine, ["small"], tokens=MIN_BATCH_TOKENS)
    scripted.go.set()
    small.result(5)
    large.result(5)
    assert [texts[0].split()[0] for _, texts in scripted.batches[1:4]] == ["large", "small", "large"]


def test_cancelled_requests_are_dropped(engine, scripted) -> None:
    held(engine, scripted)
    futures = [ask(engine, [f"text {n}"]) for n in range(3)]
    assert futures[1].cancel()
    scripted.go.set()
    futures[2].result(5)
    assert scripted.batches[1][1] == ["text 0", "text 2"]
    assert engine.metrics.cancelled._value.get() == 1
    assert engine.waiting_seconds("bulk") == 0


@pytest.mark.parametrize("error", [ValueError("bad text"), BaseException("panic of a library")])
def test_a_request_fails_alone_and_the_thread_lives(engine, scripted, error) -> None:
    scripted.failing["poison"] = error
    held(engine, scripted)
    futures = [ask(engine, ["one"]), ask(engine, ["two", "poison"]), ask(engine, ["three"])]
    scripted.go.set()
    np.testing.assert_array_equal(futures[0].result(5), expected(scripted, ["one"]))
    np.testing.assert_array_equal(futures[2].result(5), expected(scripted, ["three"]))
    with pytest.raises(Exception, match=str(error)):
        futures[1].result(5)
    assert engine.alive
    assert len(ask(engine, ["after"]).result(5)) == 1


def test_a_failed_request_of_many_batches_leaves_nothing_behind(engine, scripted, smallest_batches) -> None:
    scripted.failing["poison"] = ValueError("bad")
    held(engine, scripted)
    future = engine.submit(["poison"] + ["x"] * 20, [MIN_BATCH_TOKENS] * 21, lane="bulk", prompt=None)
    scripted.go.set()
    with pytest.raises(ValueError, match="bad"):
        future.result(5)
    ask(engine, ["after"]).result(5)
    assert engine.waiting_seconds("bulk") == 0
    assert len(scripted.batches) <= 4


def test_out_of_memory_is_retried_in_halves(engine, scripted) -> None:
    scripted.room_for = 3
    held(engine, scripted)
    futures = [ask(engine, [f"text {n}"]) for n in range(10)]
    scripted.go.set()
    for n, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(5), expected(scripted, [f"text {n}"]))
    assert engine.metrics.halved._value.get() == 3


def test_one_text_that_is_too_large_fails_alone(engine, scripted) -> None:
    scripted.failing["huge"] = MemoryError()
    held(engine, scripted)
    futures = [ask(engine, ["small"]), ask(engine, ["huge"])]
    scripted.go.set()
    futures[0].result(5)
    with pytest.raises(MemoryError):
        futures[1].result(5)


def test_vectors_that_are_none_are_an_error(engine, scripted, monkeypatch) -> None:
    monkeypatch.setattr(scripted, "encode", lambda texts, **_: np.full((len(texts), 3), np.nan))
    with pytest.raises(ApiError) as caught:
        ask(engine, ["x"]).result(5)
    assert caught.value.code == "encoder_failed"


def test_waiting_is_bounded_and_refusals_say_when_to_come_back(engine, scripted, smallest_batches) -> None:
    scripted.seconds = 0.01
    for _ in range(5):
        ask(engine, ["x"], tokens=MIN_BATCH_TOKENS).result(5)  # some 50,000 tokens a second
    held(engine, scripted)
    engine.max_wait = 1.0
    accepted = []
    try:
        while len(accepted) < 1000:
            accepted.append(ask(engine, ["x"], tokens=MIN_BATCH_TOKENS))
    except OverloadedError as error:
        refusal = error
    assert 30 < len(accepted) < 200
    assert refusal.status == 429
    assert int(refusal.headers["Retry-After"]) >= 1
    ask(engine, ["q"], lane="query")  # bulk does not hold up queries, so it does not refuse them either
    for future in accepted:
        future.cancel()
    ask(engine, ["y"])  # what was cancelled waits no longer


def test_bulk_that_waits_its_turns_behind_queries_is_counted_by_the_clock(engine, scripted, smallest_batches) -> None:
    """Nine batches run for one of bulk: who comes then waits nine times as long, and is told so."""
    scripted.seconds = 0.01
    ask(engine, ["warm"], tokens=256).result(10)
    alone = engine.waiting_seconds("bulk", 2560)
    held(engine, scripted)
    queries = [ask(engine, [f"q{i}"], lane="query", tokens=256) for i in range(60)]
    bulk = ask(engine, [f"b{i}" for i in range(6)], tokens=256)
    scripted.go.set()
    bulk.result(20)
    assert engine.waiting_seconds("bulk", 2560) > 3 * alone
    for each in queries:
        each.result(20)
    assert engine.waiting_seconds("query", 2560) < 2 * alone


def test_waiting_is_bounded_before_any_speed_is_known(engine, scripted) -> None:
    engine.max_wait = 1.0
    held(engine, scripted)
    ask(engine, ["large"], tokens=2000)
    with pytest.raises(OverloadedError) as refused:
        ask(engine, ["more"], tokens=2000)
    assert refused.value.retry_after >= 1
    scripted.go.set()


def test_a_stuck_engine_is_seen(engine, scripted) -> None:
    assert not engine.stuck(0.05)
    held(engine, scripted)
    time.sleep(0.1)
    assert engine.stuck(0.05)
    assert not engine.stuck(60)
    scripted.go.set()


def test_closing_tells_those_who_wait(scripted) -> None:
    engine = Engine(lambda: scripted).start()
    engine.loaded.result(5)
    held(engine, scripted)
    future = ask(engine, ["waits"])
    closer = threading.Thread(target=engine.close)
    closer.start()
    time.sleep(0.05)
    scripted.go.set()
    with pytest.raises(ApiError, match="stopping"):
        future.result(5)
    closer.join(5)
    with pytest.raises(ApiError, match="stopping"):
        ask(engine, ["late"])


def test_an_encoder_that_cannot_be_loaded_is_told(caplog) -> None:
    def fail() -> None:
        raise OSError("no such file: /secret/place")

    engine = Engine(fail, name="broken").start()
    with pytest.raises(OSError, match="secret"):
        engine.loaded.result(5)
    with pytest.raises(ApiError) as caught:
        _ = engine.encoder
    assert caught.value.status == 503
    assert "/secret" not in caught.value.message
    assert "broken" in caplog.text
    engine.close()
