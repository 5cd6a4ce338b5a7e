"""A folder of 200 mixed files: how fast it is read, in how much memory, and whether every kind is found.

    python tests/benchmarks/bench_documents.py read
    python tests/benchmarks/bench_documents.py find --encoder default

The folder is put together from what lies on a Debian machine with Python: HTML, Markdown, reStructuredText, text and
PDF of ``/usr/share/doc`` and of installed packages, and source code of the standard library. What such a machine has
none of (most PDF, Word, presentations, OpenDocument, books, mail) is made of the texts of other files there.

``read`` reads it in a process of its own: files a second, and the peak memory of that process and of the one that
parses. ``find`` indexes it with one command, and searches for a sentence from inside a few files of each kind.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
DOCUMENTATION = Path("/usr/share/doc")
PACKAGES = Path(sysconfig.get_paths()["purelib"])
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
REAL = {"pdf": 5, "html": 45, "md": 25, "rst": 10, "txt": 22, "py": 15}
MADE = {"pdf": 15, "docx": 15, "pptx": 10, "odt": 10, "epub": 10, "eml": 15, "mbox": 3}
FILES = sum(REAL.values()) + sum(MADE.values())
ASKED = 3  # sentences of each kind

READ = """
import json, resource, sys, time
from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
start, report = time.perf_counter(), ReadReport()
characters = sum(len(document.text) for document in read_corpus([sys.argv[1]], CorpusOptions(), report))
seconds = time.perf_counter() - start
from llm2comp_apps.corpus.readers import isolation
for worker in isolation._IDLE: worker._stop()
memory = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"files": report.files, "documents": report.documents, "characters": characters,
                  "seconds": seconds, "MiB": memory, "passed_over": [str(file) for file in report.passed_over],
                  "kinds": {kind: [count.files, count.documents] for kind, count in report.kinds.items()}}))
"""


def forms() -> Any:
    """The writers of documents that the tests have, too."""
    spec = importlib.util.spec_from_file_location("forms", REPOSITORY / "tests" / "corpus" / "forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def real_files(suffix: str, draw: random.Random) -> list[Path]:
    """Files of a kind that are no larger than people's are, in random order, each content once."""
    roots = [LIBRARY] if suffix == "py" else [DOCUMENTATION, PACKAGES]
    smallest = 20_000 if suffix == "pdf" else 800  # small ones are icons of programs
    names = (f"*.{suffix}", f"*.{suffix}.gz")
    found = sorted(path for root in roots for name in names for path in root.rglob(name) if path.is_file())
    by_content = {path.read_bytes(): path for path in found if smallest < path.stat().st_size < 300_000}
    paths = sorted(by_content.values())
    draw.shuffle(paths)
    return paths


def texts(draw: random.Random) -> Iterator[str]:
    """Texts of files that nothing else is made of."""
    for path in real_files("txt", draw)[REAL["txt"] :] + real_files("rst", draw)[REAL["rst"] :]:
        if path.suffix == ".gz":
            continue
        text = path.read_text("utf-8", errors="replace")[:20_000]
        if text.isascii() and len(text.split()) > 150:
            yield text


def make_folder(folder: Path, seed: int = 0) -> None:
    """Put the 200 files together."""
    draw, made = random.Random(seed), forms()
    for suffix, count in REAL.items():
        paths = real_files(suffix, draw)[:count]
        for number, path in enumerate(paths):
            (folder / suffix).mkdir(exist_ok=True)
            (folder / suffix / f"{number:02}-{path.name}").write_bytes(path.read_bytes())
    left = texts(random.Random(seed + 1))
    writers: dict[str, Callable[[list[str]], bytes]] = {
        "pdf": lambda parts: made.pdf([page(part) for part in parts], parts[0].split("\n")[0][:60]),
        "docx": lambda parts: made.docx("\n".join(parts), "A document"),
        "pptx": lambda parts: made.pptx([(f"Slide {n}", part) for n, part in enumerate(parts)], "A show"),
        "odt": lambda parts: made.odt("\n".join(parts), "A text"),
        "epub": lambda parts: made.epub([(f"Chapter {n}", part) for n, part in enumerate(parts)], "A book"),
        "eml": lambda parts: made.eml(parts[0], "A mail", {"note.docx": made.docx(parts[-1], "Attached")}),
        "mbox": lambda parts: made.mbox(
            [made.eml(part, f"Mail {n}", message_id=f"<{n}@x>") for n, part in enumerate(parts)]
        ),
    }
    for suffix, count in MADE.items():
        (folder / suffix).mkdir(exist_ok=True)
        for number in range(count):
            text = next(left)
            size = len(text) // 3 + 1
            parts = [text[start : start + size] for start in range(0, len(text), size)]
            (folder / suffix / f"made-{number:02}.{suffix}").write_bytes(writers[suffix](parts))


def page(text: str) -> str:
    """What fits on a page of our writer of PDF."""
    return "\n".join(line[:95] for line in text.split("\n")[:50])


def measure_reading(folder: Path) -> dict[str, Any]:
    """Read the folder in a process of its own."""
    command = [sys.executable, "-c", READ, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(result.stdout)
    found["files_per_second"] = found["files"] / found["seconds"]
    return found


def sentences(folder: Path, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """Kind, file and a run of words from inside the file."""
    from llm2comp_apps.corpus import read_corpus

    draw = random.Random(seed)
    by_kind: dict[str, list[Any]] = {}
    for document in read_corpus([folder]):
        if len(document.text.split()) > 60:
            by_kind.setdefault(Path(document.source).suffix, []).append(document)
    for kind, documents in sorted(by_kind.items()):
        for document in draw.sample(documents, min(ASKED, len(documents))):
            words = re.findall(r"[A-Za-z]{2,}", document.text)
            start = draw.randrange(max(1, len(words) - 12))
            yield kind, document.id.partition("#")[0], " ".join(words[start : start + 12])


def measure_finding(folder: Path, encoder: str) -> dict[str, Any]:
    """Index the folder with one command, and look for a sentence of each kind."""
    from llm2comp_apps import Collection

    index = folder.with_suffix(".index")
    command = [sys.executable, "-c", "from llm2comp_apps.cli.main import main; main()", "index", "build", str(folder)]
    command += ["-o", str(index), "--encoder", encoder, "--chunk", "128", "--json"]
    start = time.perf_counter()
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(built.stdout)
    found: dict[str, list[bool]] = {}
    with Collection.open(index) as library:
        for kind, file, query in sentences(folder):
            hits = library.search(query, k=3)
            found.setdefault(kind, []).append(any(hit.id.partition("#")[0] == file for hit in hits))
    return {
        "seconds": time.perf_counter() - start,
        "added": report["added"],
        "vectors": report["vectors"],
        "found": {kind: f"{sum(hits)} of {len(hits)}" for kind, hits in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("read", "find"))
    parser.add_argument("--encoder", default="default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "documents"
        folder.mkdir()
        make_folder(folder)
        count = sum(path.is_file() for path in folder.rglob("*"))
        print(f"{count} files of {FILES} wanted")
        if arguments.what == "read":
            print(json.dumps(measure_reading(folder), indent=2))
        else:
            print(json.dumps(measure_finding(folder, arguments.encoder), indent=2))


if __name__ == "__main__":
    main()
