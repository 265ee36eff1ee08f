"""Balanced softmax against its formula and the published value of the toy batch."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.heads import make_head

torch.set_num_threads(1)

TOY_COUNTS = [3, 20, 150, 40, 8, 700]
TOY_LABELS = torch.tensor([2, 1, 0, 3, 0, 0, 5, 0])
TOY_LOGITS = torch.from_numpy(((7 * np.arange(8)[:, None] + 3 * np.arange(7)) % 11 - 5) / 4).float()


def balanced(logits, labels, counts, tau):
    """The definition in float64: each exponential is multiplied by n^tau, that of the background by 1."""
    weights = np.array([1.0, *(max(count, 1) for count in counts)]) ** tau
    odds = weights * np.exp(logits)
    return np.mean(-np.log(odds[np.arange(len(labels)), labels] / odds.sum(axis=1)))


def test_golden():
    loss = make_head("balanced-softmax", instance_counts=TOY_COUNTS).loss(TOY_LOGITS, TOY_LABELS)
    assert float(loss["loss_classifier"]) == pytest.approx(5.531591, abs=2e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("counts", [[1], [0, 0], [7, 0, 3000, 1, 50]])
def test_against_the_formula(counts, tau):
    random = np.random.default_rng(len(counts))
    labels = random.integers(0, len(counts) + 1, 12)
    logits = torch.from_numpy(random.normal(size=(12, len(counts) + 1), scale=2)).float()
    head = make_head("balanced-softmax", instance_counts=counts, tau=tau)
    loss = head.loss(logits, torch.from_numpy(labels))["loss_classifier"]
    np.testing.assert_allclose(float(loss), balanced(logits.double().numpy(), labels, counts, tau), rtol=1e-5)


def test_without_tau_it_is_softmax_and_scores_have_no_prior():
    plain = make_head("softmax", instance_counts=TOY_COUNTS)
    off, on = (make_head("balanced-softmax", instance_counts=TOY_COUNTS, tau=tau) for tau in (0, 1))
    torch.testing.assert_close(off.loss(TOY_LOGITS, TOY_LABELS), plain.loss(TOY_LOGITS, TOY_LABELS))
    assert torch.equal(on.scores(TOY_LOGITS), plain.scores(TOY_LOGITS))


def test_a_negative_tau_is_refused():
    with pytest.raises(RecipeError, match="head balanced-softmax: tau: got -1"):
        make_head("balanced-softmax", instance_counts=[1], tau=-1)
