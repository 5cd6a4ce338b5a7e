"""A collection over several indexes."""

from __future__ import annotations

import pytest
from llm2comp_indexes import InputError

from llm2comp_apps import Collection, Document, UsageError, open_shards

TOPICS = ["cells divide by mitosis", "stars are born in clouds", "bread rises by yeast", "ships float on water"]


def documents(count):
    return [
        Document(f"d{number}", f"{TOPICS[number % 4]} note {number} " * (1 + number % 5), metadata={"year": number})
        for number in range(count)
    ]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_hits_are_those_of_one_collection(tmp_path, hash_encoder, mode):
    every = documents(90)
    with Collection.create(tmp_path / "one.index", encoder=hash_encoder, memory=True) as one:
        one.update(every)
        paths = []
        for number, (start, stop) in enumerate([(0, 20), (20, 25), (25, 90)]):
            paths.append(tmp_path / f"{number}.index")
            with Collection.create(paths[-1], encoder=hash_encoder, memory=True) as part:
                part.update(every[start:stop])
        with open_shards(paths, encoder=hash_encoder) as several:
            assert len(several) == 90
            for query in ("how do cells divide", "clouds note 17", "water"):
                for settings in ({}, {"where": "year >= 30"}, {"rerank": "memory"}):
                    found = several.search(query, k=7, mode=mode, **settings)
                    expected = one.search(query, k=7, mode=mode, **settings)
                    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=2e-6)
                    last = expected[-1].score * (1 + 1e-5)  # of equal ones, those that were added first are there
                    above = [{hit.id for hit in hits if hit.score > last} for hits in (found, expected)]
                    assert above[0] == above[1]
                    assert found[0].snippet.text
            assert [hit.id for hit in several.similar("d50", k=3)] == [hit.id for hit in one.similar("d50", k=3)]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_passages_are_those_of_one_collection(tmp_path, hash_encoder, mode):
    every = [
        Document(f"d{number}", " ".join(f"{topic} note {number} word{number * place}" for place in range(8)))
        for number, topic in enumerate(TOPICS * 5)
    ]
    with Collection.create(tmp_path / "one.index", encoder=hash_encoder, chunk=16) as one:
        one.update(every)
        paths = [tmp_path / "a.index", tmp_path / "b.index"]
        for path, documents in zip(paths, (every[:7], every[7:]), strict=True):
            with Collection.create(path, encoder=hash_encoder, chunk=16) as part:
                part.update(documents)
        with open_shards(paths, encoder=hash_encoder) as several:
            found = several.search("how do cells divide", k=9, mode=mode, passages=True)
            expected = one.search("how do cells divide", k=9, mode=mode, passages=True)
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=2e-6)
            assert all(hit.span is not None for hit in found)


def test_what_is_not_for_several_indexes_is_told_in_a_line(tmp_path, hash_encoder):
    paths = [tmp_path / "a.index", tmp_path / "b.index"]
    for number, path in enumerate(paths):
        with Collection.create(path, encoder=hash_encoder) as part:
            part.update([Document(f"d{number}", "gas")])
    with open_shards(paths, encoder=hash_encoder) as several:
        with pytest.raises(InputError, match=r"write to them one by one"):
            several.compact()
        assert several.verify() == []
        damaged = next((paths[1] / "segments").glob("*/vectors*"))
        damaged.write_bytes(bytes(len(damaged.read_bytes())))
        assert several.verify()
    for one in (str(paths[0]), paths[0]):
        with pytest.raises(UsageError, match=r"^shards must be a list of folders, not one; write \["):
            open_shards(one)
    again = paths[0].parent / "." / paths[0].name
    with pytest.raises(UsageError, match=r"^shards names .*a\.index twice$"):
        open_shards([*paths, str(again)], encoder=hash_encoder)
