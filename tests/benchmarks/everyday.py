"""Two corpora of everyday documents, made of what a machine has: Python's documentation, and man pages.

    python tests/benchmarks/everyday.py man man.jsonl
    python tests/benchmarks/everyday.py pydocs pydocs.jsonl

``tests/benchmarks/data`` holds questions about both, and the documents that answer them (``NAME.queries.jsonl``,
``NAME.qrels.tsv``). Questions were written, and documents judged, from the names and first lines of the documents,
before anything was searched. The man pages are those of ``man.pages.txt``, of Debian's coreutils, util-linux, git,
iproute2, systemd and others; a page that this machine lacks is left out, and so are judgements of it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from llm2comp_apps.corpus import pydocs

DATA = Path(__file__).parent / "data"
MAN = Path("/usr/share/man")
#: Characters of a page that are kept: its name, how it is called, and the beginning of its description.
MOST_CHARACTERS = 1500

_DROPPED = re.compile(
    r"^[.'](?:\\\"|(?:TH|Dd|Dt|Os|ft|nf|fi|sp|RS|RE|in|ad|nh|hy|if|ie|el|de|ds|nr|so|ll|ta|ne|PD|DT|UC)\b).*"
)
_ESCAPES = (
    (re.compile(r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[+-]?\d|[&|^%:,/~c])"), ""),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\(?:\(|\[)(?:aq|cq|oq)\]?"), "'"),
    (re.compile(r"\\(?:\(|\[)(?:dq|lq|rq)\]?"), '"'),
    (re.compile(r"\\(?:\(..|\[[^\]]*\]|\*\(..|\*.)"), " "),
    (re.compile(r"\\e"), r"\\"),
    (re.compile(r"\\(.)"), r"\1"),
)


def plain_page(source: str) -> str:
    """The text of a page, without the commands of its typesetting."""
    lines = []
    in_definition = False
    for line in source.splitlines():
        if line.startswith((".de", ".ig")):
            in_definition = True
        elif line.strip() == "..":
            in_definition = False
        elif not in_definition and not _DROPPED.match(line):
            text = re.sub(r"^[.']\s*[A-Za-z]{1,3}\b\s*", "", line)
            for pattern, replacement in _ESCAPES:
                text = pattern.sub(replacement, text)
            lines.append(text.replace('"', "") if line[:1] in ".'" else text)
    return re.sub(r"[ \t]+", " ", re.sub(r"\n{2,}", "\n", "\n".join(lines))).strip()


def man_pages() -> Iterator[dict[str, str]]:
    """The listed pages that this machine has: ``_id`` is ``ls.1``, the title the page's name."""
    for name in (DATA / "man.pages.txt").read_text(encoding="utf-8").split():
        path = MAN / f"man{name.rpartition('.')[2][0]}" / f"{name}.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
                text = plain_page(file.read())
            yield {"_id": name, "title": name.rpartition(".")[0], "text": text[:MOST_CHARACTERS]}


def write_corpus(name: str, target: Path) -> None:
    """Write one of the two corpora as JSON lines."""
    if name == "pydocs":
        pydocs.main([str(target)])
        return
    with target.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(page) + "\n" for page in man_pages())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("pydocs", "man"))
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write_corpus(arguments.name, arguments.target)
