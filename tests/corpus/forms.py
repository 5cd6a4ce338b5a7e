"""Documents of every form, written with the standard library: what office programs write, cut down to what matters."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from html import escape

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
CORE = (
    XML + '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/">'
    "<dc:title>{title}</dc:title><dc:creator>Ada</dc:creator><dcterms:created>2024-06-01T10:00:00Z</dcterms:created>"
    "</cp:coreProperties>"
)
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
RELS = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'


def zipped(entries: Mapping[str, str | bytes]) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """The entries of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pdf(pages: Sequence[str], title: str = "", *, extra: str = "") -> bytes:
    """A PDF whose pages have a line of text for each line; a page without text is a picture of nothing."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in page.split("\n")]
        shown = "BT /F1 11 Tf 50 740 Td 14 TL " + " ".join(f"({line}) Tj T*" for line in lines if page) + " ET"
        objects.append(f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream")
        resources = "/Resources << /Font << /F1 3 0 R >> >>"
        box = "/MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} {resources} /Contents {len(objects)} 0 R >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.append(f"<< /Title ({title}) /Author (Ada) /CreationDate (D:20240601100000Z) {extra} >>")
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n{trailer}\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out) + end.encode()


def html(text: str, title: str = "") -> bytes:
    """A page with a menu and a footer around its text."""
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in text.split("\n"))
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        "<style>p { color: red }</style><script>let tracker = 1</script></head>"
        f"<body><nav>Home Menu</nav><main><h1>{escape(title)}</h1>{paragraphs}</main><footer>Imprint</footer>"
        "</body></html>"
    ).encode()


def docx(text: str, title: str = "") -> bytes:
    """A Word document."""
    paragraphs = "".join(f"<w:p><w:r><w:t>{escape(line)}</w:t></w:r></w:p>" for line in text.split("\n"))
    heading = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>The heading</w:t></w:r></w:p>'
    removed = "<w:p><w:del><w:r><w:delText>removed</w:delText><w:t>removed too</w:t></w:r></w:del></w:p>"
    body = f"{XML}<w:document {W}><w:body>{heading}{paragraphs}{removed}</w:body></w:document>"
    notes = f"{XML}<w:footnotes {W}><w:footnote><w:p><w:r><w:t>A footnote.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    entries = {"[Content_Types].xml": "", "word/document.xml": body, "word/footnotes.xml": notes}
    return zipped(entries | ({"docProps/core.xml": CORE.format(title=escape(title))} if title else {}))


def pptx(slides: Sequence[tuple[str, str]], title: str = "") -> bytes:
    """A presentation of (title, text) slides, stored in another order than they are shown."""
    order = list(reversed(range(1, len(slides) + 1)))
    listed = "".join(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>' for number in order)
    relations = "".join(f'<Relationship Id="rId{number}" Target="slides/slide{number}.xml"/>' for number in order)
    entries = {
        "ppt/presentation.xml": f"{XML}<p:presentation {P} {R}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f"{XML}<Relationships {RELS}>{relations}</Relationships>",
        "docProps/core.xml": CORE.format(title=escape(title)),
    }
    for number, (heading, text) in zip(order, slides, strict=True):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{escape(words)}'
            "</a:t></a:r></a:p></p:txBody></p:sp>"
            for kind, words in (("title", heading), ("body", text), ("sldNum", "77"))
        )
        entries[f"ppt/slides/slide{number}.xml"] = (
            f"{XML}<p:sld {P} {A}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"
        )
        target = f"../notesSlides/notesSlide{number}.xml"
        entries[f"ppt/slides/_rels/slide{number}.xml.rels"] = (
            f'{XML}<Relationships {RELS}><Relationship Id="rId1" Target="{target}"/></Relationships>'
        )
        entries[f"ppt/notesSlides/notesSlide{number}.xml"] = (
            f"{XML}<p:notes {P} {A}><a:p><a:r><a:t>Say hello {number}.</a:t></a:r></a:p></p:notes>"
        )
    return zipped(entries)


def xlsx(sheets: Sequence[tuple[str, Sequence[Sequence[str]]]], title: str = "") -> bytes:
    """A workbook of (name, rows) sheets; texts are shared, but for numbers and every second text."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared: list[str] = []

    def cell(value: str) -> str:
        if value.replace(".", "").isdigit():
            return f"<c><f>1+1</f><v>{value}</v></c>"
        if len(value) % 2:
            return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        shared.append(value)
        return f'<c t="s"><v>{len(shared) - 1}</v></c>'

    listed = "".join(f'<sheet name="{escape(name)}" r:id="rId{n}"/>' for n, (name, _) in enumerate(sheets))
    relations = "".join(f'<Relationship Id="rId{n}" Target="/xl/worksheets/s{n}.xml"/>' for n in range(len(sheets)))
    entries = {
        "xl/workbook.xml": f"{XML}<workbook {main} {R}><sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f"{XML}<Relationships {RELS}>{relations}</Relationships>",
        "docProps/core.xml": CORE.format(title=escape(title)),
    }
    for number, (_, rows) in enumerate(sheets):
        cells = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
        entries[f"xl/worksheets/s{number}.xml"] = f"{XML}<worksheet {main}><sheetData>{cells}</sheetData></worksheet>"
    items = "".join(f"<si><r><t>{escape(text)}</t></r><rPh><t>spoken</t></rPh></si>" for text in shared)
    entries["xl/sharedStrings.xml"] = f"{XML}<sst {main}>{items}</sst>"
    return zipped(entries)


