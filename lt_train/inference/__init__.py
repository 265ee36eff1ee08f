"""Detecting with a trained model: evaluating a run, predicting images."""
