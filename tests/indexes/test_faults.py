"""Errors, kills, power cuts, full disks and changed bytes: the last commit stands, and no answer is wrong.

The short forms run always; ``-m torture`` runs every operation, 200 random kills and thousands of changed bytes.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import llm2comp_indexes
import numpy as np
import pytest
from llm2comp_indexes import DamageWarning, Index, IndexExistsError, IndexMissingError, IndexStoreError
from llm2comp_indexes.storage import fs

HERE = Path(__file__).parent


class Faults(Protocol):
    """The count of a class of faults, from `conftest.py`."""

    tried: int
    survived: int
    note: str


NAMES = {"full": "no space at the n-th operation", "io": "I/O error at the n-th operation", "short": "n-th write short"}


def program(count: Faults, *arguments: object) -> dict[str, int]:
    """Run ``faulty_disk.py``, and count what it reports; returns that."""
    command = [sys.executable, str(HERE / "faulty_disk.py"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout.splitlines()[-1])
    count.tried += report["tried"]
    count.survived += report["survived"]
    assert result.returncode == 0, result.stderr[-3000:]
    return report


@pytest.mark.parametrize(("error", "first"), [("full", 3), ("io", 17), ("short", 29)])
def test_some_operations_fail(fast_path, faults, error, first):
    arguments = ("errors", fast_path, "--error", error, "--first", first, "--stride", 131)
    report = program(faults(NAMES[error]), *arguments)
    assert report["tried"] >= 4
    assert (report["refused"] == 0) == (error == "short")


@pytest.mark.torture
@pytest.mark.parametrize("error", ["full", "io", "short"])
def test_every_operation_fails_in_turn(fast_path, faults, error):
    count = faults(NAMES[error])
    report = program(count, "errors", fast_path, "--error", error)
    count.note = f"every one of {report['operations']} operations; {report['refused']} refused in one line"
    assert report["tried"] == report["operations"] > 400


def test_the_power_fails_at_some_operations(fast_path, faults):
    assert program(faults("power loss"), "power-loss", fast_path, "--stride", 97)["tried"] >= 4


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(3))
def test_the_power_fails_at_every_operation(fast_path, faults, seed):
    count = faults("power loss")
    report = program(count, "power-loss", fast_path, "--seed", seed)
    count.note = f"{seed + 1} times at each of {report['operations']} operations"
    assert report["tried"] == report["operations"]


class Life:
    """A process that lives the workload, and what may be on disk when it is gone."""

    def __init__(self, workload: ModuleType, path: Path, *arguments: object, log: Path | None = None) -> None:
        self._workload = workload
        self._path = path
        self._log = log or path.with_suffix(".log")
        command = [sys.executable, str(HERE / "workload.py"), str(path), *map(str, arguments)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True)

    def wait(self) -> str:
        """Wait for the end; returns what was written to stderr."""
        if not self.process.stderr.closed:
            self._errors = self.process.communicate()[1]
        return self._errors

    def check(self, path: Path | None = None) -> str:
        """Check the index, finish its life and check again; returns the last line that the process wrote.

        Args:
            path: a copy of it to look at instead.
        """
        path = path or self._path
        self.wait()
        lines = self._log.read_text().splitlines()
        steps = list(self._workload.steps())
        done = sum(line.startswith("done") for line in lines) - 1
        started = sum(line.startswith("start") for line in lines) - 1
        try:
            index = Index.open(path)
        except IndexMissingError:
            assert not lines
            return ""
        with index:
            assert index.verify() == []
            state = self._workload.contents(index)
            allowed = [steps[done].after if done >= 0 else {}, steps[max(started, 0)].after]
            assert state in allowed, (lines[-1:], state)
            for step in steps[max(done, 0) :]:
                step.apply(index)
            assert self._workload.contents(index) == steps[-1].after
            assert index.verify() == []
            with index.writer():
                pass
            assert list((path / "tmp").iterdir()) == []
        return lines[-1] if lines else ""


POINTS = {"segment-written": 2, "segment-renamed": 3, "lexical-written": 2, "lexical-renamed": 3}
POINTS |= {"ann-written": 1, "ann-renamed": 1, "before-commit": 5, "after-commit": 6}
"""Every named point of a commit, and which time of passing it the short form kills at."""


def kill_at(workload: ModuleType, path: Path, point: str, occurrence: int, count: Faults) -> bool:
    """Kill a process at a named point; returns whether it came there so often."""
    life = Life(workload, path, "--kill-at-point", f"{point}:{occurrence}")
    life.wait()
    killed = life.process.returncode == -signal.SIGKILL
    count.tried += killed
    life.check()
    count.survived += killed
    shutil.rmtree(path, ignore_errors=True)
    return killed


@pytest.mark.parametrize(("point", "occurrence"), POINTS.items())
def test_killed_at_a_named_point(fast_path, workload, faults, point, occurrence):
    assert kill_at(workload, fast_path / "index", point, occurrence, faults("kill -9 at a named point"))


@pytest.mark.torture
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_named_point(fast_path, workload, faults, point):
    count = faults("kill -9 at a named point")
    count.note = f"each of {len(POINTS)} points, every time that it is passed"
    times = 1
    while kill_at(workload, fast_path / "index", point, times, count):
        times += 1
    assert times > POINTS[point]


def test_every_named_point_is_killed_at():
    source = "".join(path.read_text("utf-8") for path in Path(llm2comp_indexes.__file__).parent.rglob("*.py"))
    assert set(re.findall(r'fs\.point\("([\w-]+)"\)', source)) == set(POINTS)


def kill_after(workload: ModuleType, path: Path, delay: float, count: Faults) -> bool:
    """Kill a process after some seconds; returns whether it was still alive."""
    life = Life(workload, path)
    time.sleep(delay)
    life.process.kill()
    life.wait()
    killed = life.process.returncode == -signal.SIGKILL
    count.tried += killed
    life.check()
    count.survived += killed
    shutil.rmtree(path, ignore_errors=True)
    return killed


AT_RANDOM = "kill -9 at a random moment"


def length_of_life(workload: ModuleType, path: Path) -> float:
    start = time.perf_counter()
    assert Life(workload, path).check().startswith("operations")
    shutil.rmtree(path)
    return time.perf_counter() - start


def test_killed_at_random_moments(fast_path, workload, faults):
    chance = random.Random(0)
    length = length_of_life(workload, fast_path / "whole")
    for _ in range(2):
        kill_after(workload, fast_path / "index", length * chance.uniform(0.2, 0.9), faults(AT_RANDOM))


@pytest.mark.torture
def test_killed_at_two_hundred_random_moments(fast_path, workload, faults):
    chance = random.Random(1)
    length = length_of_life(workload, fast_path / "whole")
    count = faults(AT_RANDOM)
    count.note = "during build, add, delete and compact"
    killed = 0
    for _ in range(2_000):
        killed += kill_after(workload, fast_path / "index", length * chance.uniform(0.1, 1), count)
        if killed == 200:
            return
    pytest.fail(f"only {killed} of 2000 processes were killed before they ended")


def live_on_a_full_disk(workload: ModuleType, path: Path, limit: int, count: Faults) -> bool:
    """Live where no file may grow beyond ``limit`` bytes; returns whether that was refused."""
    life = Life(workload, path, "--limit-file-size", limit)
    message = life.wait()
    refused = life.process.returncode != 0
    count.tried += refused
    if refused:
        assert "llm2comp_indexes.errors." in message.splitlines()[-1], message
    life.check()
    count.survived += refused
    shutil.rmtree(path, ignore_errors=True)
    return refused


@pytest.mark.parametrize("limit", [1_000, 20_000, 45_000])
def test_files_cannot_grow(fast_path, workload, faults, limit):
    assert live_on_a_full_disk(workload, fast_path / "index", limit, faults("files cannot grow"))


@pytest.mark.torture
def test_files_cannot_grow_at_many_sizes(fast_path, workload, faults):
    count = faults("files cannot grow")
    for limit in range(500, 120_000, 1_500):
        live_on_a_full_disk(workload, fast_path / "index", limit, count)
    assert count.tried > 10


@contextlib.contextmanager
def small_file_system(path: Path, size: int) -> Iterator[bool]:
    """A tmpfs of ``size`` bytes; False where mounting is not permitted."""
    path.mkdir()
    mounted = (
        shutil.which("mount") is not None
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, check=False
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


@pytest.mark.torture
def test_a_file_system_that_is_really_full(fast_path, workload, faults):
    """Fill up a small tmpfs in the middle of life, check what is there, and go on where there is room."""
    count = faults("full file system (tmpfs)")
    count.note = "mounting is not permitted here; the line above covers it"
    for size in range(100_000, 1_000_000, 25_000):
        with small_file_system(fast_path / f"disk{size}", size) as mounted:
            if not mounted:
                return
            path = fast_path / f"disk{size}" / "index"
            life = Life(workload, path, log=fast_path / "life.log")  # not on the disk that is to be full
            message = life.wait()
            if not life.process.returncode:
                continue
            count.tried += 1
            count.note = ""
            assert "llm2comp_indexes.errors." in message.splitlines()[-1], message
            copy = fast_path / "copy"
            if path.exists():
                shutil.copytree(path, copy)
            life.check(copy)
            shutil.rmtree(copy, ignore_errors=True)
            count.survived += 1
    assert count.tried > 10


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, workload) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "index"
    workload.everything(path)
    return path


def change(content: bytes, chance: random.Random) -> bytes | None:
    """The content with a bit flipped, cut short, with bytes too many, or (None) gone."""
    what = chance.choice(["flip", "flip", "flip", "cut", "more", "gone", "zeros"])
    if what == "gone" or not content:
        return None
    position = chance.randrange(len(content))
    if what == "flip":
        return content[:position] + bytes([content[position] ^ 1 << chance.randrange(8)]) + content[position + 1 :]
    if what == "zeros":
        zeroed = content[:position] + bytes(min(512, len(content) - position)) + content[position + 512 :]
        return zeroed if zeroed != content else content[:-1]
    return content[:position] if what == "cut" else content + bytes(chance.randrange(1, 99))


def answers(index: Index, workload: ModuleType) -> list[object]:
    """Searches of every kind; scores rounded, since a scan in place of a damaged FAISS file adds up in another order.

    BM25 scores are left out: an index that is rebuilt in memory counts no deleted documents.
    """
    queries = np.concatenate([workload.vector(f"query{i}", 0) for i in range(3)])
    found: list[object] = [
        [(hit.id, round(hit.score, 4), hit.span) for hit in hits]
        for where in (None, "version = 1 and name like 'b%'")
        for hits in index.search(queries, 200, where=where)
    ]
    found.append([hit.id for hit in index.search_lexical("common namea7 version1", 200)])
    found.append(index.get(list(index.ids())))
    found.append(index.memory(["a1", "b2", "c3"]).tolist())
    return found


def survive_changes(
    pristine: Path, copy: Path, workload: ModuleType, trials: int, seed: int, count: Faults
) -> dict[str, int]:
    """Change one file at a time; returns how often a search answered rightly, or was refused."""
    shutil.copytree(pristine, copy)
    with Index.open(copy) as index:
        expected = answers(index, workload)
    passing = (
        "LOCK",
        "store.db-wal",
        "store.db-shm",
    )  # no files of a generation; SQLite checks its log when it is opened
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name not in passing]
    files = [path for path in files if path.stat().st_size]
    chance = random.Random(seed)
    outcome = {"answered": 0, "refused": 0}
    for _ in range(trials):
        path = chance.choice(files)
        content = path.read_bytes()
        path.unlink()
        if (changed := change(content, chance)) is not None:
            path.write_bytes(changed)
        count.tried += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            assert found_by_verify(copy), path
            try:
                with Index.open(copy) as index:
                    given = answers(index, workload)
            except IndexStoreError:
                outcome["refused"] += 1
            else:
                assert given == expected, path
                outcome["answered"] += 1
        count.survived += 1
        for leftover in copy.glob("store.db-*"):
            leftover.unlink()
        path.write_bytes(content)
    return outcome


def found_by_verify(path: Path) -> bool:
    try:
        with Index.open(path) as index:
            return bool(index.verify())
    except IndexStoreError:
        return True


CHANGED = "changed, cut or missing file"


def test_changed_bytes_are_found_and_never_answered_from(pristine, fast_path, workload, faults):
    outcome = survive_changes(pristine, fast_path / "copy", workload, 90, 0, faults(CHANGED))
    assert min(outcome.values()) > 5


@pytest.mark.torture
def test_thousands_of_changed_bytes_are_found(pristine, fast_path, workload, faults):
    count = faults(CHANGED)
    outcome = survive_changes(pristine, fast_path / "copy", workload, 5_000, 1, count)
    count.note = (
        f"verify found every one; then {outcome['answered']} searched rightly without it, {outcome['refused']} refused"
    )
    assert min(outcome.values()) > 100


def test_a_writer_that_failed_commits_nothing_more(make_index, fill):
    index = make_index()
    fill(index, 5)

    def fail(operation: str, path: Path, size: int) -> int:
        if operation == "write":
            raise OSError(28, "No space left on device", str(path))
        return size

    with index.writer() as writer:
        with fs.observed(fail), pytest.raises(IndexStoreError, match="No space left on device") as error:
            writer.add([index.get(["d0"])[0]], np.ones((1, 8)))
        assert f"stays at generation {index.generation}" in str(error.value)
        with pytest.raises(IndexStoreError, match="a write failed"):
            writer.commit()
    assert index.verify() == []
    assert len(index) == 5


def test_a_full_disk_leaves_no_half_made_index(fast_path):
    def fail(operation: str, path: Path, size: int) -> int:
        if operation == "rename":
            raise OSError(28, "No space left on device", str(path))
        return size

    with fs.observed(fail), pytest.raises(IndexStoreError, match="cannot be created: No space left"):
        Index.create(fast_path / "index", dimension=2, encoder={"name": "x", "fingerprint": "y"})
    assert list(fast_path.iterdir()) == []


def test_of_two_that_make_one_index_the_later_one_is_told_to_come_again(fast_path, make_index, monkeypatch):
    rename = fs.rename

    def first_another(source: Path, target: Path) -> None:
        monkeypatch.setattr(fs, "rename", rename)
        make_index("i")
        rename(source, target)

    monkeypatch.setattr(fs, "rename", first_another)
    with pytest.raises(IndexExistsError, match=r"i: another program has just made it; do the same again"):
        make_index("i")
    assert len(Index.open(fast_path / "i")) == 0
    assert [each.name for each in fast_path.iterdir()] == ["i"]


@pytest.mark.parametrize(
    ("limit", "line"),
    [(30_000, r"store\.db-shm: no room for its 32 KiB: the disk is full"), (40_000, r"store\.db: cannot")],
)
def test_a_limit_below_what_sqlite_needs_says_so(fast_path, limit, line):
    program = (
        "import resource, signal, sys; from llm2comp_indexes import Index; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "Index.create(sys.argv[1], dimension=2, encoder={'name': 'x', 'fingerprint': 'y'})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, fast_path / "i"], capture_output=True, text=True, check=False
    )
    last = ended.stderr.splitlines()[-1]
    assert "IndexWriteError" in last
    assert re.search(line, last)
    assert last.endswith("or files may not be so large (ulimit -f)")
    assert list(fast_path.iterdir()) == []
