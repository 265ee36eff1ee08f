"""Studies: many runs in the order in which they depend on each other, and the table of what they gave.

``steps.py`` runs a plan, ``entries.py`` makes one out of methods and seeds, ``table.py`` and ``noise.py`` read the
figures; ``sweep.py`` and ``reproduce.py`` are the two commands. Nothing here loads PyTorch: every step is a command of
its own.
"""
