"""Writing an annotation file anew with what was wrong in it put right, and every other byte as it was."""
