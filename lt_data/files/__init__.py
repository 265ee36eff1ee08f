"""Bytes on the disk: reading, writing as a whole, CSV, image files."""
