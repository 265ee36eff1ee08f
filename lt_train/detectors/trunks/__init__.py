"""Trunks: what makes feature maps of an image, with the detector that is built on each."""
