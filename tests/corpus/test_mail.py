"""Mails as programs write them: bare characters in headers, names that come twice, pieces that cannot be read."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from . import forms


def mail(*parts: str) -> bytes:
    """A mail of several parts, each with its own headers."""
    head = "From: ada@example.org\nSubject: Several\nContent-Type: multipart/mixed; boundary=B\n"
    return "\n--B\n".join([head, *parts]).encode() + b"\n--B--\n"


def attached(name: str, text: str) -> str:
    return f'Content-Type: text/plain\nContent-Disposition: attachment; filename="{name}"\n\n{text}'


def passed_on(subject: str, text: str) -> str:
    return f"Content-Type: message/rfc822\n\nFrom: bob@example.org\nSubject: {subject}\n\n{text}"


def damaged_docx() -> bytes:
    """A Word document whose packing breaks in a way that no reader expects."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("word/document.xml", "<w>" + "x" * 3000 + "</w>")
    data = bytearray(out.getvalue())
    start = data.find(b"word/document.xml") + len(b"word/document.xml") + 11
    data[start : start + 10] = bytes(byte ^ 0x5A for byte in data[start : start + 10])
    return bytes(data)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("Grüße aus Köln".encode(), "Grüße aus Köln"),
        ("Grüße aus Köln".encode("cp1252"), "Grüße aus Köln"),
        ("朱 =?utf-8?q?caf=C3=A9?=\n und Grüße".encode(), "朱 café und Grüße"),
        (b"Re: =?iso-8859-1?Q?don=92t?= =?utf-8?q?_caf=C3?=\n =?utf-8?q?=A9?= au\n lait", "Re: don’t café au lait"),
        (b"=?utf-8?b?abcde?=", "=?utf-8?b?abcde?="),
        (b"=?utf-8?q?cut off", "=?utf-8?q?cut off"),
        (b"=?no-such?q?caf=C3=A9?=", "café"),
    ],
)
def test_headers_say_what_they_mean(header: bytes, meant: str, write: Any, read: Any) -> None:
    (document,), _ = read(write("a.eml", b"From: x <a@x>\nSubject: " + header + b"\n\nHello.\n"))
    assert (document.title, document.text) == (meant, "Hello.")
    (document,), _ = read(write("b.eml", b"Subject: s\nFrom: " + header + b" <a@x>\n\nHello.\n"))
    assert document.metadata["from"] == f"{meant} <a@x>"


def test_attachments_of_one_name_are_documents_of_their_own(write: Any, read: Any) -> None:
    parts = [passed_on("One", "First."), passed_on("Two", "Second."), attached("a.txt", "A"), attached("a.txt", "B")]
    documents, _ = read(write("a.eml", mail("\nBody.", *parts)))
    assert [(d.id, d.text) for d in documents] == [
        ("a.eml", "Body."),
        ("a.eml#attachment=message.eml", "First."),
        ("a.eml#attachment=message.eml~2", "Second."),
        ("a.eml#attachment=a.txt", "A"),
        ("a.eml#attachment=a.txt~2", "B"),
    ]


def test_an_attachment_that_breaks_its_reader_costs_itself_alone(write: Any, read: Any) -> None:
    broken = forms.eml("One.", "Broken", {"a.docx": damaged_docx(), "b.txt": b"Attached."})
    documents, report = read(write("a.mbox", forms.mbox([broken, forms.eml("Two.", "Next")])))
    assert [d.text for d in documents] == ["One.", "Attached.", "Two."]
    assert [("a.docx" in note, "LZMAError" in note) for note in report.notes] == [(True, True)]


def test_a_mail_that_is_too_long_is_one_mail(write: Any, read: Any) -> None:
    mails = [b"From: a@x\nSubject: One\n\n" + b"x" * 60 + b"\n\n" + b"y" * 400 + b"\n", b"From: a@x\n\nSecond.\n"]
    documents, report = read(write("a.mbox", forms.mbox(mails)), max_record_chars=150)
    assert [(d.id, d.text) for d in documents] == [("a.mbox#1", "x" * 60), ("a.mbox#2", "Second.")]
    assert [note.partition(": ")[2] for note in report.notes] == [
        "mail 1 is longer than 150 bytes; its beginning is read"
    ]
