"""Mailboxes: the mails of an ``.mbox`` file, one after another as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from typing import IO

from llm2comp_apps.corpus.readers.mail import mail_parts
from llm2comp_apps.corpus.readers.parts import Job, Part, clean, noted
from llm2comp_apps.corpus.records import BrokenFileError

__all__ = ["read"]

_FROM = b"From "
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_LONGEST_LINE = 2**20


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """Each mail as a part that is called by its Message-ID, and its attachments as further parts.

    A mail that cannot be read is a note; a mailbox of which none can be read is refused.

    Raises:
        BrokenFileError: not a mailbox.
    """
    used: dict[str, int] = {}
    found = 0
    for number, data in _mails(file, job):
        name = _name(data, number)
        used[name] = used.get(name, 0) + 1
        if used[name] > 1:
            name = f"{name}~{used[name]}"
        with noted(job, f"mail {number}"):
            yield from mail_parts(_QUOTED.sub(rb"\1", data), job, name)
            found += 1
    if not found:
        raise BrokenFileError(0, "no mail in it that can be read")


def _mails(file: IO[bytes], job: Job) -> Iterator[tuple[int, bytes]]:
    """The mails between the lines that begin with ``From`` behind an empty line, by their number."""
    held: list[bytes] = []
    size = number = 0
    empty = True
    while line := file.readline(_LONGEST_LINE):
        if empty and line.startswith(_FROM):
            if held:
                yield number, b"".join(held)
            number += 1
            held, size = [], 0
        elif not number and line.strip():
            raise BrokenFileError(0, "not a mailbox: it does not begin with a line From")
        elif number:
            size += len(line)
            if size <= job.limit:
                held.append(line)
            elif held:  # what follows of it is passed over
                job.notes.append(f"mail {number} is longer than {job.limit} bytes; its beginning is read")
                yield number, b"".join(held)
                held = []
        empty = not line.strip()
    if held:
        yield number, b"".join(held)


def _name(data: bytes, number: int) -> str:
    header = BytesHeaderParser().parsebytes(data[:_LONGEST_LINE])["Message-ID"]
    return clean(str(header or "")).strip().strip("<>")[:200] or str(number)
