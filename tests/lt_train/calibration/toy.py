"""A small problem whose scores are known: 8 regions, 6 classes, and what the calibrations of softmax heads share."""

import numpy as np
import torch

from lt_train.calibration import make_calibration
from lt_train.heads import make_head

# 0 is background
LABELS = [2, 1, 0, 3, 0, 0, 5, 0]
IMAGES = [3, 20, 150, 40, 8, 700]
NUM_IMAGES = 1000
LOGITS = np.array([[((7 * n + 3 * k) % 11 - 5) / 4 for k in range(7)] for n in range(8)])


def toy_head(name="softmax", **options):
    return make_head(name, instance_counts=IMAGES, image_counts=IMAGES, num_images=NUM_IMAGES, **options)


def toy_calibration(name, head=None, **options):
    """One of that name, not fitted; none of them looks at the classifier."""
    head = toy_head() if head is None else head
    layer = torch.nn.Linear(2, head.num_logits)
    return make_calibration(
        name, head=head, classifier=layer, feature_sizes={"fc": 2, "fc-relu": 2, "conv": 2}, **options
    )


def scores(calibration, logits=LOGITS):
    """[R, C+1] float64 scores of logits of any size."""
    return calibration.scores(torch.from_numpy(np.asarray(logits)), None).double().numpy()


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def beside_background(logits, changed, background):
    """The scores of other logits of the classes, in float64, by definition."""
    if background == "normalise":
        return softmax(np.concatenate([logits[:, :1], changed], axis=1))
    kept = softmax(logits)[:, :1]
    return np.concatenate([kept, (1 - kept) * softmax(changed)], axis=1)


def background_last(row):
    return np.roll(row, -1)
