"""Each baseline against a plain, one-text-at-a-time reading of its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder import BASELINES, baselines, load_encoder
from llm2comp_apps.encoder.baselines import _TEMPLATES
from llm2comp_apps.errors import UsageError


@pytest.fixture(params=["llama", "gemma3_text"])
def backbone_dir(request, make_backbone):
    return str(make_backbone(request.param))


def slow(encoder, text: str) -> np.ndarray:
    def tokens(part: str) -> list[int]:
        return encoder.tokenizer(part, add_special_tokens=False)["input_ids"]

    total = torch.zeros(encoder.dimension)
    for template in _TEMPLATES[encoder.kind]:
        body = tokens(text)
        row = tokens(template.before) + body + tokens(template.after) + (body if template.echo else [])
        states = encoder.lm.get_decoder()(input_ids=torch.tensor([row])).last_hidden_state[0].detach()
        if encoder.kind == "wmp":
            weight = torch.arange(1, len(row) + 1).float()
            total += (states * weight[:, None]).sum(0) / weight.sum()
        elif encoder.kind == "ee":
            total += states[-len(body) :].mean(0)
        else:
            total += states[-1]
    return torch.nn.functional.normalize(total, dim=0).numpy()


@pytest.mark.parametrize("kind", BASELINES)
def test_equals_its_definition(kind, backbone_dir, texts):
    encoder = load_encoder(f"baseline:{kind}", backbone=backbone_dir, device="cpu", dtype=torch.float32)
    texts = [text for text in texts if text]
    found = encoder.encode(texts)
    np.testing.assert_allclose(found, np.stack([slow(encoder, text) for text in texts]), atol=2e-5)
    order = list(reversed(range(len(texts))))
    np.testing.assert_allclose(encoder.encode([texts[i] for i in order], tokens_per_batch=64), found[order], atol=2e-5)


@pytest.mark.parametrize("kind", ["prompteol", "metaeol"])
def test_what_is_in_front_of_all_texts_is_run_once(kind, make_backbone, texts, monkeypatch):
    encoder = load_encoder(f"baseline:{kind}", backbone=str(make_backbone("llama")), device="cpu", dtype=torch.float32)
    shapes, forward = [], encoder.lm.get_decoder().forward

    def counted(*arguments, **options):
        shapes.append(tuple(options["input_ids"].shape))
        return forward(*arguments, **options)

    monkeypatch.setattr(encoder.lm.get_decoder(), "forward", counted)
    found = encoder.encode(texts)
    shared = [shapes.pop() for _ in range(len(shapes))]
    # Memory for no batch of it: every row runs everything, to the same end.
    monkeypatch.setattr(baselines, "_PREFIX_BYTES", 0)
    np.testing.assert_allclose(encoder.encode(texts), found, atol=2e-5)
    in_front = sum(len(encoder.tokenizer(template.before)["input_ids"]) for template in _TEMPLATES[kind])
    saved = sum(rows * width for rows, width in shapes) - sum(rows * width for rows, width in shared)
    assert saved > (len(texts) - 3) * in_front


def test_an_empty_text_has_a_finite_vector(backbone_dir):
    for kind in BASELINES:
        encoder = load_encoder(f"baseline:{kind}", backbone=backbone_dir, device="cpu", dtype=torch.float32)
        assert np.isfinite(encoder.encode(["", "a"])).all()
        assert encoder.encode([]).shape == (0, encoder.dimension)


def test_the_backbone_can_be_part_of_the_name(backbone_dir):
    named = load_encoder(f"baseline:lt@{backbone_dir}", device="cpu")
    assert named.fingerprint == load_encoder("baseline:lt", backbone=backbone_dir, device="cpu").fingerprint
    with pytest.raises(UsageError, match="after the @"):
        load_encoder("baseline:lt@", device="cpu")


def test_fingerprints_differ_and_unknown_names_are_refused(backbone_dir):
    prints = {load_encoder(f"baseline:{kind}", backbone=backbone_dir, device="cpu").fingerprint for kind in BASELINES}
    assert len(prints) == len(BASELINES) == len(_TEMPLATES)
    with pytest.raises(UsageError, match="unknown"):
        load_encoder("baseline:nope", backbone=backbone_dir, device="cpu")
    with pytest.raises(UsageError, match="kind must be one of lt, wmp"):
        baselines.Baseline.load(f"ee@{backbone_dir}")  # a kind is no name: its backbone would be passed over
