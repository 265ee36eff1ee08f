"""Ground truth as columns and masks."""
