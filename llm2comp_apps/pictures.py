"""Words in pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

__all__ = ["as_it_stands", "drawing"]

_NO_LETTERS = "Last Resort"  # a font of matplotlib that has a box for every letter


def as_it_stands(text: str) -> str:
    """The text as matplotlib draws it letter by letter: between two dollar signs it would read a formula, or fail."""
    return text.replace("$", r"\$")


@contextmanager
def drawing(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gives the font families that draw all letters of the texts: matplotlib's own, and what it takes of others.

    By itself matplotlib looks for letters in its own font only, which has no Chinese, Japanese or Korean ones. Within,
    it does not complain of a font that has no bold letters.
    """
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield _families_for(texts)
    finally:
        log.setLevel(level)


def _families_for(texts: Iterable[str]) -> list[str]:
    from matplotlib import font_manager, rcParams

    def faces(names: list[str]) -> list[FT2Font]:
        """What matplotlib takes for plain and for bold letters of these families."""
        wanted = (font_manager.FontProperties(family=names, weight=weight) for weight in ("normal", "bold"))
        return [font_manager.get_font(font_manager.findfont(each)) for each in wanted]

    def lacking(fonts: list[FT2Font], letters: Iterable[int]) -> set[int]:
        return {letter for letter in letters if not all(font.get_char_index(letter) for font in fonts)}

    families = [*rcParams["font.family"]]
    missing = lacking(faces(families), {ord(letter) for text in texts for letter in text if not letter.isspace()})
    installed = {each.name for each in font_manager.fontManager.ttflist if _NO_LETTERS not in each.name}
    for name in sorted(installed):  # so that the same texts give the same picture
        if not missing:
            break
        try:
            left = lacking(faces([name]), missing)
        except (OSError, RuntimeError):  # removed or damaged since matplotlib listed it
            continue
        if left != missing:
            families.append(name)
            missing = left
    return families
