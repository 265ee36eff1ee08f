"""The equalization loss against its golden number and the formula."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.heads import make_head
from tests.lt_train.heads.sigmoid_toy import (
    COUNTED,
    assert_edges_hold,
    classifier_loss,
    cross_entropy,
    random_case,
    toy,
)

torch.set_num_threads(1)


def test_golden():
    loss = classifier_loss(make_head("equalization", threshold=0.01, **COUNTED), *toy())
    assert float(loss) == pytest.approx(4.092450, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_against_the_formula(seed, threshold):
    logits, labels, images, total = random_case(seed)
    losses, targets = cross_entropy(logits, labels)
    rare = np.maximum(images, 1) / total < threshold
    weights = 1 - (labels > 0)[:, None] * rare * (1 - targets)
    head = make_head("equalization", instance_counts=images, image_counts=images, num_images=total, threshold=threshold)
    assert float(classifier_loss(head, logits, labels)) == pytest.approx((losses * weights).sum() / 12, rel=1e-5)


def test_a_rare_class_learns_no_from_background_alone():
    logits = torch.zeros(2, 6, requires_grad=True)
    classifier_loss(make_head("equalization", threshold=0.01, **COUNTED), logits, torch.tensor([2, 0])).backward()
    assert logits.grad[0].tolist() == pytest.approx([0, -0.25, 0.25, 0.25, 0, 0.25])
    assert logits.grad[1].tolist() == pytest.approx([0.25] * 6)


def test_scores_leave_the_rest_to_the_background():
    scores = make_head("equalization", **COUNTED).scores(torch.tensor([[0.0, -1, -2, -3, -4, -5]]))
    assert scores[0, :2].tolist() == [0.5, 0.5]


def test_a_fresh_classifier_starts_from_the_prior():
    head = make_head("equalization", prior=0.02, **COUNTED)
    bias = torch.zeros(head.num_logits)
    head.initialise(bias)
    torch.testing.assert_close(head.scores(bias[None])[0, 1:], torch.full((6,), 0.02))


def test_edges():
    assert_edges_hold(lambda **counts: make_head("equalization", threshold=0.5, **counts))


def test_counts_of_images_are_needed():
    with pytest.raises(RecipeError, match="head equalization: image_counts and num_images are missing"):
        make_head("equalization", instance_counts=[1, 2])
