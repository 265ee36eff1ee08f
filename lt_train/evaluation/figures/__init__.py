"""From an engine's result to AP, per class, per group, and tables of it."""
