"""Regions of the images of a batch: how they are drawn, which are left out, their micro-batches and masks."""
