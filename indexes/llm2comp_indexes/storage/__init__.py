"""What is on disk: files written durably and read with care, ``store.db``, segments, and who may touch them."""
