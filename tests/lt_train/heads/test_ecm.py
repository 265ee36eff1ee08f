"""Effective class margins against their formula and the published values of the toy batch."""

import numpy as np
import pytest
import torch

from lt_train.detectors import build_detector
from lt_train.heads import make_head
from tests.lt_train.heads.test_balanced_softmax import TOY_COUNTS, TOY_LABELS, TOY_LOGITS

torch.set_num_threads(1)

# classes 1..6, then the background
POSITIVE = [0.135580, 0.209826, 0.328038, 0.245174, 0.170236, 0.459431, 0.950211]
NEGATIVE = [2.065219, 1.664555, 1.274166, 1.525872, 1.854482, 0.998702, 0.488835]
WEIGHTS = [0.999778, 0.998517, 0.988809, 0.997032, 0.999407, 0.946274, 0.314651]


def effective_margin(logits, labels, counts, ratio):
    """The definition in float64: two exponentials with their margins compete in every channel."""
    counts = [max(count, 1) for count in counts]
    n = np.array([ratio * sum(counts), *counts])
    m = n.sum() - n
    up = np.log((n**0.25 + m**0.25) / m**0.25)
    down = np.log((n**0.25 + m**0.25) / n**0.25)
    yes, no = np.exp(logits + up), np.exp(-logits + down)
    own = labels[:, None] == np.arange(len(n))
    losses = -np.log(np.where(own, yes, no) / (yes + no)) * (m / n * np.log(1 + n / m))
    return losses.sum() / len(labels)


def test_golden():
    head = make_head("ecm", instance_counts=TOY_COUNTS)
    for found, wanted in [
        (head.positive_margins, POSITIVE),
        (head.negative_margins, NEGATIVE),
        (head.class_weights, WEIGHTS),
    ]:
        np.testing.assert_allclose(found.roll(-1).numpy(), wanted, atol=1e-6)
    loss = head.loss(TOY_LOGITS, TOY_LABELS)["loss_classifier"]
    assert float(loss) == pytest.approx(3.459915, rel=2e-5)


@pytest.mark.parametrize("ratio", [0.5, 6.3313])
@pytest.mark.parametrize("counts", [[1], [0, 0], [7, 0, 3000, 1, 50]])
def test_against_the_formula(counts, ratio):
    random = np.random.default_rng(len(counts))
    labels = random.integers(0, len(counts) + 1, 12)
    logits = torch.from_numpy(random.normal(size=(12, len(counts) + 1), scale=2)).float()
    head = make_head("ecm", instance_counts=counts, background_ratio=ratio)
    loss = head.loss(logits, torch.from_numpy(labels))["loss_classifier"]
    np.testing.assert_allclose(float(loss), effective_margin(logits.double().numpy(), labels, counts, ratio), rtol=1e-5)


def test_huge_logits_stay_finite():
    logits = (TOY_LOGITS.sign() * 1e4).requires_grad_()
    loss = make_head("ecm", instance_counts=TOY_COUNTS).loss(logits, TOY_LABELS)["loss_classifier"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_scores():
    """The margins are of training alone; the background takes from every class."""
    probability = TOY_LOGITS.double().sigmoid()
    wanted = torch.cat([probability[:, :1], probability[:, 1:] * (1 - probability[:, :1])], dim=1)
    found = make_head("ecm", instance_counts=TOY_COUNTS).scores(TOY_LOGITS)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_a_fresh_classifier_starts_from_the_prior():
    model = build_detector("faster_rcnn_small", make_head("ecm", instance_counts=[1] * 3))
    assert model.roi_heads.box_predictor.cls_score.bias.sigmoid().tolist() == pytest.approx([0.001] * 4)
