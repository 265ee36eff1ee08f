"""The description of a run: its sections, how it is read, what a method fills in."""
