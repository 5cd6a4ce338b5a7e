"""What each group of routes answers; a route translates between HTTP and the rooms below, and does nothing else."""
