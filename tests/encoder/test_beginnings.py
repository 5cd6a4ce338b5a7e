"""Beginnings of texts give the very tokens that the whole texts give, whatever splits them."""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import llm2comp_apps.encoder
from llm2comp_apps.encoder import beginnings
from llm2comp_apps.encoder.backends.onnx_encoder import TextTokenizer
from llm2comp_apps.encoder.beginnings import first_ids, of_beginnings

LEARNED = ["the cells divide in 2024, and 1234567 others don't; so they say", "naïve cafés  sell\n\ntea, (and) coffee"]
DEFAULT = Path(llm2comp_apps.encoder.__file__).parent / "pretrained" / "smollm2-135m-light" / "graph" / "tokenizer.json"


def learned(pre_tokenizer, normalizer=None, model=models.BPE, trainer=trainers.BpeTrainer) -> Tokenizer:
    found = Tokenizer(model(unk_token="<unk>") if model is models.BPE else model())
    if pre_tokenizer is not None:
        found.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        found.normalizer = normalizer
    special = {"special_tokens": ["<unk>", "<s>", "</s>"], "vocab_size": 200, "show_progress": False}
    found.train_from_iterator(LEARNED, trainer(**special, **({} if model is models.BPE else {"unk_token": "<unk>"})))
    found.decoder = decoders.ByteLevel()
    return found


def with_both_ends(found: Tokenizer) -> Tokenizer:
    places = [(name, found.token_to_id(name)) for name in ("<s>", "</s>")]
    found.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=places)
    return found


THREES = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(\d{3})*\b)"), "isolated")
"""Digits in threes from their end, so that what follows decides how a number begins."""
KINDS = {
    "bytes": learned(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "ends": with_both_ends(learned(pre_tokenizers.ByteLevel(add_prefix_space=True))),
    "digits": learned(pre_tokenizers.Sequence([THREES, pre_tokenizers.ByteLevel(add_prefix_space=False)])),
    "words": learned(pre_tokenizers.Whitespace(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])),
    "pieces": learned(pre_tokenizers.Metaspace(), model=models.Unigram, trainer=trainers.UnigramTrainer),
    "unsplit": learned(None, normalizers.Replace(" ", "▁")),
    "default": Tokenizer.from_file(str(DEFAULT)),
}


@cache
def text_tokenizer(kind: str) -> TextTokenizer:
    """That of the light runtime, which reads a file."""
    with tempfile.TemporaryDirectory() as folder:
        KINDS[kind].save(f"{folder}/tokenizer.json")
        return TextTokenizer(Path(folder) / "tokenizer.json")


WORDS = st.one_of(
    st.text("abcdeht", min_size=1, max_size=12),
    st.text("0123456789", min_size=1, max_size=14),
    st.text(min_size=1, max_size=6),
    st.sampled_from(["don't", "e\u0301", "<s>", "x" * 300, "日本語の文章", ",", "\n"]),
)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", " ", " ", "  ", "\n\n", "\t ", ""])), max_size=80).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), limit=st.integers(3, 8), characters=st.sampled_from([2, 3, 16]))
def test_the_first_tokens_are_those_of_the_whole_text(kind, texts, limit, characters):
    backend = KINDS[kind]
    room = limit - backend.num_special_tokens_to_add(is_pair=False)
    whole = backend.encode_batch_fast(texts, add_special_tokens=False)
    wanted = []
    for encoding in whole:
        if len(encoding) > room:
            encoding.truncate(room)
        wanted.append(backend.post_process(encoding).ids)
    long = sum(len(row) > room for row in backend.encode_batch_fast(texts, add_special_tokens=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginnings, "_CHARACTERS", characters)
        assert first_ids(PreTrainedTokenizerFast(tokenizer_object=backend), texts, limit) == (wanted, long)
        assert text_tokenizer(kind).cut(texts, limit) == (wanted, long)


def test_of_a_book_little_is_read_and_more_only_where_it_is_needed():
    book, gaps = "a word and " * 100_000, " ".join(["x" * 40] * 20_000)
    read = []

    def tokenise(texts, _):
        read.extend(map(len, texts))
        return [text.split(" ") for text in texts]

    def enough(tokens):
        return len(tokens) > 100

    found = of_beginnings([book, "short", gaps], 100, tokenise, enough)
    assert [len(tokens) > 100 for tokens in found] == [True, False, True]
    assert max(read[:3]) <= 16 * 100, "whole texts come first"
    assert len(read) == 4, "only the text of long words a second time"
    assert read[3] <= 16 * 16 * 100


def test_a_book_takes_the_light_runtime_no_longer_than_its_beginning():
    tokenizer, read = text_tokenizer("default"), []
    backend = tokenizer._tokenizer

    class Noted:
        def encode_batch(self, texts, **options):
            read.extend(map(len, texts))
            return backend.encode_batch(texts, **options)

        encode_batch_fast = encode_batch
        post_process = staticmethod(backend.post_process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_tokenizer", Noted())
        rows, cut = tokenizer.cut(["the cells divide, and the river flows through 1234 towns. " * 9000] * 2, 512)
    assert (len(rows[0]), cut) == (512, 2)
    assert sum(read) <= 2 * 16 * 512


def test_fewer_tokens_than_special_ones_are_no_error():
    rows, cut = text_tokenizer("ends").cut(["some words", ""], 1)
    assert (len(rows[0]), cut) == (2, 1)


def test_a_piece_that_what_follows_would_change_is_not_trusted(monkeypatch):
    """Where nothing splits a text, the end of a beginning may be merged in other ways than in the middle of a text."""
    vocabulary = {token: number for number, token in enumerate(["a", "b", "c", "▁", "c▁", "bc▁", "ab"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("c", "▁"), ("b", "c▁"), ("a", "b")]))
    backend.normalizer = normalizers.Replace(" ", "▁")
    assert backend.encode("abc").tokens == ["ab", "c"]
    assert backend.encode("abc abc").tokens[:2] == ["a", "bc▁"]
    monkeypatch.setattr(beginnings, "_CHARACTERS", 5)
    assert first_ids(PreTrainedTokenizerFast(tokenizer_object=backend), ["abc abc"], 1) == ([[0]], 1)
    asked = []

    def tokenise(texts, whole):
        asked.append((texts, whole))
        return backend.encode_batch(texts)

    found = of_beginnings(["abc abc"], 1, tokenise, partial(beginnings.tells, limit=1))
    assert found[0].ids[0] == 0
    assert asked == [(["abc"], False), (["abc abc"], True)]
