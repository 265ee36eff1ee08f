"""Splitting an annotation file into parts that hold the same categories in the same shares."""
