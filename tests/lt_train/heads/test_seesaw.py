"""Seesaw loss against the formula and against figures of the released code."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt_train.heads import make_head
from tests.lt_train.heads.test_equalization_v2 import COUNTS, LABELS, toy

torch.set_num_threads(1)


class Oracle:
    """The formula in float64, one region and one class at a time."""

    def __init__(self, classes, p, q, eps):
        self.p, self.q, self.eps, self.seen = p, q, eps, np.zeros(classes)

    def losses(self, logits, labels):
        for label in labels[labels > 0]:
            self.seen[label - 1] += 1
        of_classes = of_pair = 0.0
        for z, label in zip(logits, labels, strict=True):
            pair = np.exp([z[0], z[-1]])
            of_pair -= np.log(pair[int(label > 0)] / pair.sum())
            of_classes += self.of_classes(z[1:-1], label - 1) if label else 0
        return of_classes / len(labels), of_pair / len(labels)

    def of_classes(self, z, own):
        likely, below = np.exp(z) / np.exp(z).sum(), 0.0
        for j in range(len(z)):
            had, have = max(self.seen[own], 1), max(self.seen[j], 1)
            mitigation = (have / had) ** self.p if have < had else 1.0
            ratio = likely[j] / max(likely[own], self.eps)
            compensation = ratio**self.q if ratio > 1 else 1.0
            below += np.exp(z[j]) * (1.0 if j == own else mitigation * compensation)
        return -np.log(np.exp(z[own]) / below)


def test_the_figures_of_the_released_code():
    head, logits = make_head("seesaw", instance_counts=COUNTS), toy(8)
    first, second = (head.loss(logits, LABELS) for _ in range(2))
    assert [float(losses["loss_classifier"]) for losses in (first, second)] == pytest.approx(
        [1.324989, 1.220549], abs=2e-6
    )
    assert [float(losses["loss_foreground"]) for losses in (first, second)] == pytest.approx([0.607558] * 2, abs=2e-6)
    assert head.seen.tolist() == [2, 2, 2, 0, 2, 0]
    row = [0.075858, 0.075703, 0.160262, 0.339276, 0.045916, 0.097204, 0.205781]
    assert head.scores(logits)[0].tolist() == pytest.approx(row, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_several_steps_against_the_formula(seed):
    random = np.random.default_rng(seed)
    classes, options = int(random.integers(1, 9)), {"p": 0.4 * seed, "q": 2.5 - seed / 2, "eps": 0.01 + 0.2 * seed}
    head, oracle = make_head("seesaw", instance_counts=[1] * classes, **options), Oracle(classes, **options)
    for _ in range(4):
        labels = random.integers(0, classes + 1, int(random.integers(1, 20)))
        values = random.normal(0, 2, (len(labels), classes + 2))
        losses = head.loss(torch.tensor(values), torch.tensor(labels))
        wanted = oracle.losses(values, labels)
        assert [float(value) for value in losses.values()] == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert head.seen.tolist() == oracle.seen.tolist()


def test_the_factors_have_no_gradient():
    """They are weights: the gradient of a region is that of a softmax with them as they are."""
    head, logits = make_head("seesaw", instance_counts=COUNTS), toy(8).requires_grad_()
    head.loss(logits, LABELS)["loss_classifier"].backward()
    classes = toy(8)[:, 1:-1]
    margins = head._margins(classes, (LABELS - 1).clamp(min=0))
    wanted = (classes + margins).softmax(1) - F.one_hot((LABELS - 1).clamp(min=0), 6)
    torch.testing.assert_close(logits.grad[:, 1:-1], wanted * (LABELS > 0)[:, None] / 8)


def test_without_both_factors_it_is_two_softmaxes():
    head, logits = make_head("seesaw", instance_counts=COUNTS, p=0.0, q=0.0), toy(8)
    losses, objects = head.loss(logits, LABELS), LABELS > 0
    plain = F.cross_entropy(logits[objects, 1:-1], LABELS[objects] - 1, reduction="sum") / 8
    torch.testing.assert_close(losses["loss_classifier"], plain)
    torch.testing.assert_close(losses["loss_foreground"], F.cross_entropy(logits[:, [0, 7]], objects.long()))


def test_micro_batches_average_and_are_counted_together():
    parts = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    head = make_head("seesaw", instance_counts=COUNTS)
    together = head.loss(toy(8), LABELS, micro_batch=parts)
    assert head.seen.tolist() == [1, 1, 1, 0, 1, 0]
    # with what was seen as it is now
    with torch.no_grad():
        each = [head.loss(toy(8)[parts == part], LABELS[parts == part]) for part in (0, 1)]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([losses[name] for losses in each]).mean())


def test_region_order_is_irrelevant():
    order = torch.tensor([5, 2, 7, 0, 1, 3, 6, 4])
    here, there = (make_head("seesaw", instance_counts=COUNTS) for _ in range(2))
    torch.testing.assert_close(here.loss(toy(8), LABELS), there.loss(toy(8)[order], LABELS[order]))
    assert torch.equal(here.seen, there.seen)


def test_nothing_is_counted_without_gradients():
    head = make_head("seesaw", instance_counts=COUNTS)
    with torch.no_grad():
        head.loss(toy(8), LABELS)
    head.scores(toy(8))
    assert not head.seen.any()


def test_scores_sum_to_one():
    scores = make_head("seesaw", instance_counts=COUNTS).scores(toy(8) * 3)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(8))


def test_background_alone_trains_the_pair_alone():
    head, logits = make_head("seesaw", instance_counts=COUNTS), toy(8).requires_grad_()
    losses = head.loss(logits, torch.zeros_like(LABELS))
    assert losses["loss_classifier"].item() == 0
    sum(losses.values()).backward()
    assert not logits.grad[:, 1:-1].any()
    assert bool((logits.grad[:, [0, 7]] != 0).all())


def test_huge_logits_stay_finite():
    head, logits = make_head("seesaw", instance_counts=COUNTS), (toy(8) * 1e4).requires_grad_()
    loss = sum(head.loss(logits, LABELS).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(head.scores(logits)).all()
