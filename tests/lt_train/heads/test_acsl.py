"""Adaptive class suppression against its formula and the published value of the toy batch."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.detectors import build_detector
from lt_train.heads import make_head
from lt_train.heads.shared.draws import MicroBatchDraws
from lt_train.randomness import keyed_generator
from tests.lt_train.heads.test_balanced_softmax import TOY_LABELS, TOY_LOGITS
from tests.lt_train.heads.test_contract import HostSyncs

torch.set_num_threads(1)

# rare, common, common, rare, rare, frequent; the bounds belong to the group below
IMAGES = [10, 11, 100, 0, 8, 101]


def make(images=IMAGES, **options):
    return make_head("acsl", instance_counts=images, image_counts=images, num_images=1000, **options)


def suppressed(logits, labels, images, places, shares, threshold=0.7):
    """The definition in float64, one channel at a time; ``places``: [2, R], of rare and of common classes."""
    q, total, background = 1 / (1 + np.exp(-logits)), 0.0, int((labels == 0).sum())
    for r, label in enumerate(labels):
        for c in range(logits.shape[1]):
            if c == label:
                total -= np.log(q[r, c])
            elif label > 0:
                total -= (q[r, c] >= threshold) * np.log(1 - q[r, c])
            elif images[c - 1] > 100:
                total -= np.log(1 - q[r, c])
            else:
                group = int(images[c - 1] > 10)
                total -= (places[group][r] < int(background * shares[group])) * np.log(1 - q[r, c])
    return total / len(labels)


def test_golden():
    loss = make([3, 20, 50, 8, 8, 700]).loss(TOY_LOGITS, TOY_LABELS)["loss_classifier"]
    assert float(loss) == pytest.approx(1.859669, abs=2e-6)


@pytest.mark.parametrize("shares", [(0.01, 0.1), (0.25, 0.5), (0.0, 1.0)])
def test_against_the_formula(monkeypatch, shares):
    random = np.random.default_rng(3)
    labels = random.integers(0, 7, 30) * random.integers(0, 2, 30)
    logits = torch.from_numpy(random.normal(size=(30, 7), scale=2)).float()
    background = np.flatnonzero(labels == 0)
    places = np.full((2, 30), 100)
    for row in places:
        row[background] = random.permutation(len(background))
    head = make(keep_rare=shares[0], keep_common=shares[1])
    monkeypatch.setattr(head, "_places", lambda *given: torch.from_numpy(places))
    loss = head.loss(logits, torch.from_numpy(labels))["loss_classifier"]
    wanted = suppressed(logits.double().numpy(), labels, IMAGES, places, shares)
    np.testing.assert_allclose(float(loss), wanted, rtol=1e-5)


def trained(head, labels, **more):
    """[R, L] which logits have a gradient; at a score of one half nothing is confused."""
    logits = torch.zeros(len(labels), head.num_logits, requires_grad=True)
    head.loss(logits, labels, **more)["loss_classifier"].backward()
    return logits.grad != 0


def test_shares_of_the_background_are_drawn_in_each_micro_batch():
    labels = torch.tensor([0, 0, 3, 0] * 75)
    parts = (torch.arange(300) >= 100).long() * 9
    draws = MicroBatchDraws([keyed_generator(0, "a"), keyed_generator(0, "b")], [100, 200])
    hit = trained(make(), labels, micro_batch=parts, generator=draws)
    background = labels == 0
    for part, regions in ((0, 75), (9, 150)):
        rows = hit[background & (parts == part)]
        rare, common = int(0.01 * regions), int(0.1 * regions)
        assert rows.sum(dim=0).tolist() == [regions, rare, common, common, rare, rare, regions]
        # the classes of a group are trained by the same regions
        assert torch.equal(rows[:, 1], rows[:, 4])
        assert torch.equal(rows[:, 2], rows[:, 3])
    assert hit[~background].sum(dim=0).tolist() == [0, 0, 0, 75, 0, 0, 0]


def test_draws_are_of_the_micro_batch_and_not_of_what_stands_beside_it():
    labels = torch.zeros(120, dtype=torch.int64)
    parts = (torch.arange(120) >= 50).long()
    both = MicroBatchDraws([keyed_generator(0, "a"), keyed_generator(0, "b")], [50, 70])
    alone = MicroBatchDraws([keyed_generator(0, "b")], [70])
    together = trained(make(), labels, micro_batch=parts, generator=both)
    assert torch.equal(together[50:], trained(make(), labels[50:], micro_batch=parts[50:], generator=alone))
    other = MicroBatchDraws([keyed_generator(1, "b")], [70])
    assert not torch.equal(together[50:], trained(make(), labels[50:], generator=other))


def test_huge_logits_stay_finite_and_a_confused_background_is_trained():
    logits = (TOY_LOGITS.sign() * 1e4).requires_grad_()
    loss = make().loss(logits, TOY_LABELS)["loss_classifier"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    sure = torch.full((1, 7), 3.0, requires_grad=True)
    make().loss(sure, torch.tensor([2]))["loss_classifier"].backward()
    assert bool((sure.grad[0, [0, 1, 3, 4, 5, 6]] > 0).all())


def test_no_region_one_class_and_no_wait():
    logits = torch.zeros(0, 7, requires_grad=True)
    loss = make().loss(logits, torch.zeros(0, dtype=torch.int64))["loss_classifier"]
    loss.backward()
    assert float(loss.detach()) == 0
    head, one = make(), make([0])
    assert torch.isfinite(one.loss(TOY_LOGITS[:, :2], TOY_LABELS.clamp(max=1))["loss_classifier"])
    with HostSyncs() as syncs:
        head.loss(TOY_LOGITS, TOY_LABELS, micro_batch=torch.arange(8) % 2, generator=keyed_generator(0, "draws"))
        head.scores(TOY_LOGITS)
    assert syncs.seen == []


def test_scores_and_prior():
    assert torch.equal(make().scores(TOY_LOGITS), TOY_LOGITS.sigmoid())
    bias = build_detector("faster_rcnn_small", make()).roi_heads.box_predictor.cls_score.bias
    assert bias.sigmoid().tolist() == pytest.approx([0.001] * 7)


def test_what_it_needs():
    with pytest.raises(RecipeError, match="head acsl: image_counts are missing"):
        make_head("acsl", instance_counts=[1, 2])
    with pytest.raises(RecipeError, match="rare is 200, common is 100; allowed is rare <= common"):
        make(rare=200)
