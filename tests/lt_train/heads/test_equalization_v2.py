"""Equalization loss v2 against the formula and against figures of the released code."""

import numpy as np
import pytest
import torch

from lt_train.global_batch import sharing
from lt_train.heads import make_head

torch.set_num_threads(1)

COUNTS = (3, 20, 150, 40, 8, 700)
LABELS = torch.tensor([2, 1, 0, 3, 0, 0, 5, 0])


def toy(columns):
    """Logits of eight regions."""
    n, k = torch.arange(len(LABELS))[:, None], torch.arange(columns)[None]
    return ((7 * n + 3 * k) % 11 - 5) / 4


class Oracle:
    """The formula in float64, one region and one class at a time."""

    def __init__(self, classes, gamma, mu, alpha):
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.positive, self.negative = np.zeros(classes), np.zeros(classes)
        self.ratio = np.full(classes, 100.0)

    def loss(self, logits, labels):
        f = 1 / (1 + np.exp(-self.gamma * (self.ratio - self.mu)))
        loss, gradient = 0.0, np.zeros_like(logits)
        for r, label in enumerate(labels):
            for k, z in enumerate(logits[r]):
                p = 1 / (1 + np.exp(-z))
                w = (1 + self.alpha * (1 - f[k - 1]) if label == k else f[k - 1]) if k else 1.0
                loss += w * -np.log(p if label == k else 1 - p)
                gradient[r, k] = w * (p - (label == k))
                if k:
                    sums = self.positive if label == k else self.negative
                    sums[k - 1] += abs(gradient[r, k])
        self.ratio = self.positive / (self.negative + 1e-10)
        return loss / len(labels), gradient / len(labels)


def test_the_figures_of_the_released_code():
    head, logits = make_head("equalization-v2", instance_counts=COUNTS), toy(7)
    losses = [float(head.loss(logits, LABELS)["loss_classifier"]) for _ in range(2)]
    assert losses == pytest.approx([5.329623, 2.397889], abs=2e-6)
    positive = [1.336069, 2.626316, 1.924634, 0, 4.073439, 0]
    negative = [3.440224, 3.161652, 3.161247, 3.948387, 3.733303, 4.160580]
    assert head.positive_gradient.tolist() == pytest.approx(positive, abs=2e-6)
    assert head.negative_gradient.tolist() == pytest.approx(negative, abs=2e-6)
    row = [0.222700, 0.293462, 0.436980, 0.568252, 0.209048, 0.340320, 0.483838]
    assert head.scores(logits)[0].tolist() == pytest.approx(row, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_several_steps_against_the_formula(seed):
    random = np.random.default_rng(seed)
    classes, options = int(random.integers(1, 9)), {"gamma": 3.0 + seed, "mu": 0.5, "alpha": 2.0 * seed}
    head = make_head("equalization-v2", instance_counts=[1] * classes, **options)
    oracle = Oracle(classes, **options)
    for _ in range(4):
        labels = random.integers(0, classes + 1, int(random.integers(1, 20)))
        values = random.normal(0, 2, (len(labels), classes + 1))
        logits = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        loss = head.loss(logits, torch.tensor(labels))["loss_classifier"]
        loss.backward()
        wanted, gradient = oracle.loss(values, labels)
        assert loss.item() == pytest.approx(wanted, rel=1e-5)
        np.testing.assert_allclose(logits.grad, gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(head.positive_gradient, oracle.positive, rtol=1e-5)
    np.testing.assert_allclose(head.negative_gradient, oracle.negative, rtol=1e-5)


def test_a_class_starts_with_weights_of_one():
    """The first step is the plain sum of cross-entropies, whatever the options."""
    head = make_head("equalization-v2", instance_counts=COUNTS, alpha=50.0)
    own = torch.nn.functional.one_hot(LABELS, 7).float()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(toy(7), own, reduction="sum") / 8
    torch.testing.assert_close(head.loss(toy(7), LABELS)["loss_classifier"], plain)


def test_a_batch_without_a_region_changes_nothing():
    head = make_head("equalization-v2", instance_counts=COUNTS)
    for _ in range(2):
        assert float(head.loss(torch.zeros(0, 7), LABELS[:0])["loss_classifier"]) == 0
    assert float(head.loss(toy(7), LABELS)["loss_classifier"]) == pytest.approx(5.329623, abs=2e-6)


def test_the_sums_do_not_depend_on_micro_batches():
    whole, parts = (make_head("equalization-v2", instance_counts=COUNTS) for _ in range(2))
    whole.loss(toy(7), LABELS)
    parts.loss(toy(7), LABELS, micro_batch=torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]))
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())


def test_micro_batches_average_and_order_is_irrelevant():
    """With the weights that earlier batches left."""
    head, order = make_head("equalization-v2", instance_counts=COUNTS), torch.tensor([5, 2, 7, 0, 1, 3, 6, 4])
    head.loss(toy(7), LABELS)
    parts = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    with torch.no_grad():
        together = head.loss(toy(7), LABELS, micro_batch=parts)
        shuffled = head.loss(toy(7)[order], LABELS[order], micro_batch=parts[order])
        each = [head.loss(toy(7)[parts == part], LABELS[parts == part])["loss_classifier"] for part in (0, 1)]
    torch.testing.assert_close(together, shuffled)
    torch.testing.assert_close(together["loss_classifier"], torch.stack(each).mean())


def test_nothing_is_collected_without_gradients():
    head = make_head("equalization-v2", instance_counts=COUNTS)
    with torch.no_grad():
        head.loss(toy(7), LABELS)
    head.scores(toy(7))
    assert not head.positive_gradient.any()
    assert not head.negative_gradient.any()


def test_a_step_that_is_not_finite_leaves_no_mark():
    head, logits = make_head("equalization-v2", instance_counts=COUNTS), toy(7)
    head.loss(logits, LABELS)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    logits[2, 3] = float("nan")
    assert not torch.isfinite(head.loss(logits, LABELS)["loss_classifier"])
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)


def test_a_blank_image_is_not_collected(monkeypatch):
    """A process without an image computes on a blank one; what the others have is all that counts."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    head = make_head("equalization-v2", instance_counts=COUNTS)
    with sharing(2, weight=0.0):
        head.loss(toy(7), LABELS)
    assert not head.negative_gradient.any()


@pytest.mark.parametrize("step", [1, 2])
def test_huge_logits_stay_finite(step):
    head, logits = make_head("equalization-v2", instance_counts=COUNTS), toy(7) * 1e4
    logits.requires_grad_()
    for _ in range(step):
        loss = head.loss(logits, LABELS)["loss_classifier"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert all(bool(torch.isfinite(value).all()) for value in head.state_dict().values())
    assert torch.isfinite(head.scores(logits)).all()


def test_a_fresh_classifier_starts_from_the_prior():
    head = make_head("equalization-v2", instance_counts=COUNTS, prior=0.02)
    bias = torch.zeros(head.num_logits)
    head.initialise(bias)
    torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.02))
