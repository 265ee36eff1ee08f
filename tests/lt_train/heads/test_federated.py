"""The federated loss against its golden number, the formula, and the chances of its draw."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from lt_train.heads import make_head
from lt_train.heads.shared.draws import MicroBatchDraws
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


def trained_classes(head, labels, **more):
    """[R, C] bool: which channels have a gradient."""
    logits = torch.zeros(len(labels), head.num_logits, requires_grad=True)
    classifier_loss(head, logits, torch.tensor(labels), **more).backward()
    return logits.grad != 0


def test_golden():
    """The labels 0, 1, 2, 3, 5 and one draw, which is class 4."""
    head = make_head("federated", classes=6, **COUNTED)
    draw = torch.tensor([[0.0, 0, 0, 1, 0, 0.5]], dtype=torch.float64)
    with patch.object(head, "_draw", lambda *_: draw):
        assert float(classifier_loss(head, *toy())) == pytest.approx(3.591649, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [1, 3, 50])
def test_against_the_formula(seed, classes):
    """Classes in the order of log(u) / w fill up the labels of the batch, see Efraimidis and Spirakis (2006)."""
    logits, labels, images, total = random_case(seed, regions=4, classes=8)
    draw = np.random.default_rng(seed).uniform(size=8)
    key = np.log(draw) / (np.maximum(images, 1) / total) ** 0.5
    chosen = set(labels.tolist())
    for c in np.argsort(-key) + 1:
        if len(chosen) < classes:
            chosen.add(int(c))
    losses, _ = cross_entropy(logits, labels)
    columns = [c - 1 for c in chosen if c]
    head = make_head("federated", instance_counts=images, image_counts=images, num_images=total, classes=classes)
    with patch.object(head, "_draw", lambda *_: torch.tensor(draw)[None]):
        loss = float(classifier_loss(head, logits, labels))
    assert loss == pytest.approx(losses[:, columns].sum() / 4, rel=1e-5)


@pytest.mark.parametrize(("labels", "classes", "trained"), [([0, 1], 4, 3), ([2, 1], 4, 4), ([1, 2, 3, 0], 2, 3)])
def test_background_is_one_of_the_classes_where_it_occurs(labels, classes, trained):
    hit = trained_classes(make_head("federated", classes=classes, **COUNTED), labels, generator=keyed_generator(0, "x"))
    assert hit.sum(dim=1).tolist() == [trained] * len(labels)
    assert all(hit[0, label - 1] for label in labels if label)


def test_each_micro_batch_draws_for_itself_whatever_the_company():
    head = make_head("federated", instance_counts=[1] * 40, image_counts=[1] * 40, num_images=40, classes=9)

    def drawn(*keys):
        draws = MicroBatchDraws([keyed_generator(0, key) for key in keys], [2] * len(keys))
        parts = torch.arange(len(keys)).repeat_interleave(2)
        return trained_classes(head, [0, 7] * len(keys), micro_batch=parts, generator=draws)

    both = drawn("a", "b")
    assert torch.equal(both[:2], drawn("a"))
    assert torch.equal(both[2:], drawn("b"))
    assert not torch.equal(both[0], both[2])


def test_a_micro_batch_without_regions_leaves_the_draws_of_others_alone():
    head = make_head("federated", instance_counts=[1] * 40, image_counts=[1] * 40, num_images=40, classes=9)

    def drawn(**regions):
        draws = MicroBatchDraws([keyed_generator(0, key) for key in regions], list(regions.values()))
        parts = torch.repeat_interleave(torch.arange(len(regions)), torch.tensor([*regions.values()]))
        return trained_classes(head, [0, 7] * (len(parts) // 2), micro_batch=parts, generator=draws)

    wanted = torch.cat([drawn(a=2), drawn(b=2)])
    assert torch.equal(drawn(empty=0, a=2, gone=0, b=2, last=0), wanted)


def test_chances_follow_the_power():
    """One draw of three classes: proportional to the square root of the images."""
    counts = {"instance_counts": [1, 4, 9], "image_counts": [1, 4, 9], "num_images": 10}
    head = make_head("federated", classes=2, **counts)
    rows = 6000
    hits = trained_classes(
        head, [0] * rows, micro_batch=torch.arange(rows), generator=keyed_generator(0, "chances")
    ).sum(dim=0)
    assert (hits / rows).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.02)


def test_edges():
    assert_edges_hold(lambda **counts: make_head("federated", classes=2, **counts))
