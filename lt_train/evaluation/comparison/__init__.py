"""Comparing evaluated systems, and what of a difference is noise."""
