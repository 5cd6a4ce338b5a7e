"""Pairs across subjects, or of one subject each: short beginnings of pairs of many files, shuffled or sorted by topic.

    python train/studies/mix_pairs.py --out mixed pairs/*.jsonl.gz
    python train/studies/mix_pairs.py --out topics --topics 50 --encoder NAME pairs/*.jsonl.gz
    llm2comp train --stage scl --data pairs/ --data mixed/ --symmetric 'mixed_*,topic_*' --teacher NAME ...

``scl`` takes a batch from one file, so that its negatives are hard. A teacher's similarities between questions about
money and questions about hockey are never seen that way, though clusters are made of them; batches of these files are
full of them. Short beginnings make such a batch cost a third of one with passages.

``--topics`` does the opposite: each file holds the pairs whose queries lie together in the space of an encoder (of the
teacher, best), so that a batch asks for the finer differences. That is the topic aware sampling of TAS-B (Hofstaetter
et al., SIGIR 2021, arXiv 2104.06967, section 3).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_train.data.sources import find_data, pair_rows

from llm2comp_apps.errors import LLM2CompError

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import TextEncoder

Pair = tuple[str, str]


def mix(sources: Sequence[str], rows: int, more: tuple[str, int], words: int, seed: int) -> list[Pair]:
    """The first words of both sides of pairs of all sources, in random order.

    Args:
        sources: what ``--data`` of ``llm2comp train`` takes.
        rows: pairs of each file at most, drawn at random.
        more: a pattern of file names, and what counts instead of ``rows`` for those.
        words: of each text.
        seed: of the drawing.

    Raises:
        LLM2CompError: a source cannot be read; by file and line.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    pairs: list[Pair] = []
    for file in find_data(sources):
        texts = [row.texts for row in pair_rows(file.records(), prompt="", negatives=0)]
        most = more[1] if fnmatch(file.name, more[0]) else rows
        for query, positive in draw.sample(texts, min(most, len(texts))):
            pairs.append((" ".join(query.split()[:words]), " ".join(positive.split()[:words])))
    draw.shuffle(pairs)
    return pairs


def by_topic(pairs: Sequence[Pair], topics: int, encoder: TextEncoder, seed: int) -> list[list[Pair]]:
    """The same pairs, sorted into ``topics`` lists by k-means over the embeddings of their queries."""
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(topics, batch_size=4096, n_init=3, random_state=seed)
    labels = means.fit_predict(encoder.encode([query for query, _ in pairs], show_progress=True))
    parts: list[list[Pair]] = [[] for _ in range(topics)]
    for pair, label in zip(pairs, labels, strict=True):
        parts[label].append(pair)
    return parts


def natural(text: str) -> int:
    """A number on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def at_least_one(text: str) -> int:
    """A number on the command line that is not 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="files, folders or globs of pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder of mixed_0.jsonl, mixed_1.jsonl ...")
    made = parser.add_mutually_exclusive_group()
    made.add_argument(
        "--files", type=at_least_one, default=3, help="a file is a task of its own: more of them, more batches"
    )
    made.add_argument("--topics", type=at_least_one, help="files of one topic each, instead of shuffled ones")
    parser.add_argument("--rows", type=at_least_one, default=8_000, help="of each file at most")
    parser.add_argument("--more-of", default="paraphrase_*", metavar="PATTERN", help="files that count for more")
    parser.add_argument("--more-rows", type=at_least_one, default=24_000, help="of each of those at most")
    parser.add_argument("--words", type=at_least_one, default=24, help="of each text")
    parser.add_argument("--encoder", default="default", metavar="NAME", help="whose space the topics are in")
    parser.add_argument("--seed", type=natural, default=0)
    chosen = parser.parse_args(arguments)
    if any(chosen.out.glob("*.jsonl")):
        sys.exit(
            f"Error: --out {chosen.out} holds files already, and --data would take old and new ones; name a new one"
        )
    try:
        more = chosen.more_of, chosen.more_rows
        pairs = mix(chosen.sources, chosen.rows, more, chosen.words, chosen.seed)
        if chosen.topics:
            if chosen.topics > len(pairs):
                sys.exit(f"Error: --topics {chosen.topics}: there are {len(pairs)} pairs only")
            from llm2comp_train.data.teacher import load_teacher  # not before all else is right: it imports PyTorch

            parts = by_topic(pairs, chosen.topics, load_teacher(chosen.encoder, "cpu"), chosen.seed)
        else:
            parts = [pairs[number :: chosen.files] for number in range(chosen.files)]
        chosen.out.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(parts):
            name = f"topic_{number:03}.jsonl" if chosen.topics else f"mixed_{number}.jsonl"
            with (chosen.out / name).open("w", encoding="utf-8") as out:
                for query, positive in part:
                    out.write(json.dumps({"query": query, "positive": positive}, ensure_ascii=False) + "\n")
    except (LLM2CompError, OSError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
