"""The Gumbel activation against its golden numbers and the formula."""

import numpy as np
import pytest
import torch

from lt_train.heads import make_head
from tests.lt_train.heads.sigmoid_toy import COUNTED, assert_edges_hold, classifier_loss, random_case, toy

torch.set_num_threads(1)


def test_golden():
    head = make_head("gumbel", **COUNTED)
    assert float(classifier_loss(head, *toy())) == pytest.approx(3.413105, abs=1e-6)
    scores = head.scores(toy()[0])[0].tolist()
    golden = [0.192296, 0.458956, 0.692201, 0.065988, 0.276920, 0.545239]
    assert scores == pytest.approx([1 - 0.692201, *golden], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_formula(seed):
    logits, labels, images, _ = random_case(seed)
    x = np.exp(-np.clip(logits, -4, 10))
    targets = labels[:, None] == np.arange(1, logits.shape[1] + 1)
    expected = np.where(targets, x, -np.log(-np.expm1(-x))).sum() / len(labels)
    slope = np.where(targets, -x, x / np.expm1(x)) * (np.abs(logits - 3) < 7) / len(labels)
    given = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss = classifier_loss(make_head("gumbel", instance_counts=images), given, labels)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(given.grad, slope, rtol=1e-4, atol=1e-6)


def test_a_fresh_classifier_starts_from_the_prior():
    head = make_head("gumbel", prior=0.02, **COUNTED)
    bias = torch.zeros(head.num_logits)
    head.initialise(bias)
    torch.testing.assert_close(head.scores(bias[None])[0, 1:], torch.full((6,), 0.02))


def test_edges():
    assert_edges_hold(lambda **counts: make_head("gumbel", **counts))
