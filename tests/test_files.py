"""Whole files and folders: the new content or the old one, after errors, interruptions and crashes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm2comp_apps import files
from llm2comp_apps.files import check_writable, first_line, locked_file, replaced_file, replaced_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_the_block_ends_and_not_before(tmp_path):
    target = tmp_path / "a.txt"
    with replaced_file(target) as fresh:
        assert fresh.parent == tmp_path
        fresh.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_error_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), replaced_file(target) as fresh:  # noqa: PT012 - what is half written must go
        fresh.write_text("half of the ne")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_waits_at_a_pipe_gets_what_is_written(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for target in (pipe, tmp_path / "link"):
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with replaced_file(target) as fresh:
            fresh.write_text("new")
        assert os.read(reader, 10) == b"new"
        os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["link", "pipe"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "latest").symlink_to("runs/1")
    for text in ("old", "new"):  # it may lead to what is not there yet
        write_text(tmp_path / "latest", text)
        assert (tmp_path / "runs" / "1").read_text() == text
    assert names(tmp_path) == ["latest", "runs"]
    assert names(tmp_path / "runs") == ["1"]


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    target = tmp_path / "a.txt"
    target.write_text("old")
    monkeypatch.setattr(*((files, "sync") if step == "sync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    """Synced, then renamed, then the folder synced: a power cut leaves one of the two contents."""
    steps = []
    replace, sync = Path.replace, files.sync
    monkeypatch.setattr(files, "sync", lambda path: (steps.append(("sync", path.name)), sync(path)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append(("rename", to.name)), replace(self, to)))
    write_text(tmp_path / "a.txt", "new")
    (before, fresh), *after = steps
    assert (before, fresh != "a.txt") == ("sync", True)
    assert after == [("rename", "a.txt"), ("sync", tmp_path.name)]


def test_text_is_written_in_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "Zürich ⏎\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zürich ⏎\n".encode()


@pytest.mark.parametrize("old", [None, "file", "folder"])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path, old):
    target = tmp_path / "a"
    if old == "folder":
        (target / "inner").mkdir(parents=True)
        (target / "gone.txt").write_text("old")
    elif old == "file":
        target.write_text("old")
    with replaced_folder(target) as fresh:
        (fresh / "deep").mkdir()
        (fresh / "deep" / "new.txt").write_text("new")
    assert (target / "deep" / "new.txt").read_text() == "new"
    assert names(target) == ["deep"]
    assert names(tmp_path) == ["a"]


def test_what_a_library_wrote_for_its_owner_alone_can_be_read_as_a_plain_file_can(tmp_path):
    """safetensors makes files with mode 600; a folder of them could not be read by another user."""
    plain = tmp_path / "plain"
    plain.touch()
    with replaced_folder(tmp_path / "encoder") as fresh:
        (fresh / "deep").mkdir()
        for path in (fresh / "weights", fresh / "deep" / "script"):
            path.touch()
            path.chmod(0o700 if path.name == "script" else 0o600)
    usual = plain.stat().st_mode & 0o777
    assert (tmp_path / "encoder" / "weights").stat().st_mode & 0o777 == usual
    assert (tmp_path / "encoder" / "deep" / "script").stat().st_mode & 0o777 == usual | 0o700


def test_an_error_leaves_the_old_folder(tmp_path):
    target = tmp_path / "a"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(ValueError, match="bad"), replaced_folder(target) as fresh:  # noqa: PT012 - as above
        (fresh / "new.txt").write_text("half")
        raise ValueError("bad")
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("message", ["No space left (os error 28)", "Error while serializing: x (os error 28)"])
def test_a_full_disk_is_one_whichever_library_meets_it(tmp_path, message):
    with pytest.raises(OSError, match="No space left on device") as caught, replaced_folder(tmp_path / "a"):
        raise Exception(message)  # as tokenizers does
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(ValueError, match="of another kind"), replaced_folder(tmp_path / "a"):
        raise ValueError("of another kind")


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "a"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = Path.rename

    def fail(self, to):
        if self.name == ".a.new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"), replaced_folder(target) as fresh:
        (fresh / "new.txt").write_text("new")
    assert names(target) == ["old.txt"]


CRASH = """
import os, sys
from pathlib import Path
from llm2comp_apps import files
target, moment = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), 9)
if moment == "between":
    rename = Path.rename
    Path.rename = lambda self, to: die() if self.name.endswith(".new") else rename(self, to)
