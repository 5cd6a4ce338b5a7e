"""Make the network of ``--rerank ltr``: learn to rank the hits of hybrid searches on many small sets.

    python train/studies/ltr.py --data DATA --out runs/ltr                   # tries it on kinds of sets it has not seen
    python train/studies/ltr.py --data DATA --out runs/ltr --write ltr.json

1. An index of each set (:mod:`ltr_sets`, and the train queries of SciFact) is built with the encoder.
2. Hybrid searches find 100 hits of each query, and the :mod:`features <llm2comp_apps.retrieval.rerank.ltr_features>` of
   these are kept in OUT, so that learning can be repeated in seconds.
3. Sets of one kind are left out, the network learns from the others and is tried on these; then from all.

Every set counts the same, whatever its size. Learning minimises the cross entropy between the answers of a query, each
with an equal share, and the softmax of all its scores (ListNet; Cao et al., ICML 2007), and holds weights down. Three
networks from other beginnings are joined into one, whose score is the sum of theirs.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ltr_sets import JudgedSet, judged_sets

from llm2comp_apps import Collection, LLM2CompError, read_corpus
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.files import write_text
from llm2comp_apps.retrieval.ltr_tuning import NotesFeatures
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank.ltr import LtrReranker, Network
from llm2comp_apps.retrieval.rerank.ltr_features import FEATURES

DEPTH = 100
_HIDDEN, _STEPS, _PER_SET, _RATE, _DECAY = 16, 400, 24, 0.03, 1e-3
_SEEDS = (0, 1, 2)
_START = 5.0
"""Weight of the first search and of the words before anything is learned."""
_NAMES = ("linear", "inner", "bias", "outer")


@dataclass(frozen=True, slots=True)
class Judged:
    """A set with the features of its hits.

    Attributes:
        name: of the set.
        kind: see :class:`.JudgedSet`.
        rows: ``(q, 100, f)``, zeros behind the hits that there are.
        answers: ``(q, 100)``, whether a hit is one.
        hits: ``(q,)``, how many there are.
        known: ``(q,)``, how many answers there are in the corpus.
    """

    name: str
    kind: str
    rows: FloatArray
    answers: np.ndarray
    hits: np.ndarray
    known: np.ndarray


def features_of(made: JudgedSet, library: Collection) -> Judged:
    """Search for every query of a set."""
    noted, count = NotesFeatures(), len(made.queries)
    searcher = library.searcher("hybrid", noted)
    rows = np.zeros((count, DEPTH, len(FEATURES)), np.float32)
    answers, hits = np.zeros((count, DEPTH), bool), np.zeros(count, np.int64)
    for place, (query, known) in enumerate(made.queries):
        noted.seen.clear()
        searcher.rank([query], SearchOptions(k=DEPTH))
        for ids, found in noted.seen:  # none where nothing was found
            hits[place] = len(ids)
            rows[place, : len(ids)] = found
            answers[place, : len(ids)] = [id_ in known for id_ in ids]
    return Judged(made.name, made.kind, rows, answers, hits, np.array([len(known) for _, known in made.queries]))


def scifact(data: Path) -> JudgedSet:
    """The train queries of SciFact; its corpus has titles and ids of its own."""
    folder = data / "eval" / "retrieval" / "scifact"
    made, known = JudgedSet("scifact, train", "papers"), dict[str, list[str]]()
    with (folder / "train_qrels.tsv").open(encoding="utf-8") as lines:
        for query, *_, document, score in (row for row in csv.reader(lines, delimiter="\t") if row[-1].isdigit()):
            if int(score):
                known.setdefault(query, []).append(document)
    with gzip.open(folder / "train_queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        asked = {each["_id"]: each["text"] for each in map(json.loads, lines)}
    made.queries = [(asked[query], documents) for query, documents in known.items()]
    return made


def prepared(data: Path, out: Path, encoder: str) -> Iterator[Judged]:
    """All sets with their features, made once and kept in ``out``."""
    corpus = data / "eval" / "retrieval" / "scifact" / "corpus.jsonl.gz"
    for made in (*judged_sets(data), scifact(data)):
        kept = out / f"{made.name}.npz"
        if not kept.exists():
            with _opened(out / f"{made.name}.index", encoder) as library:
                library.update(made.documents() if made.texts else read_corpus([corpus]))
                found = features_of(made, library)
            np.savez_compressed(kept, rows=found.rows, answers=found.answers, hits=found.hits, known=found.known)
            sys.stderr.write(f"{made.name}: {len(made.queries)} queries\n")
        yield Judged(made.name, made.kind, **np.load(kept))


def _opened(path: Path, encoder: str) -> Collection:
    """An index, or what an interrupted run has left of it."""
    return Collection.open(path) if path.exists() else Collection.create(path, encoder=encoder)


def ndcg(judged: Judged, score: Callable[[FloatArray], FloatArray]) -> float:
    """Mean nDCG@10, times 100, of hits in the order of a score."""
    discounts, found = 1 / np.log2(np.arange(2, 12)), []
    for rows, answers, hits, known in zip(judged.rows, judged.answers, judged.hits, judged.known, strict=True):
        order = np.argsort(-score(rows[:hits]), kind="stable")[:10]
        ideal = discounts[: min(known, 10)].sum()
        found.append((answers[order] * discounts[: len(order)]).sum() / ideal)
    return 100 * float(np.mean(found))


def beside_first(network: Network) -> Callable[[FloatArray], FloatArray]:
    """The score of a search: the network's beside that of the first search."""
    first = FEATURES.index("first search")
    return lambda rows: network.beside(rows[:, first], rows, LtrReranker.share)


