"""Heads in which every class is a yes or no of its own."""
