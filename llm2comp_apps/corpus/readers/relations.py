"""What the entries of an office document point to, by the ids that they use."""

from __future__ import annotations

import posixpath

from llm2comp_apps.corpus.readers.archive import Archive, XmlHandler, parse_xml

__all__ = ["relation_targets"]


def relation_targets(archive: Archive, name: str, root: str, limit: int) -> dict[str, str]:
    """The entries that one entry points to.

    Args:
        archive: the document.
        name: of the entry.
        root: folder that targets may begin with, such as ``/ppt/``.
        limit: characters that its relations may have.

    Returns:
        Names of entries by id; what lies outside of the document is left out.
    """
    folder, entry = posixpath.split(name)
    relations = f"{folder}/_rels/{entry}.rels"
    handler = _Relations(root)
    if relations in archive.names:
        parse_xml(archive.blocks(relations), handler, limit)
    return {key: posixpath.normpath(posixpath.join(folder, target)) for key, target in handler.targets.items()}


class _Relations(XmlHandler):
    def __init__(self, root: str) -> None:
        super().__init__()
        self.targets: dict[str, str] = {}
        self._root = root

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            self.targets[attributes.get("Id", "")] = attributes.get("Target", "").removeprefix(self._root)
