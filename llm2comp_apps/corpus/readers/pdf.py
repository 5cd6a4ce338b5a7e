"""PDF: the text layer of each page, by PDFium; a page that is only a picture has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

import pypdfium2
import pypdfium2.raw

from llm2comp_apps.corpus.readers.parts import Job, Part, tidy, within
from llm2comp_apps.corpus.records import DAMAGED, ENCRYPTED, NO_TEXT, BrokenFileError

__all__ = ["read"]

_HYPHEN = re.compile("(?:\ufffe|\u00ad)\r?\n?")  # PDFium's mark of a word that goes on in the next line
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?")
# What programs call a document that has no title.
_NO_TITLE = re.compile(
    r"(?i)^(?:untitled.*|.*\.(?:docx?|odt|tex|dvi|indd|qxd|rtf|ps|pdf|pptx?|xlsx?)|microsoft word.*)$"
)


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The document as one part, pages set apart by empty lines; or each page that has text as a part.

    Raises:
        BrokenFileError: damaged, encrypted, or without any text.
    """
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        why = ENCRYPTED if "password" in str(error).lower() else DAMAGED
        reason = "a password is needed to open it" if why == ENCRYPTED else f"not a PDF that can be read: {error}"
        raise BrokenFileError(0, reason, why) from None
    try:
        count = len(document)
        fields, title = _metadata(document)
        if job.pages:
            empty = True
            for number, text in enumerate(_pages(document, count, job), 1):
                if text:
                    empty = False
                    yield Part(
                        text=text, title=title, name=f"page={number}", fields={**fields, "page": number, "pages": count}
                    )
            if empty:
                raise _scan(count)
            return
        text = within((f"{page}\n\n" for page in _pages(document, count, job)), job.limit).strip()
        if not text:
            raise _scan(count)
        yield Part(text=text, title=title, fields={**fields, "pages": count})
    finally:
        document.close()


def _pages(document: Any, count: int, job: Job) -> Iterator[str]:
    for number in range(count):
        try:
            page = document[number]
            shown = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            job.notes.append(f"page {number + 1} cannot be read: {error}")
            yield ""
            continue
        text = shown.get_text_bounded()
        shown.close()
        page.close()
        yield tidy(_HYPHEN.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def _scan(pages: int) -> BrokenFileError:
    return BrokenFileError(0, f"{pages} pages without a text layer: a scan?", NO_TEXT)


def _metadata(document: Any) -> tuple[dict[str, Any], str]:
    found = {key: tidy(value) for key, value in document.get_metadata_dict(skip_empty=True).items()}
    fields: dict[str, Any] = {"author": found["Author"]} if found.get("Author") else {}
    date = _DATE.match(found.get("CreationDate", ""))
    if date:
        try:
            numbers = [int(part or default) for part, default in zip(date.groups(), (1, 1, 1, 0, 0, 0), strict=True)]
            fields["date"] = datetime(*numbers).isoformat()  # type: ignore[arg-type]
        except ValueError:
            pass
    title = found.get("Title", "")
    return fields, "" if _NO_TITLE.match(title) else title
