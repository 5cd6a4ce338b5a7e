"""What mkdocs does to the pages besides building them."""

from __future__ import annotations

import re

#: A cross-reference as docstrings spell it, :class:`~module.Name`, after its backquotes became <code>.
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj|ref):<code>(?P<short>[~.]?)(?P<target>[\w.]+)</code>")


def on_page_content(html: str, **_: object) -> str:
    """Show the roles of docstrings, such as ``:class:`Name```, as the plain names that they mean."""

    def name(role: re.Match[str]) -> str:
        target = role["target"].rpartition(".")[2] if role["short"] else role["target"]
        return f"<code>{target}</code>"

    return _ROLE.sub(name, html)
