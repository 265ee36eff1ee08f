"""Training and evaluation of torchvision detectors on long-tailed data."""
