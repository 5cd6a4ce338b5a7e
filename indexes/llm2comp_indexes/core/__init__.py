"""Generations of an index: reading one, writing the next, verifying every byte, exchanging it with other programs."""
