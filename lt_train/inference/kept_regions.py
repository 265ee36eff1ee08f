"""Whether the score threshold leaves the regions of a calibrated model a class: its scores lie on a scale of their own.

A softmax over the cosines to 1,230 class means is nearly flat, 0.0008 each: a threshold of 0.001 drops all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_train.data.images import as_input
from lt_train.detectors import LongTailDetector
from lt_train.inference.detect import ImageList, loaded_images
from lt_train.recipe.sections import Recipe

# images that are looked at, spread over the list
SAMPLED = 32
# share of the foreground regions below which a line says so
FEWEST = 0.1


def few_regions_kept(model: LongTailDetector, images: ImageList, recipe: Recipe) -> tuple[str, ...]:
    """A warning where under a tenth of the foreground regions have a class above the score threshold.

    A region is foreground where its background has a score below 0.5.

    Args:
        model: The detector with its calibration, on its device; left in the mode it was in.
        images: Images to take a sample of.
        recipe: Score threshold, batch size and workers.
    """
    count, size = len(images.ids), recipe.eval.batch
    rows = sorted({count * part // SAMPLED for part in range(SAMPLED if count else 0)})
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    device, threshold = next(model.parameters()).device, recipe.model.score_threshold
    kept = foreground = 0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in loaded_images(images, batches, recipe.data.workers):
            pixels = [as_input(image, device) for _, image in batch if isinstance(image, Tensor)]
            if pixels:
                scores = model.region_scores(pixels)
                classes = scores[scores[:, 0] < 0.5, 1:]
                foreground += len(classes)
                kept += int((classes > threshold).any(dim=1).sum())
    model.train(was_training)
    if kept >= FEWEST * foreground:
        return ()
    return (
        f"warning: {kept:,} of {foreground:,} foreground regions in {len(rows)} images keep a class above "
        f"model.score_threshold={threshold:g}, the others are never detected; set model.score_threshold=0",
    )
