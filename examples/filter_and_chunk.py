"""Cut long documents into chunks, keep documents by their fields, and find what is like a hit.

    python examples/filter_and_chunk.py

Each chunk has a vector; a hit is still a whole document.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from llm2comp_apps import Collection, Document

BIOLOGY = "Cells divide by mitosis. Before a cell divides, it copies its chromosomes. "
BAKING = "Bread rises because yeast makes gas. The dough rests before it is baked. "


def main(encoder: str = "default") -> None:
    """Index three documents of several chunks each, and ask with and without a condition."""
    documents = [
        Document("cells-1990", BIOLOGY * 8, title="Cells", metadata={"year": 1990, "tags": ["biology"]}),
        Document("cells-2020", BIOLOGY * 9, title="Cells", metadata={"year": 2020, "tags": ["biology"]}),
        Document("bread", BAKING * 8, title="Bread", metadata={"year": 2021, "tags": ["food", "yeast"]}),
    ]
    settings = {"chunk": 64, "overlap": 8}
    with TemporaryDirectory() as folder, Collection.create(Path(folder), encoder=encoder, **settings) as library:
        report = library.update(documents)
        print(f"{report.added} documents, {report.vectors} chunks")
        for where in (None, "year >= 2000 and not tags = 'food'"):
            hits = library.search("how do cells divide", k=3, where=where)
            print(where, [hit.id for hit in hits])
        print("like bread:", [hit.id for hit in library.similar("bread", k=2)])


if __name__ == "__main__":
    main(*sys.argv[1:])
