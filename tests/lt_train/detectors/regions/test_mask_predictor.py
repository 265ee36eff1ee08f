"""One label's mask a region: what torchvision's predictor gives for all classes, at that label."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from lt_train.detectors.regions.mask_predictor import masks_of_labels


@pytest.mark.parametrize("classes", [1, 80, 1230])
def test_logits_losses_and_gradients_are_those_of_all_classes(classes):
    torch.manual_seed(0)
    predictor = MaskRCNNPredictor(16, 16, classes + 1)
    features = torch.randn(9, 16, 14, 14)
    labels, wanted = torch.randint(1, classes + 1, (9,)), torch.rand(9, 28, 28)
    results = []
    for way in (masks_of_labels, lambda p, x, y: p(x)[torch.arange(len(y)), y]):
        leaf = features.clone().requires_grad_()
        logits = way(predictor, leaf, labels)
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        results.append((logits, loss, *torch.autograd.grad(loss, [leaf, *predictor.parameters()])))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_no_region():
    predictor = MaskRCNNPredictor(16, 16, 5)
    logits = masks_of_labels(predictor, torch.zeros(0, 16, 14, 14), torch.zeros(0, dtype=torch.int64))
    assert logits.shape == (0, 28, 28)
    logits.sum().backward()
