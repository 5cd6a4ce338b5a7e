"""Find the topics of documents, and take new documents in later.

    python examples/topics.py papers.jsonl new-papers.jsonl papers.clusters

Topics keep their numbers: documents that fit nowhere may become new ones. Open papers.clusters/map.html afterwards.
"""

from __future__ import annotations

import sys

from llm2comp_apps import TopicModel, read_corpus


def main(papers: str, later: str, folder: str, encoder: str = "default") -> None:
    """Cluster a corpus, update its topics with another one, and save them."""
    topics = TopicModel.fit(list(read_corpus([papers])), encoder=encoder)
    for topic in topics.topics:
        print(topic.id, topic.size, topic.name)

    report = topics.update(list(read_corpus([later])))
    print(f"{report.added} added; grown: {report.grown}; new topics: {report.new_topics}")

    for line in topics.save(folder):
        print(line)
    (best,) = topics.assign(["Bread needs yeast."])
    print(best["name"] or "no topic", best["probability"])


if __name__ == "__main__":
    main(*sys.argv[1:])
