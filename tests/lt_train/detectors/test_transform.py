"""Sizes that the model sees."""

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lt_train.detectors.transform import LongTailTransform

TRANSFORM = LongTailTransform.from_stock(GeneralizedRCNNTransform(64, 100, [0.0] * 3, [1.0] * 3)).eval()


@pytest.mark.parametrize(
    ("size", "seen"), [((2000, 1), (100, 1)), ((1, 2000), (1, 100)), ((80, 100), (64, 80)), ((1, 1), (64, 64))]
)
def test_no_side_vanishes(size, seen):
    target = {"boxes": torch.tensor([[0.0, 0.0, size[1], size[0]]])}
    image, target = TRANSFORM.resize(torch.ones(3, *size), target)
    assert image.shape == (3, *seen)
    assert target["boxes"].tolist() == [pytest.approx([0, 0, seen[1], seen[0]])]
