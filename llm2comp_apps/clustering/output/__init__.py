"""What is written: the folder of a clustering with its table, map and report, and where it may go."""
