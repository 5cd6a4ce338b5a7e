"""Titles that are more than one run of letters, and metadata that are called as texts are."""

from __future__ import annotations

from typing import Any

import pytest

from . import forms

WORD = ("a.docx", forms.docx("Text."), "word/document.xml", "The heading")
WRITER = ("a.odt", forms.odt("Text."), "content.xml", "The heading")
SLIDE = ("a.pptx", forms.pptx([("Head", "Text.")]), "ppt/slides/slide1.xml", "Head")
OFFICE = [
    (*WORD, "<w:t>Annual</w:t><w:br/><w:t>Report</w:t>"),
    (*WORD, "<w:t>Annual</w:t><w:tab/><w:t>Report</w:t>"),
    (*WRITER, "Annual<text:line-break/>Report"),
    (*WRITER, "Annual<text:tab/>Report"),
    (*SLIDE, "<a:t>Annual</a:t><a:br/><a:t>Report"),
    (*SLIDE, "Annual</a:t></a:r></a:p><a:p><a:r><a:t>Report"),
]


@pytest.mark.parametrize(("name", "document", "entry", "title", "lines"), OFFICE)
def test_a_title_of_two_lines_has_two_words(
    name: str, document: bytes, entry: str, title: str, lines: str, write: Any, read: Any
) -> None:
    entries = forms.unzipped(document)
    content = entries[entry].decode()
    before = lines.partition("Annual")[0]
    whole = f"{before}{title}" + ("</w:t>" if lines.endswith("</w:t>") else "")
    assert whole in content
    found, _ = read(write(name, forms.zipped(entries | {entry: content.replace(whole, lines, 1)})))
    assert found[0].title == "Annual Report"
    assert "Text." in found[0].text


def test_the_styles_of_word_in_another_language_are_known_by_their_names(write: Any, read: Any) -> None:
    entries = forms.unzipped(forms.docx("Text."))
    content = entries["word/document.xml"].decode()
    assert 'w:val="Heading1"' in content
    named = (("a1", "Normal"), ("berschrift1", "heading 1"), ("Titel", "Title"))
    styles = "".join(f'<w:style w:styleId="{style}"><w:name w:val="{name}"/></w:style>' for style, name in named)
    more = {"word/styles.xml": f"{forms.XML}<w:styles {forms.W}>{styles}</w:styles>"}
    for style, title in (("a1", ""), ("berschrift1", "The heading"), ("Titel", "The heading")):
        more["word/document.xml"] = content.replace("Heading1", style)
        found, _ = read(write("a.docx", forms.zipped(entries | more)))
        assert found[0].title == title
    found, report = read(write("a.docx", forms.zipped(entries | {"word/styles.xml": "<w:styles"})))
    assert "Text." in found[0].text
    assert "word/styles.xml cannot be read" in report.notes[0]


def test_metadata_of_a_page_are_found_in_any_case(write: Any, read: Any) -> None:
    head = '<META NAME="Description" CONTENT="About tea"><meta name=Author content="Ada"><meta name=author content=No>'
    (document,), _ = read(write("a.html", f"<html><head>{head}<meta name></head><body><p>Boil.</body></html>"))
    assert document.metadata == {"description": "About tea", "author": "Ada"}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("My Project\n==========\n\nText\n\n## Install\n", "My Project"),
        ("Text.\n\nPart 2 \n ---\n# Later\n", "Part 2"),
        ("One line\nand more\n---\n\n# Heading #\n", "Heading"),
        ("a | b\n--- | ---\n1 | 2\n\n- item\n---\n# Heading\n", "Heading"),
        ("```\nCode\n====\n```\n# Heading\n", "Heading"),
        ("---\ntitle: 1984\n---\n# Heading\n", "1984"),
        ("---\ntitle: yes\n---\n# Heading\n", "Heading"),
    ],
)
def test_the_title_of_a_markdown_text(text: str, title: str, write: Any, read: Any) -> None:
    assert read(write("a.md", text))[0][0].title == title


def test_metadata_that_are_called_as_texts_are_stay_metadata(write: Any, read: Any) -> None:
    (document,), _ = read(write("a.md", "---\nabstract: About tea\nbody: [a]\ntext: no\n---\nBoil.\n"))
    assert (document.text, document.metadata) == ("Boil.\n", {"abstract": "About tea", "body": ["a"]})
    (document,), _ = read(write("a.md", "---\nabstract: no\ntext: yes it is\n---\nBoil.\n"), text_field="abstract")
    assert (document.text, document.metadata) == ("Boil.\n", {"text": "yes it is"})
