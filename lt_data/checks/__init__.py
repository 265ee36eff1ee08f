"""Everything that can be wrong with an annotation file and its images."""
