"""Memory vectors read back: the frozen LM that they were made for says what they hold.

* :mod:`.loading` loads an encoder with its adapter beside the LM, so that one copy of the weights encodes and decodes;
* :mod:`.reader` writes text from memory, and measures how much memory helps to predict a text (*gain*);
* :mod:`.explanation` puts that together for a text, a pair of texts, a query and a text;
* :mod:`.page` shows it as HTML;
* :mod:`.text_reader` asks the LM about texts alone.
"""

from __future__ import annotations

from llm2comp_apps.encoder.decoding.explanation import (
    Explanation,
    Match,
    check_explained,
    explain,
    explain_all,
    match_memory,
)
from llm2comp_apps.encoder.decoding.loading import load_reader
from llm2comp_apps.encoder.decoding.page import explanation_page
from llm2comp_apps.encoder.decoding.reader import MemoryReader, TokenGain
from llm2comp_apps.encoder.decoding.text_reader import TextReader, load_text_reader

__all__ = [
    "Explanation",
    "Match",
    "MemoryReader",
    "TextReader",
    "TokenGain",
    "check_explained",
    "explain",
    "explain_all",
    "explanation_page",
    "load_reader",
    "load_text_reader",
    "match_memory",
]
