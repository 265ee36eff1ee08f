"""Some of the images, categories and objects of an annotation file."""
