"""Detections: from result files, from a model, and what may be wrong with them."""
