"""Memory vectors read back: the gain is what its formula says, and a reader is the encoder and the LM in one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.checkpoint import read_settings
from llm2comp_apps.encoder.decoding import TextReader, explain, explanation_page, load_reader, load_text_reader
from llm2comp_apps.encoder.decoding.page import shade
from llm2comp_apps.errors import EncoderError, UsageError


@pytest.fixture
def folder(make_checkpoint):
    return make_checkpoint(k=2, max_length=64, training={"stage": "kl"})


@pytest.fixture
def reader(folder):
    return load_reader(str(folder), device="cpu")


def test_memory_is_the_encoder_s(folder, reader, texts):
    encoder = LLM2Comp.from_pretrained(str(folder), device="cpu", dtype=torch.float32)
    np.testing.assert_allclose(reader.memory(texts), encoder.encode_memory(texts), atol=2e-4)


def test_the_gain_is_that_of_its_formula(reader):
    text, (memory,) = "cell star", reader.memory(["cell star"])
    network = reader._network
    ids = torch.tensor([reader._tokenizer([text])["input_ids"][0]])

    def likelihoods(read):
        with torch.inference_mode():
            states = network.decode(torch.cat([read, network.embed(ids)], dim=1))
            steps = [
                float(network.logits(states[0, read.shape[1] - 1 + t]).log_softmax(-1)[token])
                for t, token in enumerate(ids[0].tolist())
            ]
        return np.array(steps)

    own = likelihoods(network.decoder_input(torch.from_numpy(memory)[None]))
    nothing = likelihoods(network.decoder_input(torch.from_numpy(reader.center)[None]))
    (found,) = reader.gains(text, memory[None])
    assert "".join(token.text for token in found) == text
    assert [token.gain for token in found] == pytest.approx((own - nothing).tolist(), abs=1e-4)
    mean = reader.likelihood([text, "river"], np.stack([memory, memory]))
    assert mean[0] == pytest.approx(own.mean(), abs=1e-4)


def test_what_is_written_is_the_likeliest_token_each_time(reader):
    network, memory = reader._network, reader.memory(["river", "stone and cell"])
    with torch.inference_mode():
        read = network.decoder_input(torch.from_numpy(memory))
        first = network.logits(network.decode(read)[:, -1]).argmax(-1)
    wanted = [reader._tokenizer.decode([token], skip_special_tokens=True).strip() for token in first.tolist()]
    assert reader.write(memory, tokens=1) == wanted
    assert len(reader.write(np.repeat(memory, 60, axis=0), tokens=1)) == 120
    assert reader.write(memory, tokens=2, prompt="x") != reader.write(memory, tokens=2)


def test_a_vector_carries_what_is_lost_without_it(reader):
    text, (memory,) = "cell star", reader.memory(["cell star"])
    lost = reader.carriers(text, memory)
    without = memory.copy()
    without[1] = reader.center[1]
    rows = [[token.gain for token in row] for row in reader.gains(text, np.stack([memory, without]))]
    assert lost.shape == (2, len(rows[0]))
    np.testing.assert_allclose(lost[1], np.subtract(*rows), atol=1e-4)


def test_the_pieces_of_a_text_add_up_to_it(reader):
    text = "Größe 語 x"  # characters of several tokens each
    (found,) = reader.gains(text, reader.memory([text]))
    assert "".join(token.text for token in found) == text


def test_memory_that_contrast_has_moved_is_centred_again(make_checkpoint):
    kept = load_reader(str(make_checkpoint(k=2, training={"stage": "kl"})), device="cpu")
    moved = load_reader(str(make_checkpoint(k=2, training={"stage": "scl"})), device="cpu")
    assert (kept.drifted, moved.drifted) == (False, True)
    assert not kept.center.any()
    moved.recentre(["a", "b c"])
    np.testing.assert_allclose(moved.center, moved.memory(["a", "b c"]).mean(0), atol=1e-6)


def test_an_explanation_of_two_texts_and_a_query(reader):
    memory = reader.memory(["river river", "stone stone"])
    found = explain(reader, "river river", memory=memory[0], other=memory[1], query="river", tokens=4, beams=2)
    assert found.text == "river river"
    assert [token.text for token in found.other] == [token.text for token in found.tokens]
    assert [token.gain for token in found.other] != [token.gain for token in found.tokens]
    assert len(found.vectors) == len(found.matches) == reader.k
    assert all(match.cosine <= 1 + 1e-6 for match in found.matches)
    assert json.loads(json.dumps(found.to_dict()))["tokens"][0]["text"] == found.tokens[0].text
    page = explanation_page([found], encoder="<tiny>", query="a & b")
    assert "&lt;tiny&gt;" in page
    assert "a &amp; b" in page
    assert page.count("<span") == len(found.tokens) + len(found.other)


def test_a_word_is_the_darker_the_more_it_gains():
    assert [shade(gain) for gain in (-3.0, 0.0, 3.0, 60.0)] == [0, 0, 0.5, 1]


def test_what_cannot_be_read_back_is_refused(folder, reader, tmp_path):
    encoder = LLM2Comp.from_pretrained(str(folder), device="cpu", dtype=torch.float32)
    layers = encoder.network.layer_weights()
    checkpoint.write(tmp_path / "own", encoder.settings, encoder.network.memory_state(), None, layers_state=layers)
    with pytest.raises(EncoderError, match=r"its layers have weights of their own.*Take the encoder quality"):
        load_reader(str(tmp_path / "own"), device="cpu")
    with pytest.raises(UsageError, match="makes no memory vectors"):
        load_reader("baseline:lt")
    with pytest.raises(UsageError, match="tokens must be at least 1"):
        explain(reader, "x", tokens=0)
    with pytest.raises(UsageError, match="text is empty"):
        explain(reader, " ")


def test_the_decoder_is_the_untouched_backbone(folder, reader):
    plain = load_backbone(read_settings(folder).backbone, device="cpu", dtype=torch.float32).lm
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        own = reader._network.decode(reader._network.embed(ids))
        torch.testing.assert_close(own, plain.get_decoder()(ids).last_hidden_state)


def test_the_likelihood_of_a_text_behind_another_is_the_lm_s_own(folder, reader):
    plain = load_backbone(read_settings(folder).backbone, device="cpu", dtype=torch.float32).lm
    text, given = "cell", "a star"
    head, row = (reader._tokenizer(each)["input_ids"] for each in (given + "?", text))
    with torch.inference_mode():
        logits = plain(torch.tensor([[*head, *row]])).logits[0, len(head) - 1 : -1].log_softmax(-1)
    wanted = float(logits.gather(-1, torch.tensor(row)[:, None]).mean())
    texts = load_text_reader(read_settings(folder).backbone, "cpu")
    found = texts.likelihood([text, "x", ""], given, prompt="?")
    assert found[0] == pytest.approx(wanted, abs=0.02)  # in bfloat16 where the processor has it
    assert np.isfinite(found).all()
    assert found[2] == 0
    assert texts.likelihood([text], "").shape == (1,)
    assert texts.likelihood([], given).shape == (0,)
    assert texts.likelihood([text], given * 9, max_length=len(given)) == texts.likelihood([text], given)


def test_a_text_behind_a_prompt_gets_no_token_of_the_beginning(folder, reader):
    """Llama and Gemma put one before every text; behind another text it would tell the model to forget that."""
    from tokenizers.processors import TemplateProcessing

    backbone = load_backbone(read_settings(folder).backbone, device="cpu", dtype=torch.float32)
    plain = TextReader(backbone).likelihood(["cell"], "", prompt="<s> of")
    memory = reader.memory(["a star"])
    before = reader.likelihood(["cell"], memory, prompt="of"), reader.likelihood(["cell"], memory)
    for tokenizer in (backbone.tokenizer, reader._tokenizer):
        first = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer.backend_tokenizer.post_processor = first
    assert reader.likelihood(["cell"], memory, prompt="of") == pytest.approx(before[0])
    assert reader.likelihood(["cell"], memory) != pytest.approx(before[1]), "here it does begin"
    assert TextReader(backbone).likelihood(["cell"], "", prompt=" of") == pytest.approx(plain)
