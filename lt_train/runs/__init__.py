"""A run on the disk and in memory: directory, log, checkpoints, data, model."""
