"""Files as they should not be: cut, changed, misnamed, and made to harm whoever reads them."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import pyarrow
import pyarrow.parquet

from . import forms

TEXT = "\n".join(f"Whales sing in the deep sea, and this is line {number} of what they sing." for number in range(40))
MIB = 2**20


def whole(tag: str = "") -> dict[str, bytes]:
    """A good file of each suffix; the records of tables and JSON have ids and texts with a tag."""
    rows = [
        {"_id": f"{tag}-{number}", "title": "On whales", "text": f"{line} {tag}"}
        for number, line in enumerate(TEXT.split("\n"))
    ]
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    made = {form: make(TEXT, "On whales") for form, make in forms.FORMS.items()}
    made |= {"jsonl": lines.encode(), "json": json.dumps(rows).encode(), "parquet": table.getvalue()}
    made["csv"] = b"_id,title,text\n" + b"".join(f'{row["_id"]},t,"{row["text"]}"\n'.encode() for row in rows)
    attached = {"a.pdf": made["pdf"], "b.docx": made["docx"]}
    made["eml"] = forms.eml(TEXT, "On whales", attached)
    made["mbox"] = forms.mbox([made["eml"], forms.eml(TEXT, "More", message_id="<2@x>")])
    made["pages.pdf"] = forms.pdf([TEXT] * 5, "On whales")
    return made | {f"{form}.gz": gzip.compress(made[form], mtime=0) for form in ("txt", "jsonl", "pdf", "html")}


def damaged(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of files that are cut, changed and misnamed."""
    draw = random.Random(seed)
    for number in range(count):
        good = whole(str(number // 3))  # some documents come twice
        suffix = draw.choice(sorted(good))
        data = bytearray(good[suffix])
        kind = draw.choice(["cut", "flipped", "holed", "misnamed", "beheaded", "random"])
        if kind == "cut":
            del data[draw.randrange(len(data)) :]
        elif kind == "beheaded":
            del data[: draw.randrange(1, len(data))]
        elif kind == "holed":
            start = draw.randrange(len(data))
            data[start : start + draw.randrange(1, 400)] = bytes(draw.randrange(1, 400))
        elif kind == "flipped":
            for _ in range(draw.choice([1, 5, 50, 500])):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif kind == "random":
            data = bytearray(draw.randbytes(draw.randrange(5000)))
        else:
            suffix = draw.choice(sorted(good.keys() - {suffix}))
        yield f"{kind}-{number:03}.{suffix}", bytes(data)


def bombs() -> dict[str, Callable[[], bytes]]:
    """Small files that unfold, nest or loop, by name."""
    container = "<container><rootfiles><rootfile full-path='b.opf'/></rootfiles></container>"
    outside = "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"
    start = f"{forms.XML}<w:document {forms.W}><w:body>".encode()
    paragraph = b"<w:p><w:r><w:t>" + b"ha " * MIB + b"</w:t></w:r></w:p>"
    made: dict[str, Callable[[], bytes]] = {
        "laughs.docx": lambda: forms.zipped({"word/document.xml": laughs()}),
        "laughs.odt": lambda: forms.zipped({"content.xml": laughs()}),
        "laughs.pptx": lambda: forms.zipped({"ppt/presentation.xml": laughs()}),
        "laughs.xlsx": lambda: forms.zipped({"xl/workbook.xml": laughs()}),
        "rows.xlsx": lambda: forms.zipped({"xl/workbook.xml": b"<sheets>" + b"<sheet/>" * 3_000_000 + b"</sheets>"}),
        "laughs.epub": lambda: forms.zipped({"META-INF/container.xml": container, "b.opf": laughs()}),
        "outside.docx": lambda: forms.zipped({"word/document.xml": outside}),
        "zeros.docx": lambda: forms.zipped({"word/document.xml": bytes(300 * MIB)}),
        "text.docx": lambda: forms.zipped({"word/document.xml": start + paragraph * 80}),
        "deep.docx": lambda: forms.zipped({"word/document.xml": start + b"<w:p>" * 2_000_000}),
        "many.odt": lambda: forms.zipped({f"{number}.xml": b"" for number in range(30_000)}),
        "nested.odt": lambda: forms.zipped({"content.xml": forms.zipped({"content.xml": bytes(100 * MIB)})}),
        "wide.epub": lambda: forms.epub([("", "x" * 30 * MIB)] * 4, "Wide"),
        "deep.html": lambda: b"<div>" * 1_000_000 + b"text",
        "tables.html": lambda: b"<table><tr><td>" * 100_000 + b"text",
        "attributes.html": lambda: b"<p " + b" ".join(b"a%d=x" % number for number in range(200_000)) + b">text",
        "deep.json": lambda: b"[" * 1_000_000,
        "deep.jsonl": lambda: b'{"text":' * 200_000,
        "quote.csv": lambda: b'id,text\n1,"' + b"word " * (20 * MIB // 5),
        "anchors.md": anchors,
        "fences.md": lambda: b"```\n~~~\n" * 200_000,
        "long-line.py": lambda: b"x = [" + b"1, " * MIB + b"]",
        "pages.pdf": lambda: forms.pdf(["x"] * 20_000),
        "loop.pdf": lambda: forms.pdf(["x"]).replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]"),
        "stream.pdf": lambda: packed_pdf(b"BT /F1 1 Tf (ha) Tj ET " * (50 * MIB // 23)),
        "deep.eml": deep_mail,
        "parts.eml": lambda: b"From: a@x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 200_000,
        "mails.eml": mails_in_mails,
        "header.eml": lambda: b"From: a@x\nSubject: " + b"=?utf-8?q?x?= " * 200_000 + b"\n\ntext",
        "empty.pdf": bytes,
        "empty.docx": bytes,
    }
    for form in ("txt", "jsonl", "csv", "json", "pdf", "html", "docx"):
        made[f"bomb.{form}.gz"] = zeros
    return made


def laughs() -> str:
    """A billion laughs."""
    entities = "".join(f"<!ENTITY a{number + 1} '{f'&a{number};' * 10}'>" for number in range(9))
    return f"<!DOCTYPE x [<!ENTITY a0 'ha'>{entities}]><x>&a9;</x>"


def anchors() -> bytes:
    """The same in YAML."""
    lines = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    lines += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    return f"---\n{lines}---\n".encode()


def deep_mail() -> bytes:
    """Parts in parts."""
    head = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(2000))
    return f"From: a@x\nSubject: deep\n{head}\ntext".encode()


def mails_in_mails() -> bytes:
    """Thirty of them."""
    mail = forms.eml("x", "mail")
    for _ in range(30):
        mail = forms.eml("x", "mail", {"m.eml": mail})
    return mail


@cache
def zeros() -> bytes:
    """Gzip of 2 GiB of zeros, a thousandth of that in size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(2048)) + packer.flush()


def packed_pdf(content: bytes) -> bytes:
    """A PDF of one page whose content is packed."""
    packed = zlib.compress(content)
    plain = forms.pdf([""])
    begin, _, rest = plain.partition(b"4 0 obj\n")
    end = rest.partition(b"endobj")[2]
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(packed) + packed + b"\nendstream\n"
    return begin + b"4 0 obj\n" + stream + b"endobj" + end
