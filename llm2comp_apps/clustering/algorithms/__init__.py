"""From vectors to labels: neighbours, layout, clusters, membership, parents, scores; knows nothing of words."""
