"""Losses against slow references: two separate models, full logits, one text at a time, no padding."""

from __future__ import annotations

import copy

import pytest
import torch
from llm2comp_train.data.batches import Split, collate
from llm2comp_train.engine.adapters import build_network, trainable
from llm2comp_train.losses.kl import kl_loss
from llm2comp_train.losses.maxsim import max_sim, max_sim_level
from llm2comp_train.losses.nll import nll_loss
from llm2comp_train.losses.rc import rc_loss
from llm2comp_train.losses.scl import ranking_loss, scl_loss
from llm2comp_train.losses.ucl import ucl_loss
from llm2comp_train.losses.vocabulary import chunked_cross_entropy, chunked_kl
from torch.nn.functional import cosine_similarity, log_softmax

from llm2comp_apps.retrieval.rerank.memory import max_sim as reranking_max_sim

SPLITS = [
    Split([5, 6, 7, 8, 9], [10, 11, 12], 0),
    Split([4, 5], [6, 7, 8, 9, 10], 1),
    Split([12], [], 2),  # a text of one token: kl still compares the distribution after it
]


@pytest.fixture
def network(backbone, settings):
    network = build_network(backbone, settings, None)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        network.center.normal_()
        network.spread.fill_(0.7)
    return network


def reference(network, frozen, split: Split, kind: str) -> torch.Tensor:
    """The formula, spelled out with a second copy of the model as decoder."""
    embed = frozen.get_input_embeddings()
    memory = network.memory(torch.tensor([split.context]))
    own = memory[0] - network.center
    length = (sum(vector @ vector for vector in own) / network.k).sqrt()
    memory = (network.spread / length * own + network.shift)[None]
    target = split.context if kind == "rc" else split.target
    y = torch.tensor([target], dtype=torch.long)
    student = frozen(inputs_embeds=torch.cat([memory, embed(y)], dim=1)).logits[0]
    student = log_softmax(student, dim=-1)[network.k - 1 :]
    if kind == "kl":
        teacher = frozen(torch.tensor([split.context + target])).logits[0].detach()
        teacher = log_softmax(teacher, dim=-1)[len(split.context) - 1 :]
        assert len(teacher) == len(student) == len(target) + 1
        return (teacher.exp() * (teacher - student)).sum(-1).mean()
    if not target:
        return student.new_zeros(())
    return -torch.stack([student[place, token] for place, token in enumerate(target)]).mean()


@pytest.mark.parametrize(("kind", "loss"), [("kl", kl_loss), ("nll", nll_loss), ("rc", rc_loss)])
def test_compression_losses_and_their_gradients_equal_the_slow_reference(network, kind, loss):
    frozen = copy.deepcopy(network.lm)
    for module in frozen.modules():
        if hasattr(module, "_disable_adapters"):
            module._disable_adapters = True
    splits = [Split(split.context, split.context, split.row) for split in SPLITS] if kind == "rc" else SPLITS
    batch = collate(splits, 0, torch.device("cpu"))
    found = loss(network, batch, network.memory(batch.context, batch.context_mask), chunk=2)
    found.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in trainable(network).items()}
    network.zero_grad()
    wanted = torch.stack([reference(network, frozen, split, kind) for split in splits])
    wanted.sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for name, parameter in trainable(network).items():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_reach_the_adapter_and_the_memory_and_nothing_else(network):
    batch = collate(SPLITS, 0, torch.device("cpu"))
    kl_loss(network, batch, network.memory(batch.context, batch.context_mask)).sum().backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    wanted = {name for name, _ in network.named_parameters() if "lora_" in name} | {"memory_tokens", "shift"}
    assert with_gradient == wanted


def test_the_decoder_is_the_frozen_model_to_the_bit(network, backbone_dir):
    from llm2comp_apps.encoder.backbones import load_backbone

    frozen = load_backbone(str(backbone_dir), device="cpu", attn_implementation="eager").lm
    ids = torch.tensor([[4, 5, 6, 7, 8]])
    network.train()
    ours = network.logits(network.decode(network.embed(ids)))
    assert torch.equal(ours, frozen(ids, use_cache=False).logits)
    assert not torch.equal(network.hidden(network.embed(ids), None, causal=True), network.decode(network.embed(ids)))


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunking_changes_neither_value_nor_gradient(chunk):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    student, teacher = torch.randn(7, 8, requires_grad=True), torch.randn(7, 8)
    weights = torch.rand(7)
    (chunked_kl(student, teacher, head, chunk=chunk) * weights).sum().backward()
    found, student.grad = student.grad, None
    target, own = log_softmax(head(teacher), -1), log_softmax(head(student), -1)
    ((target.exp() * (target - own)).sum(-1) * weights).sum().backward()
    torch.testing.assert_close(found, student.grad)


