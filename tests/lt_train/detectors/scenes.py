"""Tiny images with coloured ellipses, as the detectors take them."""

import numpy as np
import torch

from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import build_detector
from lt_train.heads import make_head

COUNTS = [5, 50, 500, 5000, 2, 20]


def ellipse(box, points=16):
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    x1, y1, x2, y2 = box
    x = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(angles)
    y = (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(angles)
    return np.stack([x, y], axis=1).reshape(-1).tolist()


def scene(seed, *, objects=4, side=64, classes=6, keyed=True):
    """An image [3, side, side] and its target."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6 * side, (objects, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.39, (objects, 2)) * side], axis=1)
    labels = rng.integers(1, classes + 1, objects)
    masks = InstanceMasks.from_segmentations([[ellipse(box)] for box in boxes], side, side)
    image = torch.from_numpy(rng.uniform(0, 0.2, (3, side, side)))
    for label, bitmap in zip(labels, masks.bitmaps(), strict=True):
        image[:, torch.from_numpy(bitmap).bool()] = torch.tensor([label % 2, label % 3 / 2, label / classes]).double()[
            :, None
        ]
    target = {
        "boxes": torch.from_numpy(boxes).float().reshape(-1, 4),
        "labels": torch.from_numpy(labels),
        "masks": masks,
        "image_id": 100 + seed,
    }
    if keyed:
        target["draw_seed"] = seed
    return image.float(), target


def batch(seeds, **options):
    """Images and targets of several scenes."""
    pairs = [scene(seed, **options) for seed in seeds]
    return [image for image, _ in pairs], [target for _, target in pairs]


def any_head(name, counts):
    """A head that is told all counts; one that goes by images needs them."""
    images = [min(count, 300) for count in counts]
    return make_head(name, instance_counts=counts, image_counts=images, num_images=1000)


def small(name="mask_rcnn_small", head="softmax", *, counts=COUNTS, seed=0, side=64, **options):
    """A small detector with keyed initial weights."""
    return build_detector(
        name,
        any_head(head, counts),
        min_size=(side,),
        max_size=2 * side,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )
