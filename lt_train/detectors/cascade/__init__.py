"""Detectors of several stages, each of which refines the boxes of the one before: Cascade R-CNN and its relatives."""
