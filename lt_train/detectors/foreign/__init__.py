"""Weights that other tools wrote: read without their code, and given torchvision's names, order and pixels."""
