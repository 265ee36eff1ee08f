"""Masks as run lengths and outlines."""
