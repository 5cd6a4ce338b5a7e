"""Readers in a process of their own: what a file does to its parser happens there.

The process reads one file after another and ends by itself when nothing comes for a minute. It has three quarters of a
gigabyte of memory at most and may write no files. Where it crashes or takes too long over a part, it is ended, the file
is named, and the next file gets a new one.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llm2comp_apps.corpus.deadline import too_slow
from llm2comp_apps.corpus.files import OpenFile
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.readers import READERS
from llm2comp_apps.corpus.readers.parts import Part
from llm2comp_apps.corpus.readers.pipes import readable
from llm2comp_apps.corpus.records import DAMAGED, NO_READER, TOO_LARGE, BrokenFileError
from llm2comp_apps.corpus.report import ReadReport

__all__ = ["read_isolated"]

_BLOCK = 2**18
_LARGEST = 2**30  # bytes of a packed file or one from a pipe, which has to be unpacked on disk first
_ROOT = Path(__file__).parents[3]
_PROGRAM = Path(__file__).with_name("worker.py")


def read_isolated(opened: OpenFile, kind: str, options: CorpusOptions, report: ReadReport) -> Iterator[Part]:
    """The parts of a file.

    Args:
        opened: the file.
        kind: one of :data:`.READERS`.
        options: limits, and whether pages are parts.
        report: takes notes and progress.

    Raises:
        BrokenFileError: the reader says so; the file took longer over a part than ``max_seconds``, unpacking it being
            a piece of the first one; its parser crashed; or the extra that it needs is not installed.
    """
    form = READERS[kind]
    if form.missing:
        reason = f"reading {kind} needs {form.needs}: pip install 'llm2comp-apps[documents]'"
        raise BrokenFileError(0, reason, NO_READER)
    spent = 0.0
    with tempfile.NamedTemporaryFile() as copy:
        if opened.seekable:
            assert opened.file.path is not None
            path = opened.file.path
        else:
            path = Path(copy.name)
            packed = opened.file.path is not None and opened.file.path.is_file()
            taken = _copy(opened.stream, copy, options.max_seconds if packed else math.inf)
            spent = taken if packed else 0.0
        job = {
            "kind": kind,
            "path": str(path.absolute()),
            "name": path.name,
            "pages": options.pages,
            "limit": options.max_record_chars,
        }
        worker = _taken()
        try:
            yield from worker.parts(job, options.max_seconds, spent, opened.file.name, report)
        finally:
            _IDLE.append(worker)
    report.bytes_done = max(report.bytes_done, opened.before + opened.file.size)


def _copy(source: IO[bytes], target: IO[bytes], seconds: float) -> float:
    """Unpack a file, or read a pipe, whose writer may take its time; returns how long that took."""
    left, begun = _LARGEST, time.monotonic()
    while block := source.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise BrokenFileError(0, f"it unpacks to more than {_LARGEST} bytes", TOO_LARGE)
        if time.monotonic() - begun > seconds:
            raise too_slow(seconds)
        target.write(block)
    target.flush()
    return time.monotonic() - begun


class _Worker:
    """The process and the pipes to it; started when it is needed."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def parts(self, job: dict[str, Any], seconds: float, spent: float, name: str, report: ReadReport) -> Iterator[Part]:
        """Have a file read: so many seconds for each part, of which some are spent already on the first."""
        self._send(job)
        finished = False
        try:
            while True:
                answer = self._answer(seconds, spent)
                spent = 0.0
                if "end" in answer or "error" in answer:
                    finished = True
                for line in answer.get("notes", ()):
                    report.note(f"{name}: {line}")
                if "error" in answer:
                    raise BrokenFileError(0, answer["error"], answer["why"])
                if finished:
                    return
                if "text" in answer:
                    answer.pop("notes", None)
                    yield Part(**answer)
        finally:
            if not finished:  # whatever it still has to say belongs to no file that is wanted
                self._stop()

    def _send(self, job: dict[str, Any]) -> None:
        line = json.dumps(job).encode() + b"\n"
        for _ in range(2):
            process = self._started()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except OSError:  # it had ended by itself
                self._stop()
            else:
                return
        raise BrokenFileError(0, "no process could be started to read it")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(  # noqa: S603 - a program of our own
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        return self._process

    def _answer(self, seconds: float, spent: float) -> dict[str, Any]:
        """The next line that the process says.

        Raises:
            BrokenFileError: it says nothing for so long, or has ended.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        until = time.monotonic() + seconds - spent
        blocks = [self._pending]
        while b"\n" not in blocks[-1]:
            if not readable(pipe, max(0.0, until - time.monotonic())):
                raise too_slow(seconds)
            block = os.read(pipe, _BLOCK)
            if not block:
                raise _crash(self._process)
            blocks.append(block)
        line, _, self._pending = b"".join(blocks).partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        self._pending = b""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:  # what was written did not arrive
                        continue
            self._process.wait()
            self._process = None


def _crash(process: subprocess.Popen[bytes]) -> BrokenFileError:
    """What became of a process that ended in the middle of a file."""
    code = process.wait()
    what = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return BrokenFileError(0, f"its parser {what}: the file is damaged, or takes too much memory", DAMAGED)


_IDLE: list[_Worker] = []
"""Workers that nobody uses; taking and giving back are one step each for threads."""


def _taken() -> _Worker:
    """A worker for one file: an idle one, unless it belongs to the process that this one was forked from."""
    while True:
        try:
            worker = _IDLE.pop()
        except IndexError:
            return _Worker()
        if worker.owner == os.getpid():
            return worker
