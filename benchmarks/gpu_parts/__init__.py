"""The parts of ``gpu.py`` that are no scripts of their own."""
