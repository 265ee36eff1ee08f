"""The equilibrium loss against its formula and the published values of the toy batch."""

from functools import partial

import numpy as np
import pytest
import torch

from lt_train.global_batch import sharing
from lt_train.heads import make_head
from lt_train.processes import run_together
from tests.lt_train.heads.test_balanced_softmax import TOY_COUNTS, TOY_LABELS, TOY_LOGITS
from tests.lt_train.several import start

torch.set_num_threads(1)

CLASSES = 5
# 12 regions; labels, and which object each stands for
LABELS = np.array([1, 1, 0, 2, 2, 2, 1, 0, 5, 0, 2, 3])
OBJECTS = np.array([7, 7, -1, 90, 90, 4, 8, -1, 30, -1, 12, 31])


def make(classes=CLASSES, **options):
    return make_head("loce", instance_counts=[1] * classes, **options)


def equilibrium(logits, labels, objects, means, momentum=0.9):
    """Loss and means after it, by the definition in float64."""
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    means = means.copy()
    for label in range(1, len(means)):
        of_class = sorted({o for o, own in zip(objects, labels, strict=True) if own == label})
        each = [scores[(objects == o) & (labels == label), label].mean() for o in of_class]
        if each:
            kept = momentum ** len(each)
            means[label] = kept * means[label] + (1 - kept) * np.mean(each)
    odds = np.exp(logits) * means
    return np.mean(-np.log(odds[np.arange(len(labels)), labels] / odds.sum(axis=1))), means


def logits_of(seed):
    return torch.randn(len(LABELS), CLASSES + 1, generator=torch.Generator().manual_seed(seed)) * 2


def step(head, seed, rows=slice(None), **more):
    labels, objects = torch.from_numpy(LABELS)[rows], torch.from_numpy(OBJECTS)[rows]
    return head.loss(logits_of(seed)[rows], labels, objects=objects, **more)["loss_classifier"]


def test_golden_loss():
    head = make_head("loce", instance_counts=TOY_COUNTS)
    head.mean_scores.copy_(torch.tensor([0.01, 0.02, 0.1, 0.4, 0.2, 0.05, 0.6]))
    with torch.no_grad():
        loss = head.loss(TOY_LOGITS, TOY_LABELS, objects=TOY_LABELS - 1)["loss_classifier"]
    assert float(loss) == pytest.approx(4.056756, abs=2e-6)


def test_golden_mean():
    """Two objects whose mean score is 0.4 act with the square of the momentum."""
    head = make(1, start=0.1)
    odds = torch.tensor([[0.3], [0.5]]).logit()
    head.loss(torch.cat([torch.zeros(2, 1), odds], dim=1), torch.tensor([1, 1]), objects=torch.tensor([3, 9]))
    assert head.mean_scores.tolist() == pytest.approx([0.01, 0.157], abs=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_against_the_formula(momentum):
    head, means = make(momentum=momentum, start=0.2), np.array([0.01] + [0.2] * CLASSES)
    for seed in range(3):
        wanted, means = equilibrium(logits_of(seed).double().numpy(), LABELS, OBJECTS, means, momentum)
        assert float(step(head, seed)) == pytest.approx(wanted, rel=1e-5)
        np.testing.assert_allclose(head.mean_scores.numpy(), means, rtol=1e-5)


def test_numbers_of_objects_order_and_micro_batches_do_not_matter_to_the_means():
    one, other = make(), make()
    step(one, 0)
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    renamed = torch.from_numpy(np.where(OBJECTS < 0, -1, 1000 - OBJECTS))
    other.loss(
        logits_of(0)[order], torch.from_numpy(LABELS)[order], objects=renamed[order], micro_batch=(order > 5).long()
    )
    torch.testing.assert_close(one.mean_scores, other.mean_scores)


def test_looking_on_changes_nothing():
    head = make()
    before = head.mean_scores.clone()
    with torch.no_grad():
        step(head, 0)
    head.scores(logits_of(0))
    assert torch.equal(head.mean_scores, before)


def test_a_saved_state_goes_on_as_if_nothing_had_been():
    head, twin = make(), make()
    step(head, 0)
    twin.load_state_dict(head.state_dict())
    assert torch.equal(step(head, 1), step(twin, 1))
    assert torch.equal(head.mean_scores, twin.mean_scores)


def test_no_region_and_no_object():
    head = make()
    before = head.mean_scores.clone()
    for regions in (0, 4):
        logits = torch.zeros(regions, CLASSES + 1, requires_grad=True)
        none = torch.zeros(regions, dtype=torch.int64)
        loss = head.loss(logits, none, objects=none - 1)["loss_classifier"]
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
    assert torch.equal(head.mean_scores, before)


def test_it_stays_finite_where_a_class_never_scores():
    head = make(1)
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    for _ in range(1200):
        loss = head.loss(logits, torch.tensor([1]), objects=torch.tensor([0]))["loss_classifier"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_objects_are_needed():
    with pytest.raises(ValueError, match="objects: missing; EquilibriumHead"):
        make().loss(logits_of(0), torch.from_numpy(LABELS))


def shared(processes, out):
    rows = (slice(0, 7), slice(7, None), slice(0, 3))[processes.rank]
    head = make()
    with sharing(processes.world, weight=float(processes.rank < 2)):
        losses = [step(head, seed, rows) for seed in range(2)]
    torch.save((losses, head.mean_scores), out / f"{processes.rank}.pt")
    processes.wait()


def test_processes_share_the_means(tmp_path):
    """The third computes on regions that do not count."""
    assert start(3, partial(run_together, partial(shared, out=tmp_path))) == ["None"] * 3
    head = make()
    wanted = [step(head, seed) for seed in range(2)]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for _, means in found:
        torch.testing.assert_close(means, head.mean_scores)
    for one, own, other in zip(wanted, found[0][0], found[1][0], strict=True):
        # each is its own sum by the mean number of regions of the three
        torch.testing.assert_close((own + other) / 3, one)


@pytest.mark.parametrize("region", [0, 2])
def test_a_step_that_goes_wrong_leaves_the_means_alone(region):
    """Be it an object's region or one of background: a NaN would stay for ever."""
    head, logits = make(), logits_of(0)
    step(head, 1)
    before = head.mean_scores.clone()
    logits[region] = float("nan")
    loss = head.loss(logits, torch.from_numpy(LABELS), objects=torch.from_numpy(OBJECTS))["loss_classifier"]
    assert torch.isnan(loss)
    assert torch.equal(head.mean_scores, before)
    step(head, 2)
    assert torch.isfinite(head.mean_scores).all()
    assert not torch.equal(head.mean_scores, before)
