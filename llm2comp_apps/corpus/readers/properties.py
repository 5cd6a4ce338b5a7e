"""Who wrote an office document, when, and what it is called: the Dublin Core elements of its properties."""

from __future__ import annotations

from llm2comp_apps.corpus.readers.archive import Archive, XmlHandler, parse_xml
from llm2comp_apps.corpus.records import BrokenFileError

__all__ = ["Properties", "read_properties"]

_FIELDS = {
    "title": "title", "creator": "author", "initial-creator": "author", "created": "date", "creation-date": "date",
    "date": "date", "language": "language",
}  # fmt: skip
_LONGEST = 1000  # characters of a value
_LIMIT = 2**20


class Properties(XmlHandler):
    """Collects ``title``, ``author``, ``date``, ``language``; of several with one name the first counts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._field = ""
        self._value = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - the signature of a handler
        """Note the field that begins."""
        self._field, self._value = _FIELDS.get(name, ""), ""

    def end(self, name: str) -> None:  # noqa: ARG002 - the signature of a handler
        """Take its value."""
        if self._field and self._value.strip():
            self.found.setdefault(self._field, " ".join(self._value.split())[:_LONGEST])
        self._field = ""

    def data(self, text: str) -> None:
        """Take a part of its value."""
        if self._field and len(self._value) < _LONGEST:
            self._value += text


def read_properties(archive: Archive, name: str) -> dict[str, str]:
    """The properties in an entry of an archive; damaged or missing ones are none, since the text is what matters."""
    handler = Properties()
    if name in archive.names:
        try:
            parse_xml(archive.blocks(name), handler, _LIMIT)
        except BrokenFileError:
            return {}
    return handler.found
