"""Pairs across subjects: short beginnings of pairs of many files, shuffled together.

    python train/studies/mix_pairs.py --out mixed pairs/*.jsonl.gz
    llm2comp train --stage scl --data pairs/ --data mixed/ --symmetric 'mixed_*' --teacher NAME ...

``scl`` takes a batch from one file, so that its negatives are hard. A teacher's similarities between questions about
money and questions about hockey are never seen that way, though clusters are made of them; batches of these files are
full of them. Short beginnings make such a batch cost a third of one with passages.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from llm2comp_train.sources import find_data, pair_rows

from llm2comp_apps.errors import LLM2CompError

Pair = tuple[str, str]


def beginnings(source: str, most: int, words: int, draw: random.Random) -> Iterator[Pair]:
    """The first ``words`` words of both sides of at most ``most`` pairs of a file, drawn at random."""
    for file in find_data([source]):
        rows = [row.texts for row in pair_rows(file.records(), prompt="", negatives=0)]
        for query, positive in draw.sample(rows, min(most, len(rows))):
            yield " ".join(query.split()[:words]), " ".join(positive.split()[:words])


def mix(sources: Sequence[str], rows: int, more: tuple[str, int], words: int, seed: int) -> list[Pair]:
    """Pairs of all sources in random order; ``more`` is a name pattern and the rows of files that it matches."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    pairs: list[Pair] = []
    for source in sources:
        pairs += beginnings(source, more[1] if fnmatch(Path(source).name, more[0]) else rows, words, draw)
    draw.shuffle(pairs)
    return pairs


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="files of pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder of mixed_0.jsonl, mixed_1.jsonl ...")
    parser.add_argument("--files", type=int, default=3, help="a file is a task of its own: more of them, more batches")
    parser.add_argument("--rows", type=int, default=8_000, help="of each source at most")
    parser.add_argument("--more", nargs=2, default=("paraphrase_*", "24000"), metavar=("PATTERN", "ROWS"))
    parser.add_argument("--words", type=int, default=24, help="of each text")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    try:
        pairs = mix(chosen.sources, chosen.rows, (chosen.more[0], int(chosen.more[1])), chosen.words, chosen.seed)
    except (LLM2CompError, ValueError) as error:
        sys.exit(str(error))
    chosen.out.mkdir(parents=True, exist_ok=True)
    for number in range(chosen.files):
        with (chosen.out / f"mixed_{number}.jsonl").open("w", encoding="utf-8") as out:
            for query, positive in pairs[number :: chosen.files]:
                out.write(json.dumps({"query": query, "positive": positive}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
