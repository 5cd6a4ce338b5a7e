"""BERTopic with an encoder of ours: it takes the folder that an export writes.

    pip install bertopic
    python examples/bertopic_model.py papers.jsonl encoder-for-others

The folder is written once, and is compared with the encoder first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bertopic import BERTopic

from llm2comp_apps import export_model, read_corpus


def main(papers: str, folder: str, encoder: str = "quality") -> None:
    """Print the topics of a corpus as BERTopic finds them."""
    if not Path(folder).exists():
        export_model(encoder, folder)
    texts = [document.content for document in read_corpus([papers])]
    model = BERTopic(embedding_model=folder, min_topic_size=5)
    topics, _ = model.fit_transform(texts)
    for number in sorted(set(topics)):
        print(number, topics.count(number), [word for word, _ in model.get_topic(number)][:5])


if __name__ == "__main__":
    main(*sys.argv[1:])