def odt(text: str, title: str = "") -> bytes:
    """An OpenDocument text."""
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "meta")
    )
    paragraphs = "".join(f"<text:p>{escape(line)}<text:s text:c='2'/>end</text:p>" for line in text.split("\n"))
    comment = "<office:annotation><text:p>a comment</text:p></office:annotation>"
    body = f"<text:h>The heading</text:h>{paragraphs}<text:p>x{comment}</text:p>"
    content = f"{XML}<office:document-content {names}><office:body>{body}</office:body></office:document-content>"
    meta = f'<dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">{escape(title)}</dc:title>' if title else ""
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": content,
            "meta.xml": f"{XML}<office:document-meta {names}><office:meta>{meta}</office:meta></office:document-meta>",
        }
    )


def epub(chapters: Sequence[tuple[str, str]], title: str = "", **more: str) -> bytes:
    """A book of (title, text) chapters, read in another order than they are listed."""
    items = "".join(
        f'<item id="c{number}" href="text/c%20{number}.xhtml" media-type="application/xhtml+xml"/>'
        for number in reversed(range(len(chapters)))
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(chapters)))
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    about = f"<dc:title>{escape(title)}</dc:title><dc:creator>Ada</dc:creator><dc:language>en</dc:language>"
    package = (
        f'{XML}<package xmlns="http://www.idpf.org/2007/opf" {dc}><metadata>{about}</metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        f'{XML}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    pages = {
        f"OEBPS/text/c {number}.xhtml": (
            f"{XML}<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'><head><title>{escape(name)}</title></head>"
            f"<body><p>{escape(text)}&nbsp;</p></body></html>"
        )
        for number, (name, text) in enumerate(chapters)
    }
    return zipped({"META-INF/container.xml": container, "OEBPS/book.opf": package, **pages, **more})


def eml(text: str, title: str = "", attachments: Mapping[str, bytes] | None = None, **headers: str) -> bytes:
    """A mail."""
    message = EmailMessage()
    message["From"], message["To"] = "Ada Löve <ada@example.org>", "bob@example.org"
    message["Subject"], message["Date"] = title, "Sat, 01 Jun 2024 10:00:00 +0200"
    message["Message-ID"] = headers.pop("message_id", "<1@example.org>")
    message.set_content(text)
    for name, content in (attachments or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def mbox(mails: Sequence[bytes]) -> bytes:
    """A mailbox."""
    quoted = [mail.replace(b"\nFrom ", b"\n>From ") for mail in mails]
    return b"".join(b"From ada@example.org Sat Jun  1 10:00:00 2024\n" + mail + b"\n\n" for mail in quoted)


FORMS: dict[str, Callable[[str, str], bytes]] = {
    "pdf": lambda text, title: pdf([text], title),
    "html": html,
    "docx": docx,
    "pptx": lambda text, title: pptx([(title, text)], title),
    "xlsx": lambda text, title: xlsx([("Sheet", [[line] for line in text.split("\n")])], title),
    "odt": odt,
    "epub": lambda text, title: epub([(title, text)], title),
    "eml": eml,
    "mbox": lambda text, title: mbox([eml(text, title)]),
    "md": lambda text, title: f"---\ntitle: {title}\n---\n\n{text}\n".encode(),
    "rst": lambda text, title: f"{title}\n{'=' * len(title)}\n\n{text}\n".encode(),
    "txt": lambda text, title: f"{title}\n\n{text}\n".encode(),
    "py": lambda text, title: f'"""{title}"""\n\n\ndef one():\n    """{text}"""\n'.encode(),
}
"""A file of each form that holds a text under a title."""
