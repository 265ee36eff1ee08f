"""A procedural pool of textured shapes: nothing to download."""
