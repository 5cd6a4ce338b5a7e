"""Settings of a collection as numpy and pathlib have them, and such as are none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from llm2comp_indexes import IndexStoreError

from llm2comp_apps import Collection, Document, UsageError, load_encoder


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"chunk": "64"}, "chunk"),
        ({"chunk": 64, "overlap": None}, "overlap"),
        ({"chunk": 64.0}, "chunk"),
        ({"language": None}, "language"),
        ({"target_recall": "0.9"}, "target_recall"),
        ({"target_recall": None}, "target_recall"),
        ({"max_ram": "1 GB"}, "max_ram"),
        ({"max_ram": float("nan")}, "max_ram"),
        ({"encoder": None}, "encoder"),
        ({"encoder": 5}, "encoder"),
    ],
)
def test_a_setting_of_another_type_is_named_and_leaves_nothing_behind(tmp_path, hash_encoder, settings, field):
    with pytest.raises((UsageError, IndexStoreError)) as refused:
        Collection.create(tmp_path / "x.index", **{"encoder": hash_encoder, **settings})
    assert refused.value.field == field
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_numbers(tmp_path, hash_encoder):
    settings = {"chunk": np.int64(64), "overlap": np.int32(8), "memory": np.bool_(True)}
    policy = {"target_recall": np.float32(0.5), "max_ram": np.int64(2**30)}
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder, **settings, **policy) as library:
        library.update([Document("a", "Cells divide.")])
        assert library.index.settings["max_ram"] == 2**30
        library.compact(max_ram=np.int64(2**20), target_recall=np.float64(0.75))
    with Collection.open(tmp_path / "x.index", encoder=hash_encoder) as library:
        assert (library.plan.chunk, library.plan.overlap, library.plan.memory) == (64, 8, True)
        assert (library.index.settings["max_ram"], library.index.settings["target_recall"]) == (2**20, 0.75)
        for wrong in ({"target_recall": "1"}, {"max_ram": "1"}):
            with pytest.raises((UsageError, IndexStoreError)) as refused:
                library.compact(**wrong)
            assert refused.value.field in wrong


def test_the_path_of_an_encoder_is_its_name(tmp_path, tiny_encoder_dir):
    with Collection.create(tmp_path / "x.index", encoder=tiny_encoder_dir) as library:
        library.update([Document("a", "Cells divide.")])
    both = {"encoder": tiny_encoder_dir, "query_encoder": tiny_encoder_dir}
    with Collection.open(tmp_path / "x.index", **both) as library:
        assert [hit.id for hit in library.search("cells")] == ["a"]
        assert load_encoder(tiny_encoder_dir).fingerprint == library.encoder.fingerprint
    for name in both:
        with pytest.raises(UsageError, match="must be an encoder or the name of one, not 5") as refused:
            Collection.open(tmp_path / "x.index", **{name: 5})
        assert refused.value.field == name
    with pytest.raises(UsageError, match="must be the name of one, not None"):
        load_encoder(None)


def test_a_copy_is_closed_for_itself(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update([Document("a", "Cells divide.")])
        with copy.copy(library) as copied:
            assert copied.encoder is library.encoder
            assert [hit.id for hit in copied.search("cells")] == ["a"]
        assert [hit.id for hit in library.search("cells")] == ["a"]
