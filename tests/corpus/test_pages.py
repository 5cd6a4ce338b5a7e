"""HTML as people write it: what is the page, what is its title, and where its lines end."""

from __future__ import annotations

from typing import Any

import pytest

LAYOUT = ("class='home sidebar'", "class=navbar", "id=toc", "aria-hidden=true", "hidden", "role=navigation")


@pytest.mark.parametrize("element", ["body", "main"])
@pytest.mark.parametrize("attribute", LAYOUT)
def test_a_page_is_read_whatever_its_layout_is_called(element: str, attribute: str, write: Any, read: Any) -> None:
    menu = "<nav>menu</nav><div class=sidebar>advert</div>"
    page = f"<title>T</title><body><{element} {attribute}>{menu}<p>Whales sing.</p></{element}>"
    (document,), _ = read(write("a.html", page.replace("<body><body", "<body")))
    assert document.text == "Whales sing."


def test_of_several_main_parts_the_hidden_ones_are_not_read(write: Any, read: Any) -> None:
    page = "<title>T</title><main hidden>Old.</main><main>Whales sing.</main><main hidden>Later.</main>"
    assert read(write("a.html", page))[0][0].text == "Whales sing."


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<svg><title>menu</title></svg><h1>Whales</h1><p>Text", "Whales"),
        ("<nav><svg><title>menu</title></svg></nav><p>Text", ""),
        ("<p>Text<title>Late</title>", "Late"),
        ("<h1>Whales<br>and <b>ki</b>n<br/>today</h1><p>Text", "Whales and kin today"),
    ],
)
def test_the_title_is_that_of_the_page(page: str, title: str, write: Any, read: Any) -> None:
    (document,), _ = read(write("a.html", page))
    assert document.title == title


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<details><summary>More</summary>Hidden</details>after", "More\nHidden\nafter"),
        ("<fieldset><legend>Who</legend>Ada</fieldset>", "Who\nAda"),
        ("one<center>two</center>three<menu><li>four</menu>five", "one\ntwo\nthree\nfour\nfive"),
        ("<pre>one<br>two\n  three</pre>", "one\ntwo\nthree"),
    ],
)
def test_words_of_two_blocks_are_two_words(page: str, text: str, write: Any, read: Any) -> None:
    (document,), _ = read(write("a.html", f"<title>T</title>{page}"))
    assert document.text == text


SAID = "it’s “old” – 1990–1995"


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", SAID),
        ("ISO_8859-1", "cp1252", SAID),
        ("latin1", "cp1252", SAID),
        ("us-ascii", "cp1252", SAID),
        ("us-ascii", "utf-8", SAID),
        ("iso-8859-9", "cp1254", SAID),
        ("gb2312", "gb18030", "朱镕基說"),
        ("shift_jis", "cp932", "①髙"),
        ("ks_c_5601-1987", "cp949", "똠방"),
        ("no-such", "utf-8", SAID),
        ("hex", "utf-8", SAID),
        ("idna", "cp1252", SAID),
        ("undefined", "cp1252", SAID),
    ],
)
def test_what_is_said_of_an_encoding_is_taken_as_it_is_meant(
    label: str, codec: str, text: str, write: Any, read: Any
) -> None:
    page = f"<meta charset='{label}'><title>T</title><p>".encode() + text.encode(codec)
    assert read(write("a.html", page))[0][0].text == text
    head = f"From: a@x\nSubject: s\nContent-Type: text/plain; charset={label}\n\n"
    assert read(write("a.eml", head.encode() + text.encode(codec)))[0][0].text == text
    bare = b"From: a@x\nSubject: s\nContent-Type: text/html\n\n"
    assert read(write("b.eml", bare + page))[0][0].text == text
