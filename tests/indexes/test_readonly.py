"""A reader that may not write: an index of somebody else, or on a read-only medium, alone and beside its writer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llm2comp_indexes import Index, IndexedDocument
from llm2comp_indexes.errors import IndexWriteError
from llm2comp_indexes.lexical import LexicalReader

SEARCH = """
import sys
from llm2comp_indexes import Index
from llm2comp_indexes.lexical import LexicalReader

LexicalReader._rebuild = None
with Index.open(sys.argv[1]) as reader:
    assert reader.search([1.0] * 8, 1)[0][0].id
    assert reader.search_lexical("number 3", 1)[0].id == "d3"
    assert reader.verify() == []
"""

WATCH = """
import sys
from llm2comp_indexes import Index

with Index.open(sys.argv[1]) as reader:
    print(reader.generation, flush=True)
    sys.stdin.readline()
    try:
        print(reader.generation, len(reader.get(list(reader.ids()))), len(reader.search_lexical("text", 999)))
        print(reader.verify())
    except Exception as error:
        print(type(error).__name__, error)
    print(reader.refresh(), len(reader.get(list(reader.ids()))), reader.verify())
"""


@pytest.fixture
def prefix() -> list[str]:
    """What makes root obey permissions, as everybody else does."""
    if os.geteuid():
        return []
    command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root cannot give up its powers here")
    return command


@pytest.fixture
def forbid() -> Iterator[Callable[[Path], None]]:
    """Takes the permission to write from everything in a folder, until the test ends."""
    changed: list[tuple[Path, int]] = []

    def forbidden(folder: Path) -> None:
        for path in (*folder.rglob("*"), folder):
            changed.append((path, path.stat().st_mode))
            path.chmod(path.stat().st_mode & ~0o222)

    yield forbidden
    for path, mode in changed:
        if path.exists():
            path.chmod(mode)


def states(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("without", [(), ("store.db-shm", "store.db-wal")])
def test_it_is_searched_without_a_warning_and_left_as_it_is(make_index, fill, prefix, forbid, searched, without):
    index = make_index()
    fill(index, 20)
    if searched:
        assert index.search_lexical("number", 1)
        assert list((index.path / "lexical").glob("*/.tantivy-*.lock"))
    index.close()
    for name in without:
        (index.path / name).unlink()
    forbid(index.path)
    before = states(index.path)
    command = [*prefix, sys.executable, "-W", "error", "-c", SEARCH, str(index.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert states(index.path) == before


def test_a_lock_file_of_somebody_else_in_a_folder_of_ours(make_index, fill, prefix):
    index = make_index()
    fill(index, 20)
    assert index.search_lexical("number", 1)
    index.close()
    for lock in index.path.glob("lexical/*/.tantivy-*.lock"):
        lock.chmod(0o444)
    command = [*prefix, sys.executable, "-W", "error", "-c", SEARCH, str(index.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def watched(index: Index, prefix: list[str], write: Callable[[], None]) -> list[str]:
    """What a reader without write permission prints that has the index open while ``write`` runs."""
    command = [*prefix, sys.executable, "-W", "error", "-c", WATCH, str(index.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        first = reader.stdout.readline()
        write()
        rest, _ = reader.communicate("\n", timeout=60)
    assert reader.returncode == 0
    return [first.strip(), *rest.splitlines()]


@pytest.fixture
def rewrite() -> Callable[[Index], None]:
    """Commits and merges until every page of the database has moved."""

    def rewritten(index: Index) -> None:
        with Index.open(index.path) as writing:
            for generation in range(3):
                with writing.writer() as writer:
                    writer.delete([f"d{i}" for i in range(10 * generation, 10 * generation + 10)])
                    documents = [IndexedDocument(f"e{generation}-{i}", "other " * 500) for i in range(100)]
                    writer.add(documents, [[1.0] * 8] * 100)
                    writer.commit()
            writing.compact()

    return rewritten


def test_it_keeps_its_generation_beside_a_writer(make_index, fill, prefix, forbid, rewrite):
    index = make_index()
    fill(index, 300)
    index.close()
    forbid(index.path)
    told = watched(index, prefix, lambda: rewrite(index))
    assert told == ["1", "1 300 300", "[]", "True 570 []"]


def test_where_it_can_take_no_lock_it_sees_that_somebody_wrote(make_index, fill, prefix, forbid, rewrite):
    index = make_index()
    fill(index, 300)
    index.close()
    for name in ("store.db-shm", "store.db-wal"):
        (index.path / name).unlink()
    forbid(index.path)
    told = watched(index, prefix, lambda: rewrite(index))
    assert (told[0], told[2]) == ("1", "True 570 []")
    assert told[1].startswith("IndexLockedError")
    assert "was written to while it was read without the permission to lock it" in told[1]


def test_changes_that_wait_in_the_log_are_not_passed_over(make_index, fill, prefix, forbid, fast_path):
    """What a crash leaves behind, on a medium that cannot be written: an answer from the old state would be wrong."""
    index = make_index()
    fill(index, 20)
    copy = fast_path / "copy.index"
    shutil.copytree(index.path, copy)
    assert (copy / "store.db-wal").stat().st_size
    (copy / "store.db-shm").unlink()
    forbid(copy)
    command = [*prefix, sys.executable, "-W", "error", "-c", SEARCH, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "IndexWriteError" in done.stderr
    assert "its last changes are still in store.db-wal" in done.stderr


def test_a_second_look_at_the_file_does_not_drop_the_locks_of_the_first(make_index, fill):
    """Closing a descriptor drops the POSIX locks of a process, so the file must be opened by SQLite alone."""
    index = make_index()
    fill(index, 3)
    locks = Path("/proc/locks")
    if not locks.exists():
        pytest.skip("this system does not list its locks")
    inode = f":{(index.path / 'store.db').stat().st_ino} "

    def held() -> int:
        return sum(inode in line and f" {os.getpid()} " in line for line in locks.read_text().splitlines())

    assert held() == 1
    index.refresh()
    assert index.verify() == []
    Index.open(index.path).close()
    assert held() == 1


def test_a_private_view_is_removed_with_its_reader(make_index, fill, monkeypatch):
    index = make_index()
    fill(index, 3)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with Index.open(index.path) as reader:
        assert reader.search_lexical("number 1", 1)[0].id == "d1"
        assert isinstance(reader._snapshot.lexical, LexicalReader)
        view = reader._snapshot.lexical._private
        assert view is not None
        assert Path(view.name).exists()
    assert not Path(view.name).exists()


def test_where_no_file_can_be_made_at_all_it_is_not_called_damaged(make_index, fill, monkeypatch, recwarn):
    index = make_index()
    fill(index, 3)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setattr(tempfile, "tempdir", str(index.path / "missing"))
    with Index.open(index.path) as reader:
        assert reader.search([1.0] * 8, 1)
        with pytest.raises(IndexWriteError, match="set TMPDIR to a folder that can be written"):
            reader.search_lexical("number 1", 1)
    assert not recwarn.list
