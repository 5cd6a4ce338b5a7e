"""What runs an encoder's network: torch for training and GPUs, a light runtime without torch for CPUs."""
