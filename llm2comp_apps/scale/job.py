"""A job: its plan, and what is known of each part. All of it is read from files, so any number of programs can join."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm2comp_apps import CorpusFile, CorpusOptions, CorpusSlice, IndexBlueprint, LLM2CompError, UsageError
from llm2comp_apps.scale.folder import JobFolder, open_folder

__all__ = ["LEASE_SECONDS", "DonePart", "Job", "Lease", "PartFailure", "worker_name"]

PLAN = "plan.json"
FORMAT = 1
#: A worker that was not heard of for so long has lost its part. Clocks of machines must not differ by as much.
LEASE_SECONDS = 120.0
#: Attempts after which a part is left alone.
MOST_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DonePart:
    """That a part is done.

    Attributes:
        plan: id of the plan it belongs to.
        bytes: of its file.
        sha256: of its file.
        documents: in it.
        vectors: in it.
        truncated: texts of which only the beginning was read.
        skipped: broken records that were left out.
        warnings: the first of them, a line each.
        seconds: it took, loading of the encoder not counted.
        finished: when, in seconds since 1970.
        worker: who made it.
    """

    plan: str
    bytes: int
    sha256: str
    documents: int
    vectors: int
    truncated: int
    skipped: int
    warnings: tuple[str, ...]
    seconds: float
    finished: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """That somebody works on a part.

    Attributes:
        worker: who: host, process, and a number.
        host: where.
        process: its id there.
        documents: encoded so far.
        beat: when it was last heard of, in seconds since 1970.
    """

    worker: str
    host: str
    process: int
    documents: int
    beat: float

    def holds(self) -> bool:
        """Whether the worker is still at it, as far as this machine can tell."""
        if time.time() - self.beat > LEASE_SECONDS:
            return False
        return self.host != socket.gethostname() or _alive(self.process)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFailure:
    """What went wrong with a part.

    Attributes:
        worker: with whom.
        reason: in one line.
    """

    worker: str
    reason: str


class Job:
    """A job that was planned.

    Attributes:
        folder: where its files are.
        id: hash of the plan: of what is encoded and how.
        blueprint: of the index.
        reading: how the corpus is read.
        parts: the slices of the corpus that each part consists of.
    """

    def __init__(
        self,
        folder: JobFolder,
        *,
        id: str,  # noqa: A002 - the word
        blueprint: IndexBlueprint,
        reading: CorpusOptions,
        parts: list[list[CorpusSlice]],
    ) -> None:
        """Join what was read; :meth:`open` reads it."""
        self.folder, self.id, self.blueprint, self.reading, self.parts = folder, id, blueprint, reading, parts
        self._known: dict[int, DonePart] = {}

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> Job:
        """Read the plan of a job.

        Raises:
            UsageError: there is none.
            LLM2CompError: it cannot be read, or is of another version.
        """
        folder = open_folder(location)
        data = folder.read(PLAN)
        if data is None:
            raise UsageError(f"{folder.location}: there is no {PLAN}; plan the job first", field="job")
        try:
            plan = json.loads(data)
            if plan["format"] != FORMAT:
                raise LLM2CompError(f"{folder.location}/{PLAN}: format {plan['format']}, this version reads {FORMAT}")
            return cls(folder, **_read_plan(plan))
        except (ValueError, KeyError, TypeError) as error:
            raise LLM2CompError(f"{folder.location}/{PLAN}: cannot be read: {error!r}") from error

    def __len__(self) -> int:
        return len(self.parts)

    def weight(self, part: int) -> int:
        """Bytes of the corpus that a part stands for."""
        return sum(each.weight for each in self.parts[part])

    def file(self, part: int) -> str:
        """The name of a part's file."""
        return f"parts/{part:05d}.parquet"

    # --- what is done ---

    def done(self) -> dict[int, DonePart]:
        """The parts that are done, in order: those whose record and file are both there, of the same size."""
        names = self.folder.names("parts")
        found = {}
        for part in range(len(self)):
            if f"{part:05d}.json" in names:
                record = self._known.get(part) or self.done_part(part)  # records do not change
                if record is not None and names.get(f"{part:05d}.parquet") == record.bytes:
                    found[part] = self._known[part] = record
        return found

    def done_part(self, part: int) -> DonePart | None:
        """The record of a part; ``None`` if there is none of this plan."""
        fields = self._json(f"parts/{part:05d}.json")
        if not fields or fields.get("plan") != self.id:
            return None
        return DonePart(**{**fields, "warnings": tuple(fields["warnings"])})

    def is_done(self, part: int) -> bool:
        """Whether a part is done."""
        record = self.done_part(part)
        return record is not None and self.folder.names("parts").get(f"{part:05d}.parquet") == record.bytes

    def finish(self, part: int, record: DonePart) -> None:
        """Tell that a part's file is there, and forget what went wrong before."""
        self.folder.write(f"parts/{part:05d}.json", _dump(asdict(record)))
        self.folder.remove(f"failures/{part:05d}.json")

    @contextmanager
    def checked(self, part: int, record: DonePart) -> Iterator[Path]:
        """The file of a part, compared with its record.

        Raises:
            LLM2CompError: it is another one. The record is removed, so that the next run makes the part again.
        """
        with self.folder.download(self.file(part)) as path:
            if sha256_of(path) != record.sha256:
                self._known.pop(part, None)
                self.folder.remove(f"parts/{part:05d}.json")
                reason = "is not what was written; run the job again, which makes this part again"
                raise LLM2CompError(f"{self.folder.location}/{self.file(part)}: {reason}")
            yield path

    # --- who works on what ---

    def leases(self) -> dict[int, Lease]:
        """The parts that somebody works on."""
        leases = {part: self.lease(part) for part in self._noted("leases")}
        return {part: lease for part, lease in leases.items() if lease is not None and lease.holds()}

    def lease(self, part: int) -> Lease | None:
        """Who took a part last; ``None`` if nobody did, or has given it back."""
        fields = self._json(f"leases/{part:05d}.json")
        if fields is None:
            return None
        if not fields:  # being written
            return Lease(worker="", host="", process=0, documents=0, beat=time.time())
        return Lease(**fields)

    def take(self, part: int, worker: str, *, by_force: bool = False) -> bool:
        """Take a part that nobody works on; whether that succeeded.

        Two that take over the same lost part at the same moment may both succeed: they write the same bytes.
        """
        name, data = f"leases/{part:05d}.json", self._lease_data(worker, 0)
        if self.folder.create(name, data):
            return True
        before = self.lease(part)
        if before is not None and before.holds() and not by_force:
            return False
        self.folder.write(name, data)
        return True

    @contextmanager
    def beating(self, part: int, worker: str) -> Iterator[list[int]]:
        """Renew a lease now and then, and give it back at the end.

        Yields:
            A list whose only item the caller sets to the number of documents encoded.
        """
        count, over = [0], threading.Event()

        def beat() -> None:
            while not over.wait(LEASE_SECONDS / 8):
                with suppress(Exception):  # a network or a full disk may be better the next time; a lease lasts eight
                    self.folder.write(f"leases/{part:05d}.json", self._lease_data(worker, count[0]))

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield count
        finally:
            over.set()
            thread.join()
            self.release(part)

    def release(self, part: int) -> None:
        """Give back a part whose worker is known to be gone."""
        self.folder.remove(f"leases/{part:05d}.json")

    @staticmethod
    def _lease_data(worker: str, documents: int) -> bytes:
        lease = Lease(
            worker=worker, host=socket.gethostname(), process=os.getpid(), documents=documents, beat=time.time()
        )
        return _dump(asdict(lease))

    # --- what went wrong ---

    def failures(self) -> dict[int, list[PartFailure]]:
        """What went wrong with the parts that are not done."""
        return {part: self.failures_of(part) for part in self._noted("failures")}

    def failures_of(self, part: int) -> list[PartFailure]:
        """What went wrong with a part so far."""
        return [PartFailure(**each) for each in self._json(f"failures/{part:05d}.json") or ()]

    def fail(self, part: int, worker: str, reason: str) -> list[PartFailure]:
        """Note that a part went wrong; all that is known of it."""
        failures = [*self.failures_of(part), PartFailure(worker=worker, reason=reason)]
        self.folder.write(f"failures/{part:05d}.json", _dump([asdict(each) for each in failures]))
        return failures

    def forgive(self) -> None:
        """Forget all failures, so that every part is tried again."""
        for part in self._noted("failures"):
            self.folder.remove(f"failures/{part:05d}.json")

    def _noted(self, folder: str) -> list[int]:
        """The parts of which a folder holds a file; what synchronisers and file managers left there is none of ours."""
        names = {f"{part:05d}.json": part for part in range(len(self))}
        return [names[name] for name in self.folder.names(folder) if name in names]

    def _json(self, name: str) -> Any:
        """A file that holds JSON: ``None`` if it is not there, ``{}`` if it cannot be read."""
        data = self.folder.read(name)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return {}


