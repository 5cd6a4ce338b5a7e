"""What all stages share: the run, its loop, checkpoints, adapters, processes."""
