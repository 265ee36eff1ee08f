"""What a training needs of a machine: memory and time of a step, and the batch that fits."""
