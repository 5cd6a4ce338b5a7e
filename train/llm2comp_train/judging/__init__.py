"""Is a run alive, does the encoder get better, and what did a study find?"""
