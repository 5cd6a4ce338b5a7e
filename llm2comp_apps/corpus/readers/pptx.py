"""Presentations: the text of each slide in the order in which they are shown, and the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from llm2comp_apps.corpus.readers.archive import Archive, XmlHandler, open_archive, parse_xml
from llm2comp_apps.corpus.readers.parts import Job, Part, tidy
from llm2comp_apps.corpus.readers.properties import read_properties
from llm2comp_apps.corpus.readers.relations import relation_targets

__all__ = ["read"]

_ROOT = "/ppt/"
_SHOW = "ppt/presentation.xml"
_SIGNS = {"p": "\n", "br": "\n", "tc": "\t", "tr": "\n"}
_TITLES = ("title", "ctrTitle")
_NOT_READ = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The presentation as one part, or each slide that has text as a part.

    Raises:
        BrokenFileError: damaged, encrypted or too large.
    """
    with open_archive(file) as archive:
        fields = read_properties(archive, "docProps/core.xml")
        title = fields.pop("title", "")
        targets = relation_targets(archive, _SHOW, _ROOT, job.limit)
        shown = _Order()
        parse_xml(archive.blocks(_SHOW), shown, job.limit)
        slides = [targets[each] for each in shown.slides if each in targets]
        texts = []
        size = 0
        for number, name in enumerate(slides, 1):
            slide, text = _slide(archive, name, job, job.limit - size)
            size += len(text)
            if job.pages and text:
                about = {**fields, "slide": number, "slides": len(slides)}
                yield Part(text=text, title=slide or title, name=f"slide={number}", fields=about)
            elif not job.pages:
                title = title or slide
                texts.append(text)
        if not job.pages:
            yield Part(text="\n\n".join(texts).strip(), title=title, fields={**fields, "slides": len(slides)})


def _slide(archive: Archive, name: str, job: Job, limit: int) -> tuple[str, str]:
    """Title and text of a slide, its notes at the end."""
    handler = _Shapes()
    text = parse_xml(archive.blocks(name), handler, limit)
    for target in relation_targets(archive, name, _ROOT, job.limit).values():
        if "/notesSlides/" in target and target in archive.names:
            text += "\n" + parse_xml(archive.blocks(target), _Shapes(), limit)
    return tidy(handler.title), tidy(text)


class _Order(XmlHandler):
    def __init__(self) -> None:
        super().__init__()
        self.slides: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sldId":
            self.slides.append(attributes.get("id", ""))


class _Shapes(XmlHandler):
    """The text of a slide, and that of its title."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._in_text = 0
        self._place = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sp":
            self._place = ""
        elif name == "ph":
            self._place = attributes.get("type", "")
        elif name == "t":
            self._in_text += 1

    def end(self, name: str) -> None:
        if name == "t":
            self._in_text -= 1
        elif name == "sp":
            self.add("\n")
            self._place = ""
        elif name in _SIGNS:
            self.add(_SIGNS[name])
            if self._place in _TITLES:
                self.title += " "

    def data(self, text: str) -> None:
        if self._in_text and self._place not in _NOT_READ:
            self.add(text)
            if self._place in _TITLES:
                self.title += text