def learned(sets: Sequence[Judged]) -> Network:
    """The network of all beginnings."""
    torch.set_num_threads(1)  # the steps are small
    answered = [each for each in sets if each.answers.any()]
    parts = [_learned(answered, seed) for seed in _SEEDS]
    return Network(
        linear=np.sum([each.linear for each in parts], axis=0),
        inner=np.concatenate([each.inner for each in parts]),
        bias=np.concatenate([each.bias for each in parts]),
        outer=np.concatenate([each.outer for each in parts]),
    )


def _learned(sets: Sequence[Judged], seed: int) -> Network:
    torch.manual_seed(seed)
    linear = torch.zeros(len(FEATURES))
    linear[[FEATURES.index("first search"), FEATURES.index("words")]] = _START
    begun = linear.clone()
    inner = torch.nn.Linear(len(FEATURES), _HIDDEN)
    outer = 0.1 * torch.nn.Linear(_HIDDEN, 1, bias=False).weight[0].detach()
    weights = [linear.requires_grad_(), inner.weight, inner.bias, outer.requires_grad_()]
    optimizer = torch.optim.Adam(weights, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    tensors = [tuple(map(torch.from_numpy, (each.rows, each.answers, each.hits))) for each in sets]
    usable = [torch.nonzero(answers.any(1)).squeeze(1) for _, answers, _ in tensors]
    for _ in range(_STEPS):
        chosen = [each[torch.randint(len(each), (_PER_SET,))] for each in usable]
        rows, answers, hits = (
            torch.cat([each[part][places] for each, places in zip(tensors, chosen, strict=True)]) for part in range(3)
        )
        scores = rows @ linear + torch.relu(inner(rows)) @ outer
        there = torch.arange(DEPTH) < hits[:, None]
        shares = answers.float() / answers.sum(1, keepdim=True)
        told = torch.log_softmax(scores.masked_fill(~there, -1e9), 1).masked_fill(~there, 0)
        held = 0.3 * ((linear - begun) ** 2).sum() + sum((each**2).sum() for each in weights[1:])
        optimizer.zero_grad()
        (-(shares * told).sum(1).mean() + _DECAY * held).backward()
        optimizer.step()
        schedule.step()
    return Network(**dict(zip(_NAMES, (each.detach().numpy() for each in weights), strict=True)))


def tried(sets: Sequence[Judged]) -> dict[str, float]:
    """nDCG@10 on each set of a network that saw no set of its kind."""
    found = {}
    for kind in dict.fromkeys(each.kind for each in sets):
        network = learned([each for each in sets if each.kind != kind])
        found |= {each.name: ndcg(each, beside_first(network)) for each in sets if each.kind == kind}
    return found


def table(sets: Sequence[Judged], columns: Mapping[str, Mapping[str, float]]) -> str:
    """Scores as Markdown, with means."""
    lines = [f"| | queries | {' | '.join(columns)} |", f"|---|---:|{'---:|' * len(columns)}"]
    for each in sets:
        values = " | ".join(f"{column[each.name]:.1f}" for column in columns.values())
        lines.append(f"| {each.name} | {len(each.hits)} | {values} |")
    means = " | ".join(f"{np.mean(list(column.values())):.2f}" for column in columns.values())
    return "\n".join([*lines, f"| mean | | {means} |"])


def main() -> int:
    """Learn, say what it brings, and write the network if it is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with train/ and eval/")
    parser.add_argument("--out", type=Path, required=True, help="where indexes and features are kept")
    parser.add_argument("--encoder", default="default", help="of the indexes")
    parser.add_argument("--write", type=Path, help="file of the network that learned from all sets")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        sets = list(prepared(arguments.data, arguments.out, arguments.encoder))
    except LLM2CompError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    first, words = FEATURES.index("first search"), FEATURES.index("words")
    by = {
        "hybrid": {each.name: ndcg(each, lambda rows: rows[:, first]) for each in sets},
        "words": {each.name: ndcg(each, lambda rows: rows[:, first] + rows[:, words]) for each in sets},
        "ltr, without the kind": tried(sets),
    }
    network = learned(sets)
    by["ltr"] = {each.name: ndcg(each, beside_first(network)) for each in sets}
    sys.stdout.write(table(sets, by) + "\n")
    if arguments.write is not None:
        write_text(arguments.write, json.dumps(network.record()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
