"""``llm2comp index`` over folders: ids, what is gone, and files of every kind."""

from __future__ import annotations

import json

import pytest
from llm2comp_indexes import Index


@pytest.fixture
def folders(tmp_path):
    """Two folders with files of the same names."""
    for name in ("notes", "books"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.md").write_text(f"# Page {number}\n\nOf the {name}, the {number}.")
    return tmp_path


def listed(path):
    with Index.open(path) as index:
        return set(index.ids())


def test_files_of_one_name_in_two_folders_keep_apart(cli, encoders, folders):
    cli("index", "build", "notes", "-o", "i.index")
    assert "4 documents added" in cli("index", "add", "i.index", "books").stderr
    assert len(listed("i.index")) == 8
    (folders / "other").mkdir()
    (folders / "books").rename(folders / "other" / "books")
    (folders / "other" / "books" / "1.md").write_text("Of another folder of this name.")
    result = cli("index", "add", "i.index", "other/books")
    assert "0 documents added, 1 replaced (1 vectors), 3 unchanged" in result.stderr
    assert "Replaced: books/1.md" in result.stderr


def test_prune_removes_what_is_gone_and_a_build_names_what_it_kept(cli, encoders, folders):
    cli("index", "build", "notes", "books", "-o", "i.index")
    (folders / "notes" / "3.md").unlink()
    kept = cli("index", "build", "notes", "books", "-o", "i.index")
    assert "1 document of the index is not in this corpus; it stays: notes/3.md (--prune removes it)" in kept.stderr
    assert "notes/3.md" in listed("i.index")
    pruned = cli("index", "build", "notes", "books", "-o", "i.index", "--prune", "--json")
    assert "Removed: notes/3.md" in pruned.stderr
    assert json.loads(pruned.stdout)["removed"] == 1
    assert "notes/3.md" not in listed("i.index")
    assert len(listed("i.index")) == 7


def test_prune_does_not_take_what_cannot_be_read_for_gone(cli, encoders, folders):
    (folders / "notes" / "rows.jsonl").write_text('{"_id": "x", "text": "one"}\n{"_id": "y", "text": "two"}\n')
    cli("index", "build", "notes", "books", "-o", "i.index")
    (folders / "notes" / "0.md").write_bytes(b"caf\xe9")
    (folders / "notes" / "1.md").unlink()
    result = cli("index", "build", "notes", "books", "-o", "i.index", "--prune")
    assert "notes/0.md: byte 0xe9 is not valid utf-8" in result.stderr
    assert "notes/0.md" in listed("i.index")
    assert "notes/1.md" not in listed("i.index")
    (folders / "notes" / "rows.jsonl").write_text('{"_id": "x", "text": "one"}\n{"_id": "y", "te')
    result = cli("index", "build", "notes", "books", "-o", "i.index", "--prune")
    assert "1 record could not be read, and may be what seems to be gone: no document is removed" in result.stderr
    assert "2 documents of the index are not in this corpus; they stay: " in result.stderr
    assert "--prune removes" not in result.stderr, "it was asked to"
    assert "y" in listed("i.index")


def test_prune_of_most_documents_wants_a_yes(cli, encoders, folders):
    cli("index", "build", "notes", "books", "-o", "i.index")
    (folders / "notes" / "0.md").unlink()
    result = cli("index", "build", "notes", "-o", "i.index", "--prune")
    assert result.exit_code == 2
    assert "--prune would remove 5 of the 8 documents, more than half (--yes removes them)" in result.stderr
    assert len(listed("i.index")) == 8
    cli("index", "build", "notes", "-o", "i.index", "--prune", "--yes")
    assert listed("i.index") == {"notes/1.md", "notes/2.md", "notes/3.md"}


def test_a_folder_of_mixed_files_ends_with_a_table_of_what_was_read_and_what_was_not(cli, encoders, folders):
    mixed = folders / "notes"
    (mixed / "page.html").write_text("<nav>menu</nav><main><p>Whales sing.</main>")
    (mixed / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    (mixed / "package.json").write_text('{"name": "x", "source": "y"}')
    (mixed / "picture.png").write_bytes(b"\x89PNG")
    (mixed / ".gitignore").write_text("3.md\n")
    result = cli("index", "build", "notes", "--json")
    assert result.exit_code == 0
    table = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert "md 3 3" in table
    assert "html 1 1" in table
    assert "pdf 1 damaged: scan.pdf" in table
    assert "json 1 not made of documents: package.json" in table
    assert ".png 1 another kind of file" in table
    assert ".gitignore 1 kept out; --no-gitignore reads them" in table
    assert "scan.pdf: not a PDF that can be read" in result.stderr
    assert "Passed over: notes/package.json:1: an object of strings; name the file itself" in result.stderr
    reading = json.loads(result.stdout)["reading"]
    assert reading["kinds"] == {"md": {"files": 3, "documents": 3}, "html": {"files": 1, "documents": 1}}
    assert {file["path"] for file in reading["passed_over"]} == {"notes/scan.pdf", "notes/package.json"}
    assert "4 documents added" in cli("index", "build", "notes", "-o", "n.index").stderr
    found = cli("search", "whales", "--mode", "lexical", "--index", "n.index", "--json").stdout
    assert [hit["id"] for hit in json.loads(found)["hits"]] == ["notes/page.html"]


def test_pages_of_a_pdf_are_hits_of_their_own(cli, encoders, folders):
    from tests.corpus import forms

    (folders / "notes" / "a.pdf").write_bytes(forms.pdf(["First whales.", "Then gold."]))
    cli("index", "build", "notes", "--pages")
    found = cli("search", "gold", "--mode", "lexical", "--index", "notes.index", "--json").stdout
    (hit,) = json.loads(found)["hits"]
    assert (hit["id"], hit["metadata"]["page"]) == ("notes/a.pdf#page=2", 2)
