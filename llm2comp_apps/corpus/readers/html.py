"""HTML: the main content of a page as text, and its title."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO, Any

from selectolax.lexbor import LexborHTMLParser

from llm2comp_apps.corpus.readers.charsets import decoded
from llm2comp_apps.corpus.readers.parts import Job, Part, read_bytes, tidy

__all__ = ["decode", "page_of", "read"]

_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,40})|encoding=["']([\w.:-]{2,40})["']""", re.I
)
_CHARSET_BYTES = 4096
#: What is not read: what is not shown, and what stands on every page of a site.
_NOISE = (
    "script, style, noscript, template, svg, math annotation, iframe, object, select, button, textarea, dialog, nav, "
    "footer, aside, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=contentinfo], [role=search], "
    "[role=complementary], .headerlink, .sphinxsidebar, .related, .breadcrumb, .breadcrumbs, .navbar, #toc, .toc, "
    ".toctree-wrapper, .sidebar, .cookie-banner, .skip-link"
)
_MAIN = ("main", "[role=main]", "article", "#main-content", "#content", ".document .body")
_BLOCKS = (
    "address, article, blockquote, br, caption, center, dd, details, dir, div, dl, dt, fieldset, figcaption, figure, "
    "form, h1, h2, h3, h4, h5, h6, header, hgroup, hr, legend, li, main, menu, ol, p, search, section, summary, table, "
    "tr, ul"
)
_PARAGRAPHS = ("p", "h1", "h2", "h3", "h4", "table", "ul", "ol", "section", "dl")
_BREAK, _GAP, _LINE = "\x1d", "\x1e", "\x1f"  # no page has these
_BORDER = re.compile("[\x1d\x1e ]*[\x1d\x1e][\x1d\x1e ]*")
_WHITE = re.compile(r"[ \t\r\n\f\u00a0]+")
_SMALL = 0.25  # a main element with less than this share of the text is not what the page is about


def read(file: IO[bytes], job: Job) -> Iterator[Part]:
    """The page as one part.

    Raises:
        BrokenFileError: it is longer than ``job.limit`` bytes.
    """
    title, text, fields = page_of(decode(read_bytes(file, job.limit)))
    yield Part(text=text, title=title, fields=fields)


def page_of(source: str) -> tuple[str, str, dict[str, Any]]:
    """Title, main content and metadata (``language``, ``description``) of a page."""
    tree = LexborHTMLParser(source)
    root, body = tree.root, tree.body
    if root is None or body is None:
        return "", "", {}
    fields = _fields(root)
    # The page itself is no noise, whatever its layout is called: <body class="sidebar">.
    whole = ("body", "main") if len(body.css("main")) == 1 else ("body",)
    for node in body.css(_NOISE):
        if node.tag not in whole:
            node.decompose()
    title = _line(tree.css_first("title"))  # pictures had theirs, and are gone
    main = _main(body)
    heading = _line(main.css_first("h1")) or _line(body.css_first("h1"))
    return title or heading, _text(main), fields


def decode(data: bytes) -> str:
    """The characters of a page, by its byte order mark, by what it says of itself, as UTF-8, or as Windows-1252."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(name, "replace").removeprefix("\ufeff")
    said = _CHARSET.search(data[:_CHARSET_BYTES])
    label = (said.group(1) or said.group(2)).decode("ascii", "replace") if said else ""
    return decoded(data, [label] if label and "utf-16" not in label.lower() else [])  # no page says that in ASCII


def _main(body: Any) -> Any:
    whole = len(body.text())
    for selector in _MAIN:
        found = body.css(selector)
        if len(found) == 1 and len(found[0].text()) >= _SMALL * whole:
            return found[0]
    return body


def _text(node: Any) -> str:
    """The text of a node as it is laid out: a line for each block, lines of preformatted text as they are."""
    for pre in node.css("pre"):
        for line_end in pre.css("br"):
            line_end.replace_with("\n")
        pre.replace_with(_GAP + pre.text().strip("\r\n").replace("\r\n", "\n").replace("\n", _LINE) + _GAP)
    for block in node.css(_BLOCKS):
        border = _GAP if block.tag in _PARAGRAPHS else _BREAK
        block.insert_before(border)
        if block.tag not in ("br", "hr"):
            block.insert_after(border)
    for cell in node.css("td, th"):
        cell.insert_after(" ")
    flowing = _WHITE.sub(" ", node.text())
    return tidy(_BORDER.sub(_line_ends, flowing).replace(_LINE, "\n"))


def _line_ends(border: re.Match[str]) -> str:
    return "\n\n" if _GAP in border.group() else "\n"


def _line(node: Any) -> str:
    for line_end in node.css("br") if node is not None else ():
        line_end.insert_before(" ")
    return "" if node is None else _WHITE.sub(" ", node.text()).strip().removesuffix("¶").strip()


def _fields(root: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    language = (root.attributes.get("lang") or "").strip()
    if language:
        fields["language"] = language
    said: dict[str, str] = {}
    for node in root.css("meta[name]"):  # their names in any case: old pages say NAME="Description"
        value = _WHITE.sub(" ", (node.attributes.get("content") or "")).strip()
        said.setdefault((node.attributes["name"] or "").strip().lower(), value)
    fields.update({name: said[name] for name in ("description", "author", "date") if said.get(name)})
    return fields
