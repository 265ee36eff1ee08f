"""Long-tailed detection datasets: build, count, group, check."""

__version__ = "0.1.0"
