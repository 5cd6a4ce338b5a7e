"""Search a folder of documents by meaning and by words.

    python examples/search_folder.py notes/ "how do cells divide"

The index is kept beside the folder, so that a second call encodes only what is new or changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm2comp_apps import Collection, read_corpus


def main(folder: str, query: str, encoder: str = "default") -> None:
    """Bring the index of a folder up to date, and print the best documents for a query."""
    place = Path(folder).resolve()
    path = place.with_name(f"{place.name}.index")  # notes/ has notes.index
    library = Collection.open(path) if path.exists() else Collection.create(path, encoder=encoder)
    with library:
        report = library.update(read_corpus([folder]))
        print(f"{report.added} added, {report.unchanged} unchanged")
        for warning in report.warnings:
            print(f"warning: {warning}")
        for hit in library.search(query, k=3):
            print(f"{hit.score:.3f}  {hit.id}  {hit.snippet.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
