"""What tests of the page do with it.

``LLM2COMP_SCREENSHOTS`` names a folder in which pictures are kept, to be looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

FINAL = '#status[data-final="true"]'
NEXT_FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


def search(page, query: str) -> None:
    page.fill("#q", "")
    page.locator("#q").press_sequentially(query)
    page.wait_for_function("query => page.state.q === query", arg=query)
    page.wait_for_selector(FINAL)


def shown(page) -> list[str]:
    return page.eval_on_selector_all("#hits .hit", "rows => rows.map(row => row.hit.id)")


def kinds(page) -> set[str]:
    return {each.partition("-")[0] for each in shown(page)}


def keep_picture(page, name: str) -> None:
    page.evaluate(NEXT_FRAME)
    if folder := os.environ.get("LLM2COMP_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"page-{name}.png", animations="disabled")
