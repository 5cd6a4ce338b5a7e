"""FAISS, imported when it is first needed, and written so that errors surface."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from typing import Any, Final

from llm2comp_indexes.errors import DependencyError
from llm2comp_indexes.storage import fs

__all__ = ["has_faiss", "import_faiss", "telling_part", "write_faiss"]

_WRITE_BUFFER: Final = 1 << 20


def import_faiss() -> Any:
    """The module; importing it takes a tenth of a second, and flat search of a small index does without.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise DependencyError("FAISS is not installed: pip install 'llm2comp-apps[cpu]' (or [gpu])") from error
    return faiss


@cache
def has_faiss() -> bool:
    """Whether FAISS is installed, without importing it."""
    return importlib.util.find_spec("faiss") is not None


def telling_part(error: Exception) -> str:
    """What a FAISS message says, without the C++ signature, the source line and the condition before it."""
    message = " ".join(str(error).split())
    message = re.sub(r"^Error in .*? at \S+:\d+: ", "", message).rsplit("Error: ", 1)[-1]
    return re.sub(r"^'.*' failed: (?=.)", "", message)


def write_faiss(index: Any, writer: fs.FileWriter) -> None:
    """Write a FAISS index through a callback: FAISS's own file output reports success on a full disk.

    Raises:
        OSError: the operating system refused.
    """
    faiss = import_faiss()
    failure: OSError | None = None

    def receive(data: bytes) -> None:
        nonlocal failure
        try:
            if failure is None:
                writer.write(data)
        except OSError as error:  # kept, since FAISS ignores what a callback returns
            failure = error

    try:
        faiss.write_index(index, faiss.PyCallbackIOWriter(receive, _WRITE_BUFFER))
    except RuntimeError as error:
        raise OSError(telling_part(error)) from error
    if failure is not None:
        raise failure