def test_kl_stays_finite_where_probabilities_underflow():
    head = torch.nn.Linear(2, 4, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[500.0, 0], [0, 500.0], [-500.0, 0], [0, 0]]))
    student = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = chunked_kl(student, torch.tensor([[1.0, 0.0]]), head)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


def test_no_position_is_no_loss():
    empty = torch.zeros(0, 8, requires_grad=True)
    assert chunked_cross_entropy(empty, torch.zeros(0, dtype=torch.long), torch.nn.Linear(8, 5)).shape == (0,)


def test_ucl_equals_the_formula_view_by_view():
    torch.manual_seed(0)
    first, second = torch.randn(4, 6), torch.randn(4, 6)
    views = torch.nn.functional.normalize(torch.cat([first, second]), dim=-1)
    losses = []
    for i in range(8):
        partner = (i + 4) % 8
        scores = [torch.exp(views[i] @ views[j] / 0.05) for j in range(8) if j != i]
        losses.append(-torch.log(torch.exp(views[i] @ views[partner] / 0.05) / sum(scores)))
    torch.testing.assert_close(ucl_loss(first, second, temperature=0.05), torch.stack(losses).mean())


def test_scl_leaves_out_documents_that_are_no_negatives():
    torch.manual_seed(0)
    queries, documents = torch.randn(3, 6), torch.randn(5, 6)
    same = torch.zeros(3, 5, dtype=torch.bool)
    same[0, [0, 3]] = True  # its positive, which counts all the same, and a copy of it
    unit = torch.nn.functional.normalize
    scores = unit(queries, dim=-1) @ unit(documents, dim=-1).T / 0.05
    rows = [scores[0, [0, 1, 2, 4]], scores[1], scores[2]]
    wanted = torch.stack([-log_softmax(row, 0)[place] for row, place in zip(rows, [0, 1, 2], strict=True)]).mean()
    torch.testing.assert_close(scl_loss(queries, documents, temperature=0.05, same=same), wanted)


def test_symmetric_scl_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    a, b = torch.randn(4, 6), torch.randn(4, 6)
    one, other = scl_loss(a, b, temperature=0.05), scl_loss(b, a, temperature=0.05)
    torch.testing.assert_close(scl_loss(a, b, temperature=0.05, symmetric=True), (one + other) / 2)


def test_max_sim_is_its_formula_vector_by_vector_and_the_one_that_reranks():
    queries, documents = torch.randn(3, 4, 6), torch.randn(5, 2, 6)
    found = max_sim(queries, documents)
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            best = [max(float(cosine_similarity(a, b, dim=0)) for b in document) for a in query]
            assert float(found[i, j]) == pytest.approx(sum(best) / len(best), abs=1e-6)
        torch.testing.assert_close(found[i], torch.from_numpy(reranking_max_sim(query.numpy(), documents.numpy())))


def test_max_sim_learns_the_teachers_cosines_of_different_texts():
    memory = torch.randn(4, 3, 6, requires_grad=True)
    targets = torch.randn(4, 5)
    wanted = cosine_similarity(targets[:, None], targets[None], dim=-1)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    scores = max_sim(memory, memory)
    slow = sum((scores[pair] - wanted[pair]) ** 2 for pair in pairs) / len(pairs)
    found = max_sim_level(memory, targets)
    torch.testing.assert_close(found, slow)
    found.backward()
    assert float(memory.grad.abs().sum()) > 0
    assert float(max_sim_level(memory[:1], targets[:1]).detach()) == 0


def test_scl_is_a_ranking_of_cosines():
    queries, documents = torch.randn(3, 6), torch.randn(5, 6)
    scores = cosine_similarity(queries[:, None], documents[None], dim=-1) / 0.1
    torch.testing.assert_close(ranking_loss(scores), scl_loss(queries, documents, temperature=0.1))
