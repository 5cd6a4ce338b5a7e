"""Finding and reading datasets: forms, splits, samples, and what is said of a broken file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm2comp_apps.errors import CorpusError, EvaluationError, LLM2CompError
from llm2comp_apps.evaluation import load_suite
from llm2comp_apps.evaluation.datasets import RetrievalData
from llm2comp_apps.evaluation.discovery import discover, reported
from llm2comp_apps.evaluation.sampling import sample_pairs, sample_retrieval
from llm2comp_apps.evaluation.suites import DEV, NANO


def test_every_form_is_found_under_its_name(data):
    found = {name: task.category for name, task in discover(data).items()}
    assert found == {
        "library": "Retrieval",
        "library:train": "Retrieval",
        "likeness": "STS",
        "likeness:dev": "STS",
        "paraphrase": "PairClassification",
        "subject": "Classification",
        "groups": "Clustering",
        "answers_test": "Reranking",
    }
    assert [task.name for task in reported(discover(data).values())] == [
        "subject", "groups", "paraphrase", "answers_test", "library", "likeness"
    ]  # fmt: skip


def test_retrieval_joins_title_and_text_and_leaves_unjudged_queries_out(data):
    library = discover(data)["library"].load()
    assert len(library.corpus) == 40
    assert library.corpus["d2"].startswith("bread ")
    assert library.titles["d2"] == "bread"
    assert all(library.corpus[key].startswith(f"{title} ") for key, title in library.titles.items())
    assert set(library.queries) == {"q0", "q1", "q2", "q3"}
    assert discover(data)["library:train"].load().qrels == {"t0": {"d2": 2}}


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path, jsonl):
    folder = tmp_path / "odd"
    jsonl(folder / "corpus.jsonl", [{"_id": "007", "text": "bond"}])
    jsonl(folder / "queries.jsonl", [{"_id": "01", "text": "who"}])
    (folder / "qrels.tsv").write_text("01\t007\t1\n")  # a header is not required
    assert discover(tmp_path)["odd"].load() == RetrievalData({"007": "bond"}, {"01": "who"}, {"01": {"007": 1}})


def test_the_whole_set_is_reported_where_mteb_uses_it(tmp_path, jsonl):
    row = {"sentence1": "a", "sentence2": "b", "score": 1}
    for split in ("train", "test", "all_mteb"):
        jsonl(tmp_path / "sickr" / f"{split}.jsonl", [row])
    assert set(discover(tmp_path)) == {"sickr", "sickr:train", "sickr:test"}
    assert discover(tmp_path)["sickr"].settings["split"] == "all_mteb"


def test_emotion_has_mtebs_sixteen_examples_per_label(tmp_path, jsonl):
    for name in ("emotion", "other"):
        for split in ("train", "test"):
            jsonl(tmp_path / name / f"{split}.jsonl", [{"text": "x", "label": "joy"}])
    found = discover(tmp_path)
    assert (found["emotion"].samples_per_label, found["other"].samples_per_label) == (16, 8)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"a": 1}\n', r"x\.jsonl: fields \['a'\] fit no task"),
        ("x.jsonl", "", r"x\.jsonl: no rows"),
        ("x.txt", "words", "no dataset of a known form"),
    ],
)
def test_a_folder_without_a_known_form_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=message):
        discover(tmp_path)


def test_a_corpus_alone_is_no_task(data):
    for name in ("qrels.tsv", "train_qrels.tsv"):
        (data / "retrieval" / "library" / name).unlink()
    message = r"library: a corpus without queries\.jsonl and qrels\.tsv \(or qrels/test\.tsv\)"
    with pytest.warns(UserWarning, match=message):
        assert "library" not in discover(data)
    with pytest.raises(EvaluationError, match=message):
        load_suite("offline", data, ["library"])


@pytest.mark.parametrize(
    ("name", "text", "task", "message"),
    [
        ("sts/notes.jsonl", '{"foo": 1}\n', "notes", r"sts/notes\.jsonl: fields \['foo'\] fit no task"),
        ("sts/likeness/notes.jsonl", '{"foo": 1}\n', "notes", r"likeness/notes\.jsonl: fields \['foo'\] fit no task"),
        ("sts/likeness/train.jsonl", '{"foo": 1}\n', "likeness:train", r"likeness/train\.jsonl: fields"),
        ("sts/empty.jsonl", "", "empty", r"sts/empty\.jsonl: no rows"),
        ("sts/broken.jsonl", "{\n", "broken", r"sts/broken\.jsonl:1"),
        (
            "classification/half/test.jsonl",
            '{"text": "a", "label": "b"}\n',
            "half",
            r"half/test\.jsonl: rows of text and label, but no train\.jsonl beside it",
        ),
    ],
)
def test_a_stray_file_is_passed_over_unless_it_is_asked_for(data, name, text, task, message):
    there = set(discover(data))
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text(text)
    with pytest.warns(UserWarning, match=f"passed over .*{message}"):
        assert set(discover(data)) == there
    with pytest.warns(UserWarning, match="passed over"):
        assert [found.name for found in load_suite("offline", data, ["groups"])] == ["groups"]
    with pytest.raises(LLM2CompError, match=message):
        load_suite("offline", data, [task])


def test_beirs_own_folder_is_read(tmp_path, jsonl):
    folder = tmp_path / "beir"
    jsonl(folder / "corpus.jsonl", [{"_id": str(number), "title": "", "text": f"text {number}"} for number in range(4)])
    jsonl(folder / "queries.jsonl", [{"_id": f"q{number}", "text": "?", "metadata": {}} for number in range(3)])
    (folder / "qrels").mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        judged = f"query-id\tcorpus-id\tscore\nq{number}\t{number}\t1\n"
        (folder / "qrels" / f"{split}.tsv").write_text(judged)
    found = discover(tmp_path)
    assert set(found) == {"beir", "beir:train", "beir:dev"}
    assert found["beir"].load().qrels == {"q2": {"2": 1}}
    assert found["beir:train"].load().queries == {"q0": "?"}
    assert found["beir"].settings == {"data": "beir", "split": "test"}
    # Where both forms are there, they are one dataset, and the simple one counts.
    (folder / "qrels.tsv").write_text("q1\t1\t1\n")
    found = discover(tmp_path)
    assert set(found) == {"beir", "beir:train", "beir:dev"}
    assert found["beir"].load().qrels == {"q1": {"1": 1}}


def test_no_folder(tmp_path):
    with pytest.raises(EvaluationError, match="no such folder"):
        discover(tmp_path / "nothing")


def test_two_datasets_of_one_name_are_refused(data, jsonl):
    jsonl(data / "more" / "groups.jsonl", [{"text": "a", "label": "b"}])
    with pytest.raises(EvaluationError, match=r"two datasets are named 'groups' \(.*clustering.* and more"):
        discover(data)


@pytest.mark.parametrize(
    ("task", "path", "line", "message"),
    [
        ("likeness", "sts/likeness/test.jsonl", '{"sentence1": "a", "sentence2": "b", "score": "5"}',
         r"test\.jsonl:31: field 'score' must be a number, found '5'"),
        ("likeness", "sts/likeness/test.jsonl", '{"sentence1": "a", "score": 5}',
         r"test\.jsonl:31: field 'sentence2' must be a string, found None"),
        ("groups", "clustering/groups.jsonl", '{"text": "a", "label": [1]}',
         r"groups\.jsonl:61: field 'label' must be a string or an integer"),
        ("answers_test", "reranking/answers_test.jsonl", '{"query": "a", "positive": [], "negative": ["b"]}',
         r"answers_test\.jsonl:5: a query needs at least one positive"),
        ("answers_test", "reranking/answers_test.jsonl", '{"query": "a", "positive": "b", "negative": ["b"]}',
         r"answers_test\.jsonl:5: field 'positive' must be a list of strings"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_by_file_line_and_field(data, task, path, line, message):
    with (data / path).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EvaluationError, match=message):
        discover(data)[task].load()


def test_a_broken_line_is_the_corpus_readers_error(data):
    with (data / "clustering" / "groups.jsonl").open("a") as file:
        file.write('{"text": \n')
    with pytest.raises(CorpusError, match=r"groups\.jsonl:61"):
        discover(data)["groups"].load()


@pytest.mark.parametrize("line", ["q0\td0", "q0\td0\tmuch"])
def test_broken_judgements_are_named_by_line(data, line):
    with (data / "retrieval" / "library" / "qrels.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EvaluationError, match=r"qrels\.tsv:42: expected query-id<TAB>corpus-id<TAB>integer"):
        discover(data)["library"].load()


def test_judgements_of_other_queries_are_no_evaluation(data):
    (data / "retrieval" / "library" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nother\td0\t1\n")
    with pytest.raises(EvaluationError, match="none of its queries is judged"):
        discover(data)["library"].load()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 60), st.integers(1, 4))
def test_a_retrieval_sample_keeps_every_judged_document(queries, documents, judged):
    data = RetrievalData(
        {f"d{index}": "some words here" for index in range(50)},
        {f"q{index}": "?" for index in range(10)},
        {f"q{index}": {f"d{(index * 7 + number) % 50}": 1 for number in range(judged)} for index in range(10)},
        titles={f"d{index}": "some words here"[: 4 * index] for index in range(1, 50)},
    )
    sample = sample_retrieval(data, queries, documents, max_words=2)
    needed = {document for query in sample.queries for document in sample.qrels[query]}
    assert needed <= sample.corpus.keys()
    assert len(sample.queries) == min(queries, 10)
    assert len(sample.corpus) == max(len(needed), min(documents, 50))
    assert set(sample.corpus.values()) <= {"some words"}
    assert sample.titles.keys() == sample.corpus.keys() - {"d0"}
    assert all(sample.corpus[key].startswith(title) for key, title in sample.titles.items())
    assert sample == sample_retrieval(data, queries, documents, max_words=2)


def test_a_sample_of_pairs_keeps_rows_together(data):
    whole = discover(data)["likeness"].load()
    sample = sample_pairs(whole, 10)
    rows = set(zip(whole.first, whole.second, whole.gold, strict=True))
    assert len(sample.gold) == 10
    assert set(zip(sample.first, sample.second, sample.gold, strict=True)) <= rows


def test_suites_take_what_is_there(data):
    assert [task.name for task in load_suite("offline", data, ["library:train", "groups"])] == [
        "library:train",
        "groups",
    ]
    with pytest.raises(EvaluationError, match="no task 'grops'; there are answers_test, groups"):
        load_suite("offline", data, ["grops"])
    with pytest.raises(EvaluationError, match="none of the datasets of suite 'dev' is there"):
        load_suite("dev", data)
    with pytest.raises(
        EvaluationError, match="unknown suite 'nanos'; choose one of offline, core, nano, dev or poster"
    ):
        load_suite("nanos", data)


def test_nano_is_a_sample_and_says_so(data):
    (data / "sts" / "likeness").rename(data / "sts" / "stsbenchmark")
    (task,) = load_suite("nano", data)
    assert task.settings["sample"] == {**NANO["stsbenchmark"], "seed": 2026}


def test_dev_has_no_test_data():
    assert all(name.endswith((":dev", ":train")) for name in DEV)


THREE = [{"_id": "1", "text": "cells"}, {"_id": "2", "text": "bread"}, {"_id": "3", "text": "cats"}]
ASKED = [{"_id": "q1", "text": "cell"}, {"_id": "q2", "text": "loaf"}]
JUDGED = "q1\t1\t1\nq2\t2\t1\n"


def retrieval_set(jsonl, folder, *, corpus=THREE, queries=ASKED, qrels=JUDGED, encoding="utf-8"):
    jsonl(folder / "corpus.jsonl", corpus)
    jsonl(folder / "queries.jsonl", queries)
    (folder / "qrels.tsv").write_text(qrels, encoding=encoding)
    return discover(folder.parent)[folder.name]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"qrels": "q1\tdoc1\t1\nq2\tdoc2\t1\n"}, r"qrels\.tsv: none of its documents is in .*corpus\.jsonl"),
        ({"corpus": [*THREE, {"_id": 1, "text": "b"}]}, r"corpus\.jsonl:4: the id '1' already stands for another text"),
        ({"corpus": [*THREE, {"_id": "1", "title": "t", "text": "cells"}]}, r"corpus\.jsonl:4: the id '1' already"),
        ({"queries": [*ASKED, {"_id": "q2", "text": "b"}]}, r"queries\.jsonl:3: the id 'q2' already stands"),
        ({"qrels": JUDGED + "q1\t1\t0\n"}, r"qrels\.tsv:3: document '1' is judged 0 for query 'q1', and 1 before"),
        ({"corpus": [{"_id": 1.5, "text": "b"}]}, r"corpus\.jsonl:1: field '_id' must be a string or an integer"),
        ({"corpus": [{"_id": True, "text": "b"}]}, r"corpus\.jsonl:1: field '_id' must be a string or an integer"),
    ],
)
def test_ids_that_do_not_meet_or_stand_twice_are_refused(tmp_path, jsonl, broken, message):
    with pytest.raises(EvaluationError, match=message):
        retrieval_set(jsonl, tmp_path / "ids", **broken).load()


def test_the_same_row_again_changes_nothing(tmp_path, jsonl):
    once = retrieval_set(jsonl, tmp_path / "once").load()
    assert retrieval_set(jsonl, tmp_path / "twice", corpus=THREE * 2, qrels=JUDGED * 2).load() == once


def test_judgements_of_missing_documents_are_a_warning(tmp_path, jsonl):
    task = retrieval_set(jsonl, tmp_path / "part", qrels=JUDGED + "q1\tgone\t1\n")
    with pytest.warns(UserWarning, match=r"qrels\.tsv: 1 of 3 judged documents are not in .*, such as 'gone'"):
        task.load()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\n"])
def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path, jsonl, encoding, header):
    read = retrieval_set(jsonl, tmp_path / "bom", qrels=header + JUDGED, encoding=encoding).load()
    assert read.qrels == {"q1": {"1": 1}, "q2": {"2": 1}}


def test_empty_lines_and_any_names_of_columns_are_no_judgements(tmp_path, jsonl):
    qrels = f"qid\tdocid\trelevance\n\n{JUDGED}\n \n"
    assert retrieval_set(jsonl, tmp_path / "lines", qrels=qrels).load().qrels == {"q1": {"1": 1}, "q2": {"2": 1}}


def test_linked_folders_are_searched_once(tmp_path, jsonl):
    inside, outside = tmp_path / "data", tmp_path / "elsewhere"
    retrieval_set(jsonl, inside / "whole")
    retrieval_set(jsonl, outside / "original")
    (inside / "again").symlink_to(inside / "whole")
    (inside / "linked").symlink_to(outside / "original")
    (outside / "original" / "up").symlink_to(inside)
    assert set(discover(inside)) == {"whole", "linked"}


def test_splits_that_are_not_reported_are_named_where_nothing_else_is_there(tmp_path, jsonl):
    jsonl(tmp_path / "pairs" / "dev.jsonl", [{"sentence1": "a", "sentence2": "b", "score": 1}])
    with pytest.raises(EvaluationError, match=r"none of the datasets of suite 'offline' .*; name one of pairs:dev as"):
        load_suite("offline", tmp_path)


def test_an_id_holds_any_character_but_tab_and_line_end(tmp_path, jsonl):
    odd = "a\u2028b\x85c"
    read = retrieval_set(jsonl, tmp_path / "odd", corpus=[{"_id": odd, "text": "x"}], qrels=f"q1\t{odd}\t1\r\n").load()
    assert read.qrels == {"q1": {odd: 1}}


def test_integers_are_ids_in_every_file(tmp_path, jsonl):
    corpus = [{**row, "_id": int(row["_id"])} for row in THREE]
    queries = [{"_id": 7, "text": "cell"}, {"_id": 2**60 + 1, "text": "loaf"}]
    read = retrieval_set(
        jsonl, tmp_path / "numbers", corpus=corpus, queries=queries, qrels=f"7\t1\t1\n{2**60 + 1}\t2\t1\n"
    ).load()
    assert list(read.corpus) == ["1", "2", "3"]
    assert list(read.queries) == ["7", str(2**60 + 1)]


@pytest.mark.parametrize(
    ("name", "document", "grade", "is_itself"),
    [
        ("debates", {"text": "cell"}, None, True),
        ("debates", {"title": "Biology", "text": "cell"}, None, True),
        ("debates", {"text": "cell"}, 0, True),
        ("debates", {"text": "cell"}, 1, False),  # a set that wants the query itself says so
        ("debates", {"text": "another text"}, None, False),  # numbers that happen to agree
        ("ArguAna", {"text": "another text"}, None, True),
        ("msmarco", {"text": "another text"}, 1, True),
        ("climate-fever", {"text": "another text"}, None, False),
    ],
)
def test_a_query_that_stands_in_the_corpus_is_known(tmp_path, jsonl, name, document, grade, is_itself):
    qrels = JUDGED + ("" if grade is None else f"q1\tq1\t{grade}\n")
    read = retrieval_set(jsonl, tmp_path / name, corpus=[*THREE, {"_id": "q1", **document}], qrels=qrels).load()
    assert read.in_corpus == (frozenset({"q1"}) if is_itself else frozenset())
    sample = sample_retrieval(read, queries=2, documents=4)
    assert sample.in_corpus == read.in_corpus
