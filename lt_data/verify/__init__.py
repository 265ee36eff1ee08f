"""Recomputing every figure of a dataset directory, and comparing two of them."""
