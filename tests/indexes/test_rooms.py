"""The drawers of the index room use each other from the disk up, as the package's docstring says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import llm2comp_indexes
import pytest

ROOM = Path(llm2comp_indexes.__file__).parent
_LOW = ("errors", "types", "threads", "storage", "dense", "analysis", "operators", "statistics")
ORDER = (*_LOW, "lexical", "core", "index", "sharded")


def drawer_of(module: str) -> str:
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """Drawers that a file imports when it runs; what only a type checker reads does not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llm2comp_indexes."):
            found.add(drawer_of(node.module))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text("utf-8")))
    return found


@pytest.mark.parametrize("drawer", ORDER)
def test_a_drawer_imports_only_those_below_it(drawer: str) -> None:
    files = sorted((ROOM / drawer).glob("*.py")) or [ROOM / f"{drawer}.py"]
    for path in files:
        allowed = set(ORDER[: ORDER.index(drawer) + 1])
        assert imported(path) <= allowed, f"{path.name}: {imported(path) - allowed}"


def test_the_docstring_shows_every_drawer_in_this_order() -> None:
    listed = re.findall(r"^    ((?:\w+(?:, )?)+)/? {2,}", llm2comp_indexes.__doc__ or "", re.MULTILINE)
    assert [name for line in listed for name in line.split(", ")] == list(ORDER)
    there = {path.stem for path in ROOM.iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")}
    assert there == set(ORDER)


def test_every_public_name_is_there() -> None:
    assert len(set(llm2comp_indexes.__all__)) == len(llm2comp_indexes.__all__)
    assert all(hasattr(llm2comp_indexes, name) for name in llm2comp_indexes.__all__)
