"""Annotations and images as training samples: dataset, order of the images, instance masks."""
