"""Mails: subject, sender, date and text, and what is attached, by its own reader."""

from __future__ import annotations

import io
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any

from llm2comp_apps.corpus.readers import READERS, form_of
from llm2comp_apps.corpus.readers.charsets import decoded
from llm2comp_apps.corpus.readers.parts import Job, Part, clean, noted, read_bytes, tidy
from llm2comp_apps.corpus.records import BrokenFileError

__all__ = ["mail_parts", "read"]

_DEEPEST = 3  # mails in mails
_MOST_PARTS = 500  # of one mail
_HEADERS = {"from": "From", "to": "To", "cc": "Cc"}
_ENCODED_WORDS = re.compile(r"(?i)(?:=\?[^?\s]+\?[bq]\?[^?]*\?=\s*)+")
_PLAIN = (".txt", ".text", ".md", ".markdown")


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The mail as one part, and each attachment that can be read as one or several more.

    Raises:
        BrokenFileError: it has no header that mails have, or is longer than ``job.limit`` bytes.
    """
    yield from mail_parts(read_bytes(file, job.limit), job, "")


def mail_parts(data: bytes, job: Job, name: str) -> Iterator[Part]:
    """The parts of a mail whose own part is called ``name``; see :func:`read`."""
    message = message_from_bytes(data)
    if not any(message[header] for header in ("From", "Subject", "Date", "Message-ID", "Received")):
        raise BrokenFileError(0, "no mail: it has neither sender nor subject nor date")
    fields: dict[str, Any] = {}
    for field, header in _HEADERS.items():
        if value := _header(message, header):
            fields[field] = value
    fields.update(_date(message))
    subject = _header(message, "Subject")
    leaves = list(_leaves(message))
    attached = [(part, _file_name(part)) for part in leaves if _file_name(part)]
    if attached:
        fields["attachments"] = [file for _, file in attached]
    yield Part(text=_body([part for part in leaves if not _file_name(part)]), title=subject, name=name, fields=fields)
    about: dict[str, Any] = {key: fields[key] for key in ("from", "date") if key in fields}
    about["mail"] = subject
    used: Counter[str] = Counter()
    for part, file in attached:
        used[file] += 1
        called = file if used[file] == 1 else f"{file}~{used[file]}"  # as two mails that were passed on in one
        below = f"{name}/attachment={called}" if name else f"attachment={called}"
        with noted(job, f"the attachment {file} of {subject!r}"):
            yield from _attachment(part, file, job, below, about)


def _leaves(message: Message) -> Iterator[Message]:
    """The parts of a mail that hold something; a mail in it is one."""
    waiting: list[Message] = [message]
    count = 0
    while waiting and count < _MOST_PARTS:
        part = waiting.pop(0)
        inner = part.get_payload() if part.is_multipart() else None  # else it would be decoded, by whatever it says
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting[:0] = [each for each in inner if isinstance(each, Message)]
        else:
            count += 1
            yield part


def _file_name(part: Message) -> str:
    """What an attachment is called, without folders; empty for a part of the text."""
    name = part.get_filename()
    if name:
        return posixpath.basename(_decoded(name).replace("\\", "/"))[:200]
    if part.get_content_type() == "message/rfc822":
        return "message.eml"
    return "attachment" if part.get_content_disposition() == "attachment" else ""


def _body(parts: list[Message]) -> str:
    """The plain text, or that of the HTML where there is none."""
    for kind in ("text/plain", "text/html"):
        read = _page if kind == "text/html" else _text
        texts = [read(part) for part in parts if part.get_content_type() == kind]
        if any(text.strip() for text in texts):
            return tidy("\n\n".join(texts))
    return ""


def _page(part: Message) -> str:
    if READERS["html"].missing:
        return ""
    from llm2comp_apps.corpus.readers.html import decode, page_of

    return page_of(_text(part) if part.get_content_charset() else decode(_payload(part)))[1]


def _text(part: Message) -> str:
    charset = part.get_content_charset()
    return decoded(_payload(part), [charset] if charset else []).replace("\r\n", "\n")


def _payload(part: Message) -> bytes:
    if part.is_multipart():  # a mail in a mail
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first.as_bytes() if isinstance(first, Message) else b""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _attachment(part: Message, file: str, job: Job, below: str, about: dict[str, Any]) -> Iterator[Part]:
    """The parts of an attached file, whose names begin with ``below``."""
    form = form_of(file)
    inner = Job(pages=job.pages, limit=job.limit, name=file, depth=job.depth + 1, notes=job.notes)
    if file.lower().endswith(_PLAIN):
        yield Part(text=tidy(_text(part)), title=file, name=below, fields=about)
    elif form == "eml" and inner.depth > _DEEPEST:
        job.notes.append(f"mails in mails are read {_DEEPEST} deep, and what lies below is not")
    elif form == "eml":
        yield from mail_parts(_payload(part), inner, below)
    elif form and form != "mbox" and not READERS[form].missing:
        for found in READERS[form].load()(io.BytesIO(_payload(part)), inner):
            called = f"{below}/{found.name}" if found.name else below
            yield Part(text=found.text, title=found.title or file, name=called, fields={**found.fields, **about})


def _header(message: Message, name: str) -> str:
    """What a header says; the message itself would give U+FFFD for what is not ASCII in it."""
    found = (value for key, value in message.raw_items() if key.lower() == name.lower())
    return _decoded(str(next(found, "")))


def _decoded(value: str) -> str:
    """A header's value with the characters that it means: those of encoded words, and those that stand there bare."""
    bare = decoded(value.encode("utf-8", "surrogateescape"))
    return " ".join(clean(_ENCODED_WORDS.sub(_plain_words, " ".join(bare.split()))).split())


def _plain_words(found: re.Match[str]) -> str:
    words = found.group()
    try:
        pieces = decode_header(words)
    except (ValueError, HeaderParseError):
        return words
    plain = (piece if isinstance(piece, str) else decoded(piece, [label] if label else []) for piece, label in pieces)
    return "".join(plain) + words[len(words.rstrip()) :]


def _date(message: Message) -> dict[str, str]:
    try:
        return {"date": parsedate_to_datetime(str(message["Date"])).isoformat()}
    except (ValueError, TypeError, IndexError, OverflowError):
        return {}
