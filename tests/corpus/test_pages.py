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