def worker_name(number: int = 0) -> str:
    """What this process is called in leases and records."""
    return f"{socket.gethostname()}:{os.getpid()}:{number}"


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plan_record(blueprint: IndexBlueprint, reading: CorpusOptions, parts: list[list[CorpusSlice]]) -> dict[str, Any]:
    """The content of ``plan.json``."""
    files = list(dict.fromkeys(each.file for part in parts for each in part))
    number = {file: place for place, file in enumerate(files)}
    cut = [[{**asdict(each), "file": number[each.file]} for each in part] for part in parts]
    record: dict[str, Any] = {
        "format": FORMAT,
        "blueprint": asdict(blueprint),
        "reading": asdict(reading),
        "inputs": [asdict(file) for file in files],
        "parts": cut,
    }
    same = [{**each, "changed": 0} for each in record["inputs"]]  # a copy of the corpus is the same corpus
    digest = hashlib.sha256(_dump({**record, "inputs": same})).hexdigest()
    return {"id": digest, **record}


def _read_plan(plan: dict[str, Any]) -> dict[str, Any]:
    files = [CorpusFile(**file) for file in plan["inputs"]]
    return {
        "id": plan["id"],
        "blueprint": IndexBlueprint(**plan["blueprint"]),
        "reading": CorpusOptions(**plan["reading"]),
        "parts": [[CorpusSlice(**{**each, "file": files[each["file"]]}) for each in part] for part in plan["parts"]],
    }


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
