"""Sizes that the model sees."""

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lt_train.detectors import build_detector
from lt_train.detectors.transform import LongTailTransform
from lt_train.heads import make_head

TRANSFORM = LongTailTransform.from_stock(GeneralizedRCNNTransform(64, 100, [0.0] * 3, [1.0] * 3)).eval()


@pytest.mark.parametrize(
    ("size", "seen"), [((2000, 1), (100, 1)), ((1, 2000), (1, 100)), ((80, 100), (64, 80)), ((1, 1), (64, 64))]
)
def test_no_side_vanishes(size, seen):
    target = {"boxes": torch.tensor([[0.0, 0.0, size[1], size[0]]])}
    image, target = TRANSFORM.resize(torch.ones(3, *size), target)
    assert image.shape == (3, *seen)
    assert target["boxes"].tolist() == [pytest.approx([0, 0, seen[1], seen[0]])]


@pytest.mark.parametrize(
    ("sizes", "training", "seen"),
    [
        ({}, {"short_side": 60}, (60, 120)),
        ({}, {"short_side": 90}, (80, 160)),
        ({}, None, (40, 80)),
        ({"test_min_size": 30}, None, (30, 60)),
        ({"test_min_size": 70, "test_max_size": 100}, None, (50, 100)),
        ({"test_min_size": 70, "test_max_size": 100}, {"short_side": 70}, (70, 140)),
    ],
)
def test_sizes_of_training_and_of_evaluation(sizes, training, seen):
    """An image of 20 x 40, trained on with a longest side of 160."""
    head = make_head("softmax", instance_counts=[1])
    model = build_detector("faster_rcnn_small", head, min_size=range(30, 41), max_size=160, **sizes)
    model.train(training is not None)
    target = {"boxes": torch.tensor([[0.0, 0.0, 40.0, 20.0]]), **(training or {})}
    image, target = model.transform.resize(torch.ones(3, 20, 40), target)
    assert image.shape == (3, *seen)
    assert target["boxes"].tolist() == [pytest.approx([0, 0, seen[1], seen[0]])]


def test_whole_numbers_are_refused():
    """They would become NaN."""
    with pytest.raises(TypeError, match="float tensors in 0..1 are needed; got torch.uint8"):
        TRANSFORM.normalize(torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_what_detecting_has_copied_serves_training():
    transform = LongTailTransform.from_stock(GeneralizedRCNNTransform(64, 100, [0.5, 0.4, 0.3], [0.2] * 3))
    with torch.inference_mode():
        transform.normalize(torch.ones(3, 4, 4))
    image = torch.ones(3, 4, 4, requires_grad=True)
    transform.normalize(image).sum().backward()
    assert image.grad.unique().tolist() == [pytest.approx(5)]


@pytest.mark.parametrize("flipped", [False, True])
def test_pixels_that_lie_together_are_resized_to_the_same_bits(flipped):
    together = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(0)).permute(2, 0, 1)
    image = together.flip(-1) if flipped else together
    got, _ = TRANSFORM.resize(image)
    wanted = torch.nn.functional.interpolate(image.contiguous()[None], size=(64, 96), mode="bilinear")[0]
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)
