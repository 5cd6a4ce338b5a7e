"""txtai with an encoder of ours: it takes the folder that an export writes.

    pip install txtai
    python examples/txtai_search.py papers.jsonl "how do cells divide" encoder-for-others

The folder is written once, and is compared with the encoder first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from txtai import Embeddings

from llm2comp_apps import export_model, read_corpus


def main(papers: str, query: str, folder: str, encoder: str = "quality") -> None:
    """Index a corpus with txtai, and print its three best documents for a query."""
    if not Path(folder).exists():
        export_model(encoder, folder)
    prompts = json.loads((Path(folder) / "config_sentence_transformers.json").read_text("utf-8"))["prompts"]
    instructions = {"query": prompts["query"], "data": prompts["document"]}  # txtai prepends these
    settings = {"path": folder, "method": "sentence-transformers", "instructions": instructions}
    with Embeddings(settings) as embeddings:
        embeddings.index((document.id, document.content) for document in read_corpus([papers]))
        for found, score in embeddings.search(query, 3):
            print(f"{score:.3f}  {found}")


if __name__ == "__main__":
    main(*sys.argv[1:])
