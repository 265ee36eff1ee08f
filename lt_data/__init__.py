"""Long-tailed detection datasets: build, count, group, check."""
