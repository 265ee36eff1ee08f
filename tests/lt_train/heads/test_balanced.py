"""The balanced sigmoid against its golden number and the formula."""

import numpy as np
import pytest
import torch

from lt_train.heads import make_head
from tests.lt_train.heads.sigmoid_toy import (
    COUNTED,
    LOGITS,
    assert_edges_hold,
    classifier_loss,
    cross_entropy,
    random_case,
    toy,
)

torch.set_num_threads(1)


def test_golden():
    loss = classifier_loss(make_head("balanced-sigmoid", **COUNTED), *toy())
    assert float(loss) == pytest.approx(5.107579, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_formula(seed):
    """A class in no image counts as in one, a class in all as missing in half an image."""
    logits, labels, images, total = random_case(seed)
    share = np.minimum(np.maximum(images, 1), total - 0.5) / total
    losses, _ = cross_entropy(logits - (labels > 0)[:, None] * np.log((1 - share) / share), labels)
    head = make_head("balanced-sigmoid", instance_counts=images, image_counts=images, num_images=total)
    assert float(classifier_loss(head, logits, labels)) == pytest.approx(losses.sum() / 12, rel=1e-5)


def test_scores_are_not_shifted():
    scores = make_head("balanced-sigmoid", **COUNTED).scores(toy()[0])
    expected = 1 / (1 + np.exp(-LOGITS))
    np.testing.assert_allclose(scores[:, 1:], expected, rtol=1e-6)
    np.testing.assert_allclose(scores[:, 0], 1 - expected.max(axis=1), atol=1e-6)


def test_edges():
    assert_edges_hold(lambda **counts: make_head("balanced-sigmoid", **counts))
