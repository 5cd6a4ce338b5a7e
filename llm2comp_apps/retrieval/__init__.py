"""From a corpus to an index, and from a query to hits: build, search, fuse, rerank, show."""
