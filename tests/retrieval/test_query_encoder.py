"""Searching an index with the queries of an encoder that was aligned to the index's own."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, Document, EncoderError, load_encoder
from llm2comp_apps.encoder.names import identity_of
from llm2comp_apps.retrieval.search import Searcher

TEXTS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
}


@pytest.fixture
def path(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "library.index", encoder=hash_encoder, memory=True) as made:
        made.update([Document(name, text) for name, text in TEXTS.items()])
    return made.path


@pytest.fixture
def small(make_hash_encoder, hash_encoder):
    """Gives the vectors of the index's encoder, and says that it was aligned to it."""
    encoder = make_hash_encoder()
    encoder.name, encoder.fingerprint = "small", "of-the-small-one"
    encoder.space = {"name": hash_encoder.name, "fingerprint": hash_encoder.fingerprint}
    return encoder


def test_queries_of_an_aligned_encoder_find_and_the_other_is_not_loaded(path, small, monkeypatch):
    loaded = []
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: loaded.append(name) or small)
    with Collection.open(path, query_encoder="small") as library:
        assert library.search("how do cells divide", k=1, mode="lexical")[0].id == "cells"
        assert loaded == []
        assert library.search("how do cells divide", k=1, mode="dense")[0].id == "cells"
        assert library.search_batch(["stars of gas"], k=1)[0][0].id == "stars"
        assert library.encode_query("bread").shape == (small.dimension,)
        assert library.query_encoder is small
    assert loaded == ["small"]


def test_documents_and_memory_take_the_encoder_of_the_index(path, small, hash_encoder):
    with Collection.open(path, encoder=hash_encoder, query_encoder=small) as library:
        assert library.search("cells divide", k=1, rerank="memory")[0].id == "cells"
        library.update([Document("ships", "Ships float because they displace water.")])
        assert library.encoder is hash_encoder
        assert library.search("ships float", k=1)[0].id == "ships"
    with (
        Collection.open(path, encoder=small) as library,
        pytest.raises(EncoderError, match=r"the second as the `query_e"),
    ):
        library.update([Document("more", "Another one.")])


def test_an_encoder_of_another_space_is_refused_by_name(path, small, hash_encoder):
    small.space = {"name": "other", "fingerprint": "of-another-one"}
    with Collection.open(path, query_encoder=small) as library:
        with pytest.raises(EncoderError, match=rf"built with the encoder {hash_encoder.name} .* not with small"):
            library.search("cells")
        with pytest.raises(EncoderError, match="one that was aligned to it"):
            Searcher(library.index, small)


def test_an_encoder_that_changed_under_its_name_is_told_apart(hash_encoder, make_hash_encoder, tmp_path):
    """To search with "the first" helps nobody where both have one name."""
    path = tmp_path / "same.index"
    with Collection.create(path, encoder=hash_encoder) as library:
        library.update([Document("a", "cells divide")])
    later = make_hash_encoder()
    later.fingerprint = "of-the-later-one"
    with Collection.open(path, encoder=later) as library, pytest.raises(EncoderError, match="build the index again"):
        library.search("cells")


def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_loaded(path, hash_encoder, monkeypatch):
    """To make one ready for the processor takes half a minute the first time."""

    def load(name, device=None):
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", load)
    refused = rf"built with the encoder {hash_encoder.name} .* not with llm2comp-smollm2-135m "
    with Collection.open(path, encoder="quality") as library, pytest.raises(EncoderError, match=refused):
        library.search("cells", mode="dense")
    with Collection.open(path, query_encoder="quality") as library, pytest.raises(EncoderError, match=refused):
        library.search("cells", mode="dense")


def test_the_identity_of_a_checkpoint_is_that_of_the_loaded_encoder():
    loaded, known = load_encoder("default"), identity_of("default")
    assert (known.name, known.fingerprint, known.space) == (loaded.name, loaded.fingerprint, loaded.space)
    assert identity_of("default@first").fingerprint == load_encoder("default@first").fingerprint != known.fingerprint
    assert identity_of("st:some/model") is identity_of("somebody/some-encoder") is None


def test_an_encoder_that_was_an_object_is_named_where_it_is_not_given(tmp_path, make_hash_encoder):
    own = make_hash_encoder()
    own.name = "my-own"
    with Collection.create(tmp_path / "own.index", encoder=own) as library:
        library.update([Document("a", "gas")])
    with Collection.open(tmp_path / "own.index") as library:
        with pytest.raises(EncoderError, match=r"was built by the encoder my-own, given as an object"):
            library.search("gas")
        assert library.search("gas", mode="lexical")
