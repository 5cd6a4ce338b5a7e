"""Comparing vectors: exactly, or with FAISS proposing candidates that are then compared exactly."""
