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
