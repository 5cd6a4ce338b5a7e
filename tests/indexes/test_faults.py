"""Errors, kills, power cuts, full disks and changed bytes: the last commit stands, and no answer is wrong.

The short forms run always; ``-m torture`` runs every operation, 200 random kills and thousands of changed bytes.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from llm2comp_indexes import DamageWarning, Index, IndexMissingError, IndexStoreError, fs

HERE = Path(__file__).parent


def program(name: str, *arguments: object) -> dict[str, int]:
    """Run one of the programs beside this file; returns its report."""
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("error", "first"), [("full", 3), ("io", 17), ("short", 29)])
def test_some_operations_fail(fast_path, error, first):
    report = program("faulty_disk.py", "errors", fast_path, "--error", error, "--first", first, "--stride", 89)
    assert report["tried"] >= 5
    assert (report["refused"] == 0) == (error == "short")


@pytest.mark.torture
@pytest.mark.parametrize("error", ["full", "io", "short"])
def test_every_operation_fails_in_turn(fast_path, error):
    report = program("faulty_disk.py", "errors", fast_path, "--error", error)
    print(f"{error}: {report}")
    assert report["tried"] > report["operations"] > 300


def test_the_power_fails_at_some_operations(fast_path):
    assert program("faulty_disk.py", "power-loss", fast_path, "--stride", 61)["tried"] >= 6


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(3))
def test_the_power_fails_at_every_operation(fast_path, seed):
    report = program("faulty_disk.py", "power-loss", fast_path, "--seed", seed)
    print(f"power loss: {report}")
    assert report["tried"] == report["operations"]


class Life:
    """A process that lives the workload, and what may be on disk when it is gone."""

    def __init__(self, workload: ModuleType, path: Path, *arguments: object) -> None:
        self._workload = workload
        self._path = path
        self._log = path.with_suffix(".log")
        command = [sys.executable, str(HERE / "workload.py"), str(path), *map(str, arguments)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True)

    def wait(self) -> str:
        """Wait for the end; returns what was written to stderr."""
        if not self.process.stderr.closed:
            self._errors = self.process.communicate()[1]
        return self._errors

    def check(self) -> str:
        """Check the index, finish its life and check again; returns the last line that the process wrote."""
        self.wait()
        lines = self._log.read_text().splitlines()
        steps = list(self._workload.steps())
        done = sum(line.startswith("done") for line in lines) - 1
        started = sum(line.startswith("start") for line in lines) - 1
        try:
            index = Index.open(self._path)
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
            assert list((self._path / "tmp").iterdir()) == []
        return lines[-1] if lines else ""


POINTS = ["segment-written", "segment-renamed", "lexical-written", "lexical-renamed", "before-commit", "after-commit"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(fast_path, workload, point):
    life = Life(workload, fast_path / "index", "--kill-at-point", f"{point}:3")
    life.check()
    assert life.process.returncode == -signal.SIGKILL


@pytest.mark.torture
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("occurrence", range(1, 9))
def test_killed_at_every_named_point(fast_path, workload, point, occurrence):
    Life(workload, fast_path / "index", "--kill-at-point", f"{point}:{occurrence}").check()


def kill_after(workload: ModuleType, path: Path, delay: float) -> bool:
    life = Life(workload, path)
    time.sleep(delay)
    life.process.kill()
    last = life.check()
    shutil.rmtree(path, ignore_errors=True)
    return not last.startswith("operations")


def length_of_life(workload: ModuleType, path: Path) -> float:
    start = time.perf_counter()
    assert Life(workload, path).check().startswith("operations")
    shutil.rmtree(path)
    return time.perf_counter() - start


def test_killed_at_random_moments(fast_path, workload):
    chance = random.Random(0)
    length = length_of_life(workload, fast_path / "whole")
    for attempt in range(2):
        kill_after(workload, fast_path / f"index{attempt}", length * chance.uniform(0.2, 0.9))


@pytest.mark.torture
def test_killed_at_two_hundred_random_moments(fast_path, workload):
    chance = random.Random(1)
    length = length_of_life(workload, fast_path / "whole")
    killed = sum(kill_after(workload, fast_path / f"i{n}", length * chance.uniform(0.1, 1)) for n in range(200))
    print(f"killed in mid-life: {killed} of 200")
    assert killed > 100


def live_on_a_full_disk(workload: ModuleType, path: Path, limit: int) -> bool:
    life = Life(workload, path, "--limit-file-size", limit)
    message = life.wait()
    if life.process.returncode:
        assert "llm2comp_indexes.errors." in message.splitlines()[-1], message
    life.check()
    return life.process.returncode != 0


@pytest.mark.parametrize("limit", [1_000, 20_000, 45_000])
def test_files_cannot_grow(fast_path, workload, limit):
    assert live_on_a_full_disk(workload, fast_path / "index", limit)


@pytest.mark.torture
def test_files_cannot_grow_at_many_sizes(fast_path, workload):
    refused = 0
    for limit in range(500, 120_000, 1_500):
        refused += live_on_a_full_disk(workload, fast_path / f"index{limit}", limit)
        shutil.rmtree(fast_path / f"index{limit}", ignore_errors=True)
    print(f"refused by a full disk: {refused} of 80")
    assert refused > 10


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
def test_a_file_system_that_is_really_full(fast_path, workload):
    """Fill up a small tmpfs in the middle of life, check, make room, and go on."""
    tried = refused = 0
    for size in range(100_000, 1_000_000, 50_000):
        with small_file_system(fast_path / f"disk{size}", size) as mounted:
            if not mounted:
                return  # the file-size limit above covers it where mounting is not permitted
            path = fast_path / f"disk{size}" / "index"
            life = Life(workload, path)
            message = life.wait()
            tried += 1
            if life.process.returncode:
                refused += 1
                assert "llm2comp_indexes.errors." in message.splitlines()[-1], message
            if path.exists():
                copy = fast_path / f"copy{size}"
                shutil.copytree(path, copy)
                with Index.open(copy) as index:
                    assert index.verify() == []
                    workload.contents(index)
    print(f"refused by a full tmpfs: {refused} of {tried}")


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


def survive_changes(pristine: Path, copy: Path, workload: ModuleType, trials: int, seed: int) -> dict[str, int]:
    """Change one file at a time; returns how often a search answered rightly, or was refused."""
    shutil.copytree(pristine, copy)
    with Index.open(copy) as index:
        expected = answers(index, workload)
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "LOCK" and path.stat().st_size]
    chance = random.Random(seed)
    outcome = {"answered": 0, "refused": 0}
    for _ in range(trials):
        path = chance.choice(files)
        content = path.read_bytes()
        path.unlink()
        if (changed := change(content, chance)) is not None:
            path.write_bytes(changed)
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


def test_changed_bytes_are_found_and_never_answered_from(pristine, fast_path, workload):
    outcome = survive_changes(pristine, fast_path / "copy", workload, 150, seed=0)
    assert min(outcome.values()) > 10


@pytest.mark.torture
def test_thousands_of_changed_bytes_are_found(pristine, fast_path, workload):
    outcome = survive_changes(pristine, fast_path / "copy", workload, 5_000, seed=1)
    print(f"changed files: {outcome}")
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
