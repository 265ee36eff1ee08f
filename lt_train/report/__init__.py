"""Pictures and tables of runs; nothing here imports torch."""
