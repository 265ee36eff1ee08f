"""DropLoss against its golden number (an expectation over the draw), the formula, and its draw."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from lt_train.heads import make_head
from lt_train.randomness import keyed_generator
from tests.lt_train.heads.sigmoid_toy import (
    COUNTED,
    assert_edges_hold,
    classifier_loss,
    cross_entropy,
    random_case,
    toy,
)

torch.set_num_threads(1)


def counts_of(images, total):
    return {"instance_counts": images, "image_counts": images, "num_images": total}


def test_golden():
    """The loss is linear in what is kept: all and nothing, in the proportion of the share, are the expectation."""
    head = make_head("droploss", threshold=0.01, **COUNTED)
    logits, labels = toy()
    shares = []

    def loss(kept):
        def keep(share, _):
            shares.append(share)
            return torch.full((8, 6), kept)

        with patch.object(head, "_keep", keep):
            return float(classifier_loss(head, logits, labels))

    everything, nothing = loss(True), loss(False)
    assert shares[0].tolist() == [0.5] * 8
    assert 0.5 * everything + 0.5 * nothing == pytest.approx(3.555923, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_against_the_formula(seed, threshold):
    logits, labels, images, total = random_case(seed)
    losses, targets = cross_entropy(logits, labels)
    rare = np.maximum(images, 1) / total < threshold
    objects = labels[labels > 0]
    share = rare[objects - 1].sum() / len(objects)
    draw = torch.rand(5, 12, generator=keyed_generator(seed, "drop"), dtype=torch.float64).numpy().T
    keep = np.where(labels[:, None] > 0, targets > 0, draw < share) | ~rare
    head = make_head("droploss", threshold=threshold, **counts_of(images, total))
    loss = float(classifier_loss(head, logits, labels, generator=keyed_generator(seed, "drop")))
    assert loss == pytest.approx((losses * keep).sum() / 12, rel=1e-5)


def test_the_share_is_that_of_the_micro_batch():
    """Rare objects alone, no rare object, no object: all background counts, none does, all does."""
    head = make_head("droploss", threshold=0.01, **COUNTED)
    logits = torch.zeros(6, 6, requires_grad=True)
    labels, parts = torch.tensor([1, 0, 2, 0, 0, 0]), torch.tensor([4, 4, 2, 2, 9, 9])
    classifier_loss(head, logits, labels, micro_batch=parts, generator=keyed_generator(0, "drop")).backward()
    everything, all_but_rare = [True] * 6, [False, True, True, True, False, True]
    hit = (logits.grad != 0).tolist()
    assert [hit[1], hit[3], hit[4], hit[5]] == [everything, all_but_rare, everything, everything]
    assert hit[0] == [True, True, True, True, False, True]


def test_the_draw_is_of_each_region_and_class():
    head = make_head("droploss", threshold=1.0, **COUNTED)
    head.rare[2] = False
    logits = torch.zeros(2002, 6, requires_grad=True)
    labels = torch.tensor([1, 2] + [0] * 2000)
    classifier_loss(head, logits, labels, generator=keyed_generator(0, "drop")).backward()
    kept = logits.grad[2:] != 0
    rare = kept[:, [0, 2, 3, 4, 5]].double()
    assert kept[:, 1].all()
    assert rare.mean(dim=0).tolist() == pytest.approx([0.5] * 5, abs=0.05)
    assert 0.1 < float(rare.mean(dim=1).std()) < 0.35


def test_edges():
    assert_edges_hold(lambda **counts: make_head("droploss", threshold=0.95, **counts))
