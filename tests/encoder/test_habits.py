"""What people who know sentence-transformers type, with every kind of encoder."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from llm2comp_apps.encoder import base, load_encoder
from llm2comp_apps.encoder.backends import onnx_encoder
from llm2comp_apps.errors import UsageError

pandas = pytest.importorskip("pandas")
TEXTS = ["Cells divide.", "Bread rises because yeast makes gas.", "Cats sleep."]


@pytest.fixture(scope="module", params=["torch", "onnx", "baseline", "st"])
def encoder(request, tiny_encoder_dir, tmp_path_factory):
    if request.param == "baseline":
        return load_encoder(f"baseline:lt@{tiny_encoder_dir}/../backbone", device="cpu")
    if request.param == "st":
        pytest.importorskip("sentence_transformers")
        return load_encoder(f"st:{static_model(tmp_path_factory.mktemp('st'))}", device="cpu")
    return load_encoder(str(tiny_encoder_dir), device="cpu", backend=request.param)


def static_model(folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *dict.fromkeys(" ".join(TEXTS).replace(".", " .").split())]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")
    model.save(str(folder))
    return folder


def test_one_text_gives_one_vector(encoder):
    vector = encoder.encode(TEXTS[0])
    assert vector.shape == (encoder.dimension,)
    np.testing.assert_allclose(vector, encoder.encode([TEXTS[0]])[0], atol=1e-6)


@pytest.mark.parametrize("kind", [tuple, np.array, pandas.Series, iter])
def test_whatever_can_be_gone_through_in_order_is_a_list(encoder, kind):
    np.testing.assert_array_equal(encoder.encode(kind(TEXTS)), encoder.encode(TEXTS))


@pytest.mark.parametrize("nothing", [None, 7])
def test_nothing_is_one_clear_line(encoder, nothing):
    with pytest.raises(UsageError, match=r"^texts must be a (text or a )?list of texts, not (None|a int)$"):
        encoder.encode(nothing)


def test_queries_and_documents_get_their_prompts(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "prompts", {"query": "Cats "})
    np.testing.assert_allclose(encoder.encode_query("sleep."), encoder.encode("Cats sleep."), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert not np.allclose(encoder.encode_query(TEXTS), encoder.encode(TEXTS), atol=1e-4)


def test_the_size_of_a_batch_changes_no_vector(encoder):
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=1), encoder.encode(TEXTS), atol=2e-2)


def test_a_batch_has_so_many_texts_and_not_more(tiny_encoder_dir, monkeypatch):
    found = []
    for module, backend in ((base, "torch"), (onnx_encoder, "onnx")):
        encoder = load_encoder(str(tiny_encoder_dir), device="cpu", backend=backend)
        dealt = module.dealt

        def watched(run, batches, threads, dealt=dealt):
            found.append(max(map(len, batches)))
            return dealt(run, batches, threads)

        monkeypatch.setattr(module, "dealt", watched)
        encoder.encode(["of one length"] * 7)
        encoder.encode(["of one length"] * 7, batch_size=3)
    assert found == [7, 3, 7, 3]


def test_a_batch_of_nothing_is_refused(encoder):
    with pytest.raises(UsageError, match=r"^batch_size must be at least 1, not 0$"):
        encoder.encode(TEXTS, batch_size=0)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_batch_without_tokens_and_an_empty_window_are_refused(tiny_encoder_dir, backend):
    encoder = load_encoder(str(tiny_encoder_dir), device="cpu", backend=backend)
    with pytest.raises(UsageError, match=r"^tokens_per_batch must be at least 1, not -1$"):
        encoder.encode(TEXTS, tokens_per_batch=-1)
    with pytest.raises(UsageError, match=r"^window must be at least 1, not 0$"):
        next(encoder.encode_stream(TEXTS, window=0))


def test_rows_are_scaled_unless_someone_wants_them_as_they_are(encoder):
    raw, unit = encoder.encode(TEXTS, normalize_embeddings=False), encoder.encode(TEXTS)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(lengths - 1).max() > 0.01
    np.testing.assert_allclose(raw / lengths, unit, atol=1e-5)


def test_similarity_is_the_cosine(encoder):
    raw, unit = encoder.encode(TEXTS, normalize_embeddings=False), encoder.encode(TEXTS)
    found = encoder.similarity(raw, unit)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-5)
    assert encoder.similarity(unit[0], unit).shape == (1, 3)


def test_it_moves_where_it_can_and_says_where_it_cannot(encoder):
    assert encoder.to("cpu") is encoder
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.to("cpu").encode(TEXTS))
    with pytest.raises(UsageError) as caught:
        encoder.to("cuda:99")
    assert caught.value.field == "device"


def test_it_pickles(encoder):
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.encode(TEXTS), encoder.encode(TEXTS))
    assert copy.fingerprint == encoder.fingerprint
