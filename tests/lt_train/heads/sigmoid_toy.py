"""The toy problem of the heads with a channel for each class, and what their oracles share (float64 NumPy)."""

import numpy as np
import torch

N, C = 8, 6
IMAGES = [3, 20, 150, 40, 8, 700]
NUM_IMAGES = 1000
LABELS = np.array([2, 1, 0, 3, 0, 0, 5, 0])
# columns of the classes 1..6
LOGITS = ((7 * np.arange(N)[:, None] + 3 * np.arange(1, C + 1)) % 11 - 5) / 4
COUNTED = {"instance_counts": IMAGES, "image_counts": IMAGES, "num_images": NUM_IMAGES}


def toy():
    return torch.tensor(LOGITS, dtype=torch.float32), torch.tensor(LABELS)


def classifier_loss(head, logits, labels, **more):
    losses = head.loss(torch.as_tensor(logits), torch.as_tensor(labels), **more)
    assert list(losses) == ["loss_classifier"]
    return losses["loss_classifier"]


def random_case(seed, *, regions=12, classes=5, num_images=50):
    """Logits, labels and image counts with a class that no image holds and one that all do."""
    random = np.random.default_rng(seed)
    images = random.integers(1, num_images, classes)
    images[0], images[-1] = 0, num_images
    return random.normal(0, 3, (regions, classes)), random.integers(0, classes + 1, regions), images, num_images


def cross_entropy(logits, labels):
    """[R, C] by the definition, one channel at a time, and the one-hot targets."""
    targets = (labels[:, None] == np.arange(1, logits.shape[1] + 1)).astype(float)
    p = 1 / (1 + np.exp(-logits))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)), targets


def assert_edges_hold(make, *, draws=None):
    """Extreme logits, no region, no object, one class, a class in no image, half precision: finite everywhere."""
    for images, labels in [([0, 9, 3], [0, 0]), ([0, 9, 3], []), ([0], [0, 1]), ([10], [1, 1]), ([0, 9, 3], [3, 0, 1])]:
        head = make(instance_counts=images, image_counts=images, num_images=10)
        for scale in (1e4, -1e4, 0.0):
            logits = torch.full((len(labels), head.num_logits), scale, requires_grad=True)
            labelled = torch.tensor(labels, dtype=torch.int64)
            loss = classifier_loss(head, logits, labelled, generator=draws)
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(logits.grad).all()
            assert len(labels) or float(loss.detach()) == 0
            scores = head.scores(logits.detach().half())
            assert scores.shape == (len(labels), len(images) + 1)
            assert scores.dtype == torch.float32
            assert ((scores >= 0) & (scores <= 1)).all()
