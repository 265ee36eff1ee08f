"""Heads with one softmax over the background and all classes."""
