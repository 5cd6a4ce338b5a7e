"""Readers of the documents that people have: one file for each form, loaded when the first file of that form comes.

A reader is a function ``read(file, job)`` that takes an open binary file and yields :class:`.parts.Part` objects. Those
of :data:`READERS` run in a process of their own (:mod:`.isolation`), since what they parse comes from anywhere: a file
that hangs, crashes or fills the memory of its parser costs that file, and nothing else. No reader fetches anything from
outside its file. :mod:`.code` and :mod:`.markdown` read plain text, which needs no such care.

To add a form, write its reader, and name it in :data:`READERS`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["CODE_SUFFIXES", "READERS", "Form", "form_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of document.

    Attributes:
        suffixes: of its files' names.
        module: of this package, with ``read``.
        needs: a module that the extra ``documents`` brings.
        about: what a part of it is where a file is cut into parts.
    """

    suffixes: tuple[str, ...]
    module: str
    needs: str = ""
    about: str = ""

    @property
    def missing(self) -> bool:
        """Whether the extra is not installed."""
        return bool(self.needs) and importlib.util.find_spec(self.needs) is None

    def load(self) -> Callable[..., Any]:
        """Its ``read``."""
        read: Callable[..., Any] = importlib.import_module(f"{__name__}.{self.module}").read
        return read


READERS = {
    "pdf": Form(suffixes=(".pdf",), module="pdf", needs="pypdfium2", about="page"),
    "html": Form(suffixes=(".html", ".htm", ".xhtml"), module="html", needs="selectolax"),
    "docx": Form(suffixes=(".docx", ".docm"), module="docx"),
    "pptx": Form(suffixes=(".pptx", ".pptm"), module="pptx", about="slide"),
    "xlsx": Form(suffixes=(".xlsx", ".xlsm"), module="xlsx", about="sheet"),
    "odt": Form(suffixes=(".odt", ".odp"), module="odt"),
    "epub": Form(suffixes=(".epub",), module="epub", needs="selectolax", about="chapter"),
    "eml": Form(suffixes=(".eml",), module="mail"),
    "mbox": Form(suffixes=(".mbox",), module="mbox"),
}
"""By the name of the format."""


CODE_SUFFIXES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".tsx": "typescript", ".go": "go", ".rs": "rust", ".java": "java", ".kt": "kotlin",
    ".scala": "scala", ".c": "c", ".h": "c", ".cc": "c++", ".cpp": "c++", ".cxx": "c++", ".hpp": "c++", ".cs": "c#",
    ".swift": "swift", ".rb": "ruby", ".php": "php", ".pl": "perl", ".pm": "perl", ".lua": "lua", ".jl": "julia",
    ".r": "r", ".sh": "shell", ".bash": "shell", ".sql": "sql", ".hs": "haskell", ".ex": "elixir", ".exs": "elixir",
}  # fmt: skip
"""Languages by suffix."""


def form_of(name: str) -> str:
    """The format of a file by its name; ``""`` if none of them."""
    suffix = name.lower().rpartition(".")[2]
    return next((form for form, each in READERS.items() if f".{suffix}" in each.suffixes), "")
