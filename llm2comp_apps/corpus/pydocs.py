"""A corpus of real text that every Python has on board: the language reference and the standard library's docstrings.

``python -m llm2comp_apps.corpus.pydocs pydocs.jsonl`` writes it; ``make demo`` searches it. The library's sources are
parsed and not imported, since some modules do things when imported. The files of one Python version always give the
same corpus.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import itertools
import json
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "entries", "main"]

_SOURCE = Path(sysconfig.get_paths()["stdlib"])
_LEFT_OUT = {
    "__pycache__",
    "distutils",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
_WITHOUT_SOURCE = ("builtins", "math", "itertools", "time")  # written in C and harmless to import
_SHORTEST = 80  # characters; a docstring below that says little more than the name
_LONGEST = 300  # characters; whole paragraphs as long as they fit, so that a laptop indexes the corpus in a minute


class Entry(NamedTuple):
    """One document: a topic of the language reference, or what a docstring says of a module, class or function."""

    id: str
    title: str
    text: str
    kind: str
    module: str


def entries() -> Iterator[Entry]:
    """All documents, in a fixed order, those with too little text left out."""
    for entry in itertools.chain(_topics(), _compiled_modules(), _source_modules()):
        if len(entry.text) >= _SHORTEST:
            yield entry._replace(text=_beginning(entry.text))


def _topics() -> Iterator[Entry]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        heading, _, text = topics[name].strip().partition("\n")
        yield Entry(f"topic:{name}", heading.replace('"', ""), text.strip("*=-~\n "), "topic", "")


def _compiled_modules() -> Iterator[Entry]:
    for name in _WITHOUT_SOURCE:
        module = importlib.import_module(name)
        yield Entry(name, f"module {name}", inspect.getdoc(module) or "", "module", name)
        for member, value in sorted(vars(module).items()):
            if not member.startswith("_") and callable(value):
                kind = "class" if inspect.isclass(value) else "function"
                yield Entry(f"{name}.{member}", f"{kind} {member}", inspect.getdoc(value) or "", kind, name)


def _source_modules() -> Iterator[Entry]:
    for path in sorted(_SOURCE.rglob("*.py")):
        parts = path.relative_to(_SOURCE).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if names and not _LEFT_OUT.intersection(parts) and not any(name.startswith("_") for name in names):
            yield from _of_source(".".join(names), path)


def _of_source(module: str, path: Path) -> Iterator[Entry]:
    tree = ast.parse(path.read_bytes(), str(path))
    yield Entry(module, f"module {module}", ast.get_docstring(tree) or "", "module", module)
    seen = set()
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or node.name in seen:
            continue
        seen.add(node.name)
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        name = f"{module}.{node.name}"
        yield Entry(name, f"{kind} {name}", ast.get_docstring(node) or "", kind, module)


def _beginning(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]
    ends = itertools.accumulate(len(paragraph) + 1 for paragraph in paragraphs)
    fitting = [paragraph for paragraph, end in zip(paragraphs, ends, strict=True) if end <= _LONGEST]
    return "\n".join(fitting) or textwrap.shorten(paragraphs[0], _LONGEST, placeholder=" …")


def main(arguments: list[str] | None = None) -> None:
    """Write the corpus as JSON lines."""
    parser = argparse.ArgumentParser(description="Write Python's own documentation as a corpus (JSON lines).")
    parser.add_argument("output", type=Path)
    output = parser.parse_args(arguments).output
    count = 0
    with output.open("w", encoding="utf-8") as file:
        for entry in entries():
            record = entry._asdict()
            file.write(json.dumps({"_id": record.pop("id"), **record}, ensure_ascii=False) + "\n")
            count += 1
    sys.stderr.write(f"{count} documents of Python {sys.version.split()[0]} in {output}\n")


if __name__ == "__main__":
    main()
