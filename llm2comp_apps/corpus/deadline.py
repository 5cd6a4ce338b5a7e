"""How long a file may take for each of its records, where it is read in this process.

Nothing can interrupt a parser from outside here, so whoever reads the file's bytes looks at the clock, and whoever
takes its records. The parsers themselves do work that is proportional to the text.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

from llm2comp_apps.corpus.files import Readable
from llm2comp_apps.corpus.records import TOO_SLOW, BrokenFileError, Record

__all__ = ["Deadline", "too_slow"]

_BLOCK = 2**17


def too_slow(seconds: float) -> BrokenFileError:
    """The error of a file that took longer over a part than it may."""
    return BrokenFileError(0, f"it took more than {seconds:g} seconds (`max_seconds` allows more)", TOO_SLOW)


class Deadline:
    """The time that is left for the next record of a file."""

    def __init__(self, seconds: float) -> None:
        """Start the clock: so many seconds for each record."""
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """A record is done; what its reader does with it takes no time of the next one."""
        self._begun = time.monotonic()

    def check(self) -> None:
        """Raise if the time is over.

        Raises:
            BrokenFileError: it is.
        """
        if time.monotonic() - self._begun > self._seconds:
            raise too_slow(self._seconds)

    def watched(self, stream: io.BufferedReader[Readable]) -> io.BufferedReader[Readable]:
        """The same stream, which looks at the clock before it reads on."""

        def read(size: int) -> bytes:
            self.check()
            return stream.read1(size)

        return io.BufferedReader(Readable(read), _BLOCK)

    def each(self, records: Iterator[Record]) -> Iterator[Record]:
        """The same records; raises where one of them came too late."""
        self.restart()
        for record in records:
            self.check()
            yield record
            self.restart()
