"""``.gitignore`` files, compared with what git itself lists where there is a git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from llm2comp_apps.corpus.ignoring import IgnoreRules
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.walk import find_files

FILES = (
    "a.txt", "b.md", "keep.txt", "build/out.txt", "sub/build/out.txt", "sub/a.txt", "sub/deep/notes.md",
    "sub/deep/draft.md", "sub/deep/keep.md", "logs/one.txt", "logs/two.txt", "docs/api/x.md", "docs/x.md",
)  # fmt: skip
RULES = {
    ".gitignore": "# a comment\n/build/\n*.md\n!docs/**/x.md\nlogs/*\n!logs/two.txt\n\\!odd\n",
    "sub/.gitignore": "!deep/notes.md\nbuild\n",
    "sub/deep/.gitignore": "!keep.md\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some words")
    for name, text in RULES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def found(folder: Path, **settings: bool) -> list[str]:
    return [file.relative for file in find_files([folder], CorpusOptions(**settings))]


def test_patterns_of_deeper_folders_decide(tree: Path) -> None:
    expected = ["a.txt", "keep.txt", "docs/x.md", "docs/api/x.md", "logs/two.txt", "sub/a.txt"]
    assert found(tree) == [*expected, "sub/deep/keep.md", "sub/deep/notes.md"]
    assert len(found(tree, gitignore=False)) == len(FILES)


def test_a_folder_inside_a_repository_has_the_rules_above_it(tree: Path) -> None:
    assert found(tree / "sub") == ["a.txt", "deep/draft.md", "deep/keep.md", "deep/notes.md"]
    (tree / ".git" / "info").mkdir(parents=True)
    (tree / ".git" / "info" / "exclude").write_text("a.txt\n")
    assert found(tree / "sub") == ["deep/keep.md", "deep/notes.md"]


def test_a_folder_that_was_named_is_read_even_if_its_repository_leaves_it_out(tree: Path) -> None:
    (tree / ".git").mkdir()
    (tree / ".gitignore").write_text("sub/\n*.md\n")
    (tree / "sub" / ".gitignore").write_text("build\n")
    assert [name for name in found(tree) if name.startswith("sub")] == []
    assert found(tree / "sub") == ["a.txt", "deep/draft.md", "deep/keep.md", "deep/notes.md"]


def test_rules_that_cannot_be_read_leave_nothing_out(tree: Path) -> None:
    shutil.rmtree(tree / "sub")
    (tree / ".gitignore").unlink()
    (tree / ".gitignore").mkdir()
    assert not IgnoreRules(tree).ignores(tree / "a.txt", folder=False)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_lists_the_same_files(tree: Path) -> None:
    subprocess.run(["git", "init", "-q", tree], check=True)
    command = ["git", "-C", tree, "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    expected = {name for name in listed if name and not name.endswith(".gitignore")}
    assert set(found(tree)) == expected
    assert 0 < len(expected) < len(FILES)
