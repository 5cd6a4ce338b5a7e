"""Training rows: where they come from, their token ids on disk, the batches made of them, hard negatives, teachers."""
