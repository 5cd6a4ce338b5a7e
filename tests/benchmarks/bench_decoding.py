"""How much of a text can be read back from its memory vectors: content words recovered, chrF, gain.

    python tests/benchmarks/bench_decoding.py sentences.jsonl.gz --encoder runs/kl/encoder --encoder default

The sentences are those of 12 to 24 words in the fields of a JSON-lines file, drawn at random; give a file that no
encoder was trained on. *Content words* are those of four letters and more. *chrF* is the F score (beta 2) of character
n-grams, n = 1 to 6 (Popovic, WMT 2015). *Gain* is explained in ``llm2comp_apps/encoder/decoding/reader.py``. With fewer
memory vectors the others stand at their centre, where they say nothing.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter

import numpy as np

from llm2comp_apps.corpus import read_records
from llm2comp_apps.encoder.decoding import MemoryReader, load_reader

_WORD = re.compile(r"[a-z]{4,}")


def chrf(text: str, reference: str, *, most: int = 6, beta: float = 2.0) -> float:
    """0 to 1."""
    scores = []
    for n in range(1, most + 1):
        grams = [Counter(it[i : i + n] for i in range(len(it) - n + 1)) for it in map(_squeezed, (text, reference))]
        if not grams[1]:
            continue
        hits = sum((grams[0] & grams[1]).values())
        precision, recall = hits / max(1, sum(grams[0].values())), hits / sum(grams[1].values())
        scores.append((1 + beta**2) * precision * recall / max(1e-12, beta**2 * precision + recall))
    return float(np.mean(scores)) if scores else 0.0


def recovered(text: str, reference: str) -> float:
    """Share of the reference's content words that the text has."""
    wanted = set(_WORD.findall(reference.lower()))
    return len(wanted & set(_WORD.findall(text.lower()))) / len(wanted) if wanted else 0.0


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def sentences(path: str, count: int, seed: int) -> list[str]:
    """``count`` different texts of 12 to 24 words."""
    found = {
        value.strip()
        for record in read_records([path])
        for value in record.fields.values()
        if isinstance(value, str) and 12 <= len(value.split()) <= 24
    }
    return random.Random(seed).sample(sorted(found), min(count, len(found)))


def with_vectors(reader: MemoryReader, memory: np.ndarray, count: int) -> np.ndarray:
    """Memory of which only the first ``count`` vectors are the text's own."""
    kept = np.broadcast_to(reader.center, memory.shape).copy()
    kept[:, :count] = memory[:, :count]
    return kept


def main() -> None:
    """Print one line for each encoder, way of writing, and number of vectors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--encoder", action="append", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="*", default=[1])
    parser.add_argument("--vectors", type=int, nargs="*", default=[8])
    parser.add_argument("--prompt", action="append", help="text between memory and answer; several are compared")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = sentences(options.data, options.count, options.seed)
    print(f"{len(texts)} sentences | encoder | prompt | beams | vectors | words | chrF | gain", flush=True)
    for name in options.encoder:
        reader = load_reader(name)
        memory = reader.memory(texts)
        for count in options.vectors:
            kept = with_vectors(reader, memory, count)
            gain = np.mean(
                [np.mean([t.gain for t in reader.gains(*it)[0]]) for it in zip(texts, kept[:, None], strict=True)]
            )
            for prompt in options.prompt or [""]:
                for beams in options.beams:
                    written = reader.write(kept, tokens=options.tokens, beams=beams, prompt=prompt)
                    pairs = list(zip(written, texts, strict=True))
                    words, score = (np.mean([measure(*pair) for pair in pairs]) for measure in (recovered, chrf))
                    print(
                        f"{name} | {prompt!r} | {beams} | {count} | {words:.3f} | {score:.3f} | {gain:.2f}", flush=True
                    )


if __name__ == "__main__":
    main()
