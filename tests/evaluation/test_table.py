"""The table: kept cells, interruptions, rows that cannot be loaded."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.encoder.progress import EncodingProgress, tell_watcher, watch_encoding
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.evaluation import load_suite
from llm2comp_apps.evaluation.bm25 import Bm25Ranker
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.table import System, TableOptions, fill_table, parse_systems


@pytest.fixture
def fill(data, tmp_path, make_hash_encoder):
    """Fills a table of two encoders and BM25; returns it and which cells were kept."""
    encoders = {"a": make_hash_encoder(), "b": make_hash_encoder(seed="b"), "bm25": Bm25Ranker()}

    def run(specs=("a", "b", "bm25"), options=None, on_cell=None):
        kept = {}

        def note(system, result, was_kept):
            kept[system.label, result.task] = was_kept
            if on_cell:
                on_cell(system, result)

        table = fill_table(
            parse_systems(specs), load_suite("offline", data), tmp_path / "out", encoders.__getitem__, options, note
        )
        return table, kept

    run.encoders = encoders
    return run


def test_a_second_run_computes_nothing_and_says_the_same(fill):
    first, kept = fill()
    assert not any(kept.values())
    calls = [fill.encoders[name].calls for name in "ab"]
    second, kept = fill()
    assert all(kept.values())
    assert [fill.encoders[name].calls for name in "ab"] == calls
    for label, row in first.cells.items():
        for task, result in row.items():
            again = second.cells[label][task]
            assert again.scores == result.scores
            assert again.units == pytest.approx(result.units, abs=1e-7)


def test_bm25_fills_only_the_retrieval_cells(fill):
    table, _ = fill()
    assert set(table.cells["bm25"]) == {"library"}
    assert table.cells["bm25"]["library"].main_score > 0.8


def test_an_interrupted_table_goes_on_where_it_stopped(fill):
    def stop(system, result):
        if (system.label, result.task) == ("b", "groups"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(on_cell=stop)
    _, kept = fill()
    # Rows go by category: library, answers_test and groups of b were done, the others not.
    assert [task for (label, task), was in kept.items() if label == "b" and was] == [
        "library",
        "answers_test",
        "groups",
    ]
    assert all(was for (label, _), was in kept.items() if label == "a")


def test_a_changed_encoder_prompt_or_setting_is_measured_again(fill, make_hash_encoder):
    fill(["a"])
    _, kept = fill(["a"], TableOptions(prompt_overrides={"STS": "like: "}))
    assert [task for (_, task), was in kept.items() if not was] == ["likeness"]
    fill.encoders["a"] = make_hash_encoder(seed="retrained")
    _, kept = fill(["a"])
    assert not any(kept.values())


def test_changed_data_are_measured_again(fill, data):
    before, _ = fill(["a"])
    (path,) = data.rglob("library/qrels.tsv")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    _, kept = fill(["a"])
    assert {task for (_, task), was_kept in kept.items() if not was_kept} == {"library"}
    assert len(before.cells["a"]) > 1


def test_only_one_encoder_is_in_memory_at_a_time(data, tmp_path, make_hash_encoder):
    alive = weakref.WeakSet()

    def load(spec):
        gc.collect()
        assert not alive
        encoder = make_hash_encoder(seed=spec)
        alive.add(encoder)
        return encoder

    table = fill_table(parse_systems(["x", "y"]), load_suite("offline", data), tmp_path / "out", load)
    assert len(table.systems) == 2


def test_without_a_cache_no_embeddings_are_written(fill, tmp_path):
    fill(["a"], TableOptions(keep_embeddings=False))
    assert not (tmp_path / "out" / "embeddings").exists()


def test_a_row_that_cannot_be_loaded_does_not_stop_the_others(data, tmp_path, hash_encoder):
    def load(spec):
        if spec == "broken":
            raise EncoderError("broken: the adapter does not fit")
        return hash_encoder

    tasks = load_suite("offline", data, ["groups"])
    table = fill_table(parse_systems(["broken", "good"]), tasks, tmp_path, load)
    assert table.failures == ["broken: broken: the adapter does not fit"]
    assert table.systems == [System("good", "good")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda _: "null",
        lambda _: "[]",
        lambda text: json.dumps({**json.loads(text), "result": {}}),
        lambda text: text.replace('"seconds":', '"of a later version": 1, "seconds":'),
    ],
)
def test_a_damaged_cell_is_computed_again(damage, fill, tmp_path):
    first, _ = fill(["a"])
    path = tmp_path / "out" / "results" / "a" / "groups.json"
    path.write_text(damage(path.read_text()))
    again, kept = fill(["a"])
    assert [task for (_, task), was in kept.items() if not was] == ["groups"]
    assert again.cells["a"]["groups"].scores == first.cells["a"]["groups"].scores


@pytest.mark.parametrize("letter", ["x", "語"])
def test_labels_of_any_length_have_results_of_their_own(letter, fill):
    rows = [f"{letter * 300}{end}=a" for end in "12"]
    first, kept = fill(rows)
    assert not first.failures
    assert not any(kept.values())
    _, kept = fill(rows)
    assert all(kept.values())


def test_a_failing_cell_is_named_and_the_rest_of_its_row_goes_on(fill, data):
    encode = fill.encoders["a"].encode

    def nan_for_pairs(texts, *, prompt=None, show_progress=False):
        return encode(texts, prompt=prompt) * (np.nan if prompt == "like: " else 1)

    fill.encoders["a"].encode = nan_for_pairs
    with (data / "clustering" / "groups.jsonl").open("a") as file:
        file.write('{"text": \n')
    table, _ = fill(["a", "b"], TableOptions(prompt_overrides={"Retrieval": "like: "}))
    # Retrieval and clustering come before the others.
    assert set(table.cells["a"]) == {"answers_test", "paraphrase", "subject", "likeness"}
    assert set(table.cells["b"]) == {"library", "answers_test", "paraphrase", "subject", "likeness"}
    first, second, third = table.failures
    assert first.startswith("a, library: encoder hash returned")
    assert second.startswith("a, groups: ")
    assert "groups.jsonl:61" in second
    assert third.startswith("b, groups: ")


def test_cells_from_before_pairs_were_kept_are_computed_again(fill, tmp_path):
    fill(["a"])
    for path in (tmp_path / "out" / "results" / "a").glob("*.json"):
        cell = json.loads(path.read_text())
        del cell["result"]["pairs"]
        path.write_text(json.dumps(cell))
    table, kept = fill(["a"])
    assert [task for (_, task), was in kept.items() if not was] == ["paraphrase", "likeness"]
    again, kept = fill(["a"])
    assert all(kept.values())
    pairs = again.cells["a"]["likeness"].pairs
    assert pairs["score"] == pytest.approx(table.cells["a"]["likeness"].pairs["score"], abs=1e-7)
    assert len(pairs["gold"]) == 30


def test_labels():
    assert parse_systems(["kl=runs/kl", "st:org/model", "baseline:wmp", "out/a=b"]) == [
        System("kl", "runs/kl"),
        System("st:org/model", "st:org/model"),
        System("baseline:wmp", "baseline:wmp"),
        System("out/a=b", "out/a=b"),
    ]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "nothing to evaluate"),
        (["=x"], "expected NAME or LABEL=NAME"),
        (["a", "a=b"], "two rows are called 'a'"),
        (["a", "baseline:wpm"], "baseline 'wpm' is unknown; choose one of lt, wmp, "),
        (["a=baseline:lt@"], "after the @ comes a backbone"),
    ],
)
def test_labels_that_mean_nothing_are_refused(specs, message):
    with pytest.raises(UsageError, match=message):
        parse_systems(specs)


@given(st.dictionaries(st.text(), st.floats(0, 1), min_size=1), st.lists(st.floats(0, 1)))
def test_results_survive_json(scores, units):
    main = next(iter(scores))
    result = TaskResult("e", "f", "t", "STS", main, scores, units, {"pairs": 3}, {"query": ""}, {"seed": 1}, 1.5)
    again = TaskResult.from_json(json.loads(json.dumps(result.to_json())))
    assert again.scores == scores
    assert again.main_score == scores[main]
    assert again.units == pytest.approx(units, abs=1e-7)


class Clocked:
    """Takes as long as its texts have words and memory tokens, in batches of at most eight texts."""

    name, fingerprint, dimension, k = "clocked", "c10c7ed", 32, 8

    def __init__(self, inner):
        self.prompts, self.inner, self.time = {}, inner, 0.0

    def encode(self, texts, *, prompt=None, show_progress=False):
        sizes = [len(text) // 4 + self.k for text in texts]

        def batches():
            for start in range(0, len(texts), 8):
                rows = list(range(start, min(start + 8, len(texts))))
                self.time += sum(sizes[row] for row in rows)
                yield rows

        list(tell_watcher(batches(), sizes))
        return self.inner.encode(texts, prompt=prompt)

    def encode_stream(self, texts, *, prompt=None):
        yield self.encode(list(texts), prompt=prompt)


@pytest.mark.parametrize("keep", [True, False])
def test_one_estimate_over_all_tasks_is_right_after_a_tenth_of_the_work(keep, data, tmp_path, hash_encoder):
    corpus = data / "retrieval" / "long" / "corpus.jsonl"  # documents of very unequal length, and first
    corpus.parent.mkdir()
    corpus.write_text("".join(json.dumps({"_id": f"{n}", "text": "word " * n**2}) + "\n" for n in range(1, 25)))
    (corpus.parent / "queries.jsonl").write_text('{"_id": "q", "text": "which word"}\n')
    (corpus.parent / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    encoder, told = Clocked(hash_encoder), []
    options = TableOptions(keep_embeddings=keep)
    with watch_encoding(lambda progress: told.append((encoder.time, progress))):
        fill_table(parse_systems(["x"]), load_suite("offline", data), tmp_path, lambda _: encoder, options)
    assert told[0] == (0.0, EncodingProgress(done=0, total=told[-1][1].total, fraction=0.0))
    assert told[-1][1].fraction == 1
    assert told[-1][1].done == told[-1][1].total
    assert len({progress.total for _, progress in told}) == 1, "one piece of work"
    ratios = [time / progress.fraction / encoder.time for time, progress in told if time >= encoder.time / 10]
    assert len(ratios) > 10
    assert 1 / 1.5 < min(ratios) <= max(ratios) < 1.5


def test_a_table_that_is_continued_expects_what_is_left(data, tmp_path, hash_encoder):
    encoder = Clocked(hash_encoder)

    def filled(*names):
        told = []
        with watch_encoding(told.append):
            fill_table(parse_systems(["x"]), load_suite("offline", data, names), tmp_path, lambda _: encoder)
        return told

    first = filled("likeness")[0].total
    rest = filled()[0].total
    shutil.rmtree(tmp_path / "results")
    assert filled() == [], "all embeddings are kept"
    for folder in ("embeddings", "results"):
        shutil.rmtree(tmp_path / folder)
    assert filled()[0].total > max(first, rest)
