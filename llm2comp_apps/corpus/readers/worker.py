"""The process in which files are read: jobs come in as lines of JSON, parts go out as such; see :mod:`.isolation`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llm2comp_apps.corpus.readers import READERS
from llm2comp_apps.corpus.readers.parts import Job, Part, clean
from llm2comp_apps.corpus.readers.pipes import readable
from llm2comp_apps.corpus.records import DAMAGED, NO_TEXT, TOO_LARGE, BrokenFileError

__all__ = ["answers", "main"]

_MEMORY = 768 * 2**20  # bytes; with the program that waits for it, less than a gigabyte
_IDLE = 60.0  # seconds
_IN, _OUT = 0, 1


def answers(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is to be said about a file: its parts, then ``end``, or an ``error`` with its ``why``."""
    how = Job(pages=job["pages"], limit=job["limit"], name=job["name"])
    found = False
    try:
        with Path(job["path"]).open("rb") as file:
            for part in READERS[job["kind"]].load()(file, how):
                if part.text.strip() or part.title.strip():
                    found = True
                    yield _plain(part)
        if not found:
            raise BrokenFileError(0, "there is no text in it", NO_TEXT)
    except BrokenFileError as error:
        yield {"error": error.reason, "why": error.why, "notes": how.notes}
    except MemoryError:
        yield {"error": "it needs more memory than a document may", "why": TOO_LARGE}
    except Exception as error:  # noqa: BLE001 - whatever a damaged file does to a parser costs that file alone
        reason = f"it cannot be read: {type(error).__name__}: {clean(str(error))[:200]}"
        yield {"error": reason, "why": DAMAGED, "notes": how.notes}
    else:
        yield {"end": True, "notes": how.notes}


def _plain(part: Part) -> dict[str, Any]:
    plain = dataclasses.asdict(part)
    for key in ("text", "title", "name"):
        plain[key] = clean(plain[key])
    return plain


def main() -> None:
    """Read files until nothing comes any more."""
    _limit()
    with os.fdopen(_IN, "rb", buffering=0) as jobs, os.fdopen(os.dup(_OUT), "wb") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _OUT)  # what a parser prints is no answer
        for line in _lines(jobs):
            for answer in answers(json.loads(line)):
                out.write(json.dumps(answer).encode() + b"\n")
                out.flush()


def _lines(jobs: IO[bytes]) -> Iterator[bytes]:
    held = b""
    while True:
        block = os.read(jobs.fileno(), 2**16) if readable(jobs.fileno(), _IDLE) else b""
        if not block:
            return
        *whole, held = (held + block).split(b"\n")
        yield from whole


def _limit() -> None:
    """Bound the memory of this process, and keep it from writing files and dumping its memory."""
    with contextlib.suppress(ImportError):  # no such limits on Windows
        import resource

        for what, most in (("RLIMIT_AS", _MEMORY), ("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 0)):
            with contextlib.suppress(AttributeError, ValueError, OSError):  # macOS has not all of them
                resource.setrlimit(getattr(resource, what), (most, most))


if __name__ == "__main__":
    main()