with files.replaced_folder(target) as fresh:
    (fresh / "new.txt").write_text("new")
    if moment == "inside":
        die()
"""


@pytest.mark.parametrize("moment", ["inside", "between"])
def test_what_a_crash_left_is_cleared_by_the_next_call(tmp_path, moment):
    target = tmp_path / "a"
    target.mkdir()
    (target / "old.txt").write_text("old")
    crashed = subprocess.run([sys.executable, "-c", CRASH, str(target), moment], check=False, env={**os.environ})
    assert crashed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2, "the crash left something"
    with pytest.raises(ValueError, match="again"), replaced_folder(target):
        raise ValueError("again")
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["a"]


def test_two_that_write_one_file_at_once_do_not_meet(tmp_path):
    target = tmp_path / "a.txt"
    with replaced_file(target) as one:
        one.write_text("one")
        with replaced_file(target) as two:  # on another machine, by a process of the same number
            two.write_text("two")
        assert target.read_text() == "two"
        assert one.read_text() == "one"
    assert target.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("there", [False, True])
def test_two_that_write_one_folder_at_once_do_not_meet(tmp_path, there):
    """Two `cluster` of one corpus took each other's half-filled folder away, and both failed."""
    target = tmp_path / "a"
    if there:
        target.mkdir()
        (target / "old").touch()
    with replaced_folder(target) as one:
        (one / "one").touch()
        with replaced_folder(target) as two, replaced_folder(target) as three:
            (two / "two").touch()
            (three / "three").touch()
        assert names(target) == ["two"]
        assert names(one) == ["one"]
    assert names(target) == ["one"]
    assert names(tmp_path) == ["a"]


MANY = """
import sys
from pathlib import Path
from llm2comp_apps.files import replaced_folder
for number in range(30):
    with replaced_folder(Path(sys.argv[1])) as fresh:
        (fresh / "a").write_text(sys.argv[2])
        (fresh / "b").write_text(sys.argv[2])
"""


def test_processes_that_write_one_folder_all_succeed(tmp_path):
    target = tmp_path / "a"
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(target), str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert (target / "a").read_text() == (target / "b").read_text()
    assert names(tmp_path) == ["a"]


def test_a_folder_may_be_replaced_within_one_that_is_being_filled(tmp_path):
    with replaced_folder(tmp_path / "a") as outer, replaced_folder(outer / "graph") as inner:
        (inner / "file").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["graph"]
    assert names(tmp_path / "a" / "graph") == ["file"]


def test_what_is_written_for_a_file_or_another_folder_is_no_leftover(tmp_path):
    (tmp_path / ".a.b.new").mkdir()
    with replaced_file(tmp_path / "a") as file:
        file.write_text("a file")
        with replaced_folder(tmp_path / "a"):
            assert file.exists()
        (tmp_path / "a").rmdir()
    assert names(tmp_path) == [".a.b.new", "a"]


def test_a_file_of_a_process_that_was_killed_stops_nobody(tmp_path):
    (tmp_path / ".a.txt.1.new").write_text("half")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one"),
        (ValueError(), "ValueError"),
        (ValueError("  \n "), "ValueError"),
        (OSError(2, "No such file", "x"), "[Errno 2] No such file: 'x'"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


def test_what_can_be_written_is_known_before_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("kept")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "a/b/c", folder=True)
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "pipe"}
    for target, folder in ((tmp_path / "a/b", False), (tmp_path, False), (tmp_path / "file/x", True)):
        with pytest.raises(OSError, match=r"directory") as found:
            check_writable(target, folder=folder)
        assert found.value.filename == str(target)
    (tmp_path / "link").symlink_to("missing/file")
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "link")


def test_a_lock_that_is_removed_in_the_end_has_one_holder(tmp_path, monkeypatch):
    path, held = tmp_path / "lock", ValueError("held")
    with locked_file(path, held, remove=True):
        with pytest.raises(ValueError, match="held"), locked_file(path, held, remove=True):
            pass
        assert path.exists()
    assert not path.exists()
    opened = os.open

    def slow(*args):  # its holder goes between this and the lock
        descriptor = opened(*args)
        path.unlink()
        path.write_text("another")
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with pytest.raises(ValueError, match="held"), locked_file(path, held, remove=True):
        pass
    monkeypatch.undo()
    assert path.exists(), "another's"
