"""Ignore regions: which boxes lie in one, that those are never sampled, and that nothing else changes."""

from fractions import Fraction
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.rpn import RegionProposalNetwork

from lt_data.errors import DataError
from lt_train.detectors import set_trainable
from lt_train.detectors.regions.ignore import has_regions, ignore_negatives, lies_in_region
from lt_train.heads import HEADS
from tests.lt_train.detectors.scenes import batch, scene, small

torch.set_num_threads(1)

NOWHERE = torch.tensor([[1.0, 1.0, 1.01, 1.01]])
EVERYWHERE = torch.tensor([[-1000.0, -1000.0, 1000.0, 1000.0]])


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# --- the rule ---------------------------------------------------------------------------------------------------------

REGION = boxes_of([10, 10, 30, 30])
CASES = {
    "inside": ([12, 12, 20, 20], True),
    "the region itself": ([10, 10, 30, 30], True),
    "exactly half": ([0, 10, 20, 30], True),
    "just under half": ([0, 10, 19.99, 30], False),
    "large around the region": ([0, 0, 60, 60], False),
    "beside it": ([30, 10, 50, 30], False),
    "no area": ([15, 15, 15, 25], False),
    "half outside the image": ([-10, 10, 30, 30], True),
}


@pytest.mark.parametrize("name", CASES)
def test_intersection_over_own_area(name):
    box, wanted = CASES[name]
    assert lies_in_region(boxes_of(box), REGION).tolist() == [wanted]


def test_one_region_alone_has_to_cover_half():
    """Two regions cover 40 % each."""
    regions = boxes_of([0, 0, 4, 10], [6, 0, 10, 10])
    assert lies_in_region(boxes_of([0, 0, 10, 10], [0, 0, 8, 10]), regions).tolist() == [False, True]


def test_regions_or_boxes_without_area_or_number_ignore_nothing():
    regions = boxes_of([10, 10, 10, 30], [30, 30, 10, 10], [float("nan")] * 4)
    assert lies_in_region(boxes_of([10, 10, 30, 30]), regions).tolist() == [False]
    assert lies_in_region(boxes_of(), REGION).tolist() == []
    assert lies_in_region(REGION, boxes_of()).tolist() == [False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_and_areas_beyond_half_precision(dtype):
    boxes = boxes_of([0, 0, 512, 512], [0, 0, 256, 512], [0, 0, 512, 520]).to(dtype)
    assert lies_in_region(boxes, boxes_of([0, 0, 256, 512])).tolist() == [True, True, False]


values = st.integers(0, 12)
corners = st.builds(lambda a, b, c, d: (min(a, c), min(b, d), max(a, c), max(b, d)), values, values, values, values)


def naive(box, regions):
    area = (box[2] - box[0]) * (box[3] - box[1])
    shares = [
        Fraction(max(0, min(box[2], r[2]) - max(box[0], r[0])) * max(0, min(box[3], r[3]) - max(box[1], r[1])), area)
        for r in regions
        if area
    ]
    return max(shares, default=0) >= Fraction(1, 2)


@given(st.lists(corners, max_size=6), st.lists(corners, max_size=4))
def test_equals_fractions(boxes, regions):
    got = lies_in_region(boxes_of(*boxes), boxes_of(*regions))
    assert got.tolist() == [naive(box, regions) for box in boxes]


def test_only_negatives_of_images_with_regions_change():
    boxes = [boxes_of([12, 12, 20, 20], [12, 12, 22, 22], [12, 12, 24, 24], [50, 50, 60, 60])] * 3
    for dtype in (torch.float32, torch.int64):
        labels = [torch.tensor([0, 1, -1, 0], dtype=dtype) for _ in boxes]
        got = ignore_negatives(labels, boxes, [{}, {"ignore": REGION}, {"ignore": boxes_of()}])
        assert [part.tolist() for part in got] == [[0, 1, -1, 0], [-1, 1, -1, 0], [0, 1, -1, 0]]
        assert got[0] is labels[0]
        assert got[2] is labels[2]
        assert got[1].dtype == dtype
        assert labels[1].tolist() == [0, 1, -1, 0]
    assert [has_regions(t) for t in ({}, {"ignore": boxes_of()}, {"ignore": REGION})] == [False, False, True]


def test_no_wait_for_the_device():
    """Tensors on "meta" hold no values: an operation that needs one on the host would raise."""
    with torch.device("meta"):
        labels, boxes, regions = torch.zeros(7), torch.zeros(7, 4), torch.zeros(2, 4)
    got = ignore_negatives([labels, labels], [boxes, boxes], [{"ignore": regions}, {}])
    assert got[0].shape == (7,)


# --- anchors and proposals --------------------------------------------------------------------------------------------


def image_target(truth, labels, regions=None, **more):
    target = {"boxes": boxes_of(*truth), "labels": torch.tensor(labels, dtype=torch.int64), **more}
    return target if regions is None else {**target, "ignore": regions}


def test_labels_of_anchors():
    """An object inside the crowd; the second image has the same anchors and no region, the third no object."""
    anchors = boxes_of([12, 12, 20, 20], [13, 12, 20, 20], [20, 20, 30, 30], [0, 10, 20, 30], [0, 0, 60, 60])
    targets = [
        image_target([[12, 12, 20, 20]], [1], REGION),
        image_target([[12, 12, 20, 20]], [1]),
        image_target([], [], REGION),
    ]
    labels, matched = small().rpn.assign_targets_to_anchors([anchors] * 3, targets)
    assert [part.tolist() for part in labels] == [[1, 1, -1, -1, 0], [1, 1, 0, 0, 0], [-1, -1, -1, -1, 0]]
    assert [part.tolist() for part in matched] == [[0] * 5] * 3


def test_an_anchor_that_is_positive_by_being_the_best_stays_positive():
    """Its overlap is below the threshold, yet the object has no better anchor."""
    anchors = boxes_of([12, 12, 28, 28], [12, 20, 14, 22])
    targets = [image_target([[12, 12, 22, 22]], [1], REGION)]
    assert small().rpn.assign_targets_to_anchors([anchors], targets)[0][0].tolist() == [1, -1]


@pytest.mark.parametrize("keyed", [True, False])
def test_ignored_anchors_are_never_sampled_and_get_no_gradient(keyed):
    rpn = small().rpn
    anchors = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 50
    anchors = torch.cat([anchors, anchors + 12], dim=1)
    target = image_target([[5, 5, 17, 17]], [1], boxes_of([0, 0, 40, 40]), **({"draw_seed": 3} if keyed else {}))
    targets = [target, {**target, "ignore": boxes_of()}]
    labels, matched = rpn.assign_targets_to_anchors([anchors, anchors], targets)
    inside = lies_in_region(anchors, target["ignore"])
    ignored = labels[0] < 0
    assert bool((ignored & inside & (labels[1] == 0)).sum() > 100)
    objectness = torch.zeros(800, 1, requires_grad=True)
    deltas = torch.zeros(800, 4, requires_grad=True)
    rpn.fg_bg_sampler.batch_size_per_image = 200
    sum(rpn.losses(objectness, deltas, anchors, labels, matched, targets).values()).backward()
    trained = (objectness.grad[:, 0] != 0).split(400)
    assert not bool((trained[0] & inside & (labels[0] <= 0)).any())
    assert bool((trained[1] & inside & (labels[1] == 0)).any())
    assert [int(part.sum()) for part in trained] == [200, 200]
    assert bool((trained[0] & inside & (labels[0] > 0)).any())


def test_rpn_losses_equal_torchvisions_own():
    """Drawn for all images at once, and only what was drawn is encoded; torchvision's code is the oracle."""
    rpn = small().rpn
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(-1, 2, (300,), generator=generator).float() for _ in range(2)]
    inputs = torch.randn(600, 1, generator=generator), torch.randn(600, 4, generator=generator)
    low = torch.rand(300 + 5, 2, generator=generator) * 50
    anchors, truth = torch.cat([low, low + 4 + torch.rand(305, 2, generator=generator) * 20], dim=1).split([300, 5])
    matched = [torch.randint(0, n, (300,), generator=generator) for n in (5, 2)]
    torch.manual_seed(4)
    got = rpn.losses(*inputs, anchors, labels, matched, [{"boxes": truth}, {"boxes": truth[:2]}])
    after = torch.rand(())
    torch.manual_seed(4)
    sampler = BalancedPositiveNegativeSampler(rpn.fg_bg_sampler.batch_size_per_image, 0.5)
    wanted = rpn.box_coder.encode([truth[m] for m in matched], [anchors, anchors])
    stock = RegionProposalNetwork.compute_loss(SimpleNamespace(fg_bg_sampler=sampler), *inputs, labels, wanted)
    torch.testing.assert_close(list(got.values()), list(stock), atol=1e-6, rtol=1e-6)
    assert torch.equal(after, torch.rand(()))


@cache
def one_rpn():
    return small().rpn


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 6))
def test_anchors_are_labelled_as_torchvision_does(seed, number, objects):
    """On a coarse grid, where overlaps tie."""
    rpn = one_rpn()
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 6, (number + objects, 2), generator=generator) * 4.0
    side = 4.0 * torch.randint(1, 5, (number + objects, 2), generator=generator)
    anchors, truth = torch.cat([low, low + side], dim=1).split([number, objects])
    labels, matched = rpn.assign_targets_to_anchors([anchors], [{"boxes": truth}])
    wanted, boxes = RegionProposalNetwork.assign_targets_to_anchors(rpn, [anchors], [{"boxes": truth}])
    assert torch.equal(labels[0], wanted[0])
    positive = labels[0] > 0
    assert torch.equal(truth[matched[0][positive]], boxes[0][positive])


def regions_of(proposals, targets, **settings):
    roi_heads = small(**settings).roi_heads
    return roi_heads.propose(proposals, targets)


def test_proposals_in_a_region_are_never_sampled():
    """Fewer than the sampler would take, so that all that may be sampled is."""
    proposals = boxes_of([11, 11, 21, 21], [22, 22, 29, 29], [0, 10, 20, 30], [0, 10, 19.9, 30], [40, 40, 60, 60])
    truth = [[12, 12, 21, 21]]
    targets = [image_target(truth, [4], REGION, draw_seed=1), image_target(truth, [4], draw_seed=1)]
    found = regions_of([proposals, proposals], targets)
    # the first overlaps the object by 81 %; the object itself is the last
    first = [proposals[0].tolist(), *truth]
    assert found.boxes[0].tolist() == [*first, *proposals[[3, 4]].tolist()]
    assert found.labels[0].tolist() == [4, 4, 0, 0]
    assert found.boxes[1].tolist() == [*first, *proposals[1:].tolist()]
    assert found.labels[1].tolist() == [4, 4, 0, 0, 0, 0]
    assert found.positives == (2, 2)
    assert [len(part) for part in found.box_targets] == [4, 6]
    assert [part.tolist() for part in found.matched] == [[0] * 4, [0] * 6]


def test_proposals_of_an_image_with_regions_and_no_object():
    proposals = boxes_of([12, 12, 20, 20], [40, 40, 60, 60])
    target = image_target([], [], REGION, draw_seed=1)
    found = regions_of([proposals, proposals], [target, {**target, "ignore": EVERYWHERE}])
    assert [part.tolist() for part in found.boxes] == [[[40, 40, 60, 60]], []]
    assert [part.tolist() for part in found.labels] == [[0], []]
    assert len(found.foreground().boxes[0]) == 0


def test_no_proposal_but_the_ground_truth():
    found = regions_of([boxes_of()], [image_target([[12, 12, 20, 20]], [2], EVERYWHERE)])
    assert found.labels[0].tolist() == [2]


def test_sampled_regions_of_a_whole_model():
    model = small(side=96)
    images, targets = batch([1, 2, 3])
    targets[0]["ignore"] = boxes_of([0, 0, 40, 64], [30, 30, 64, 64])
    targets[2]["ignore"] = boxes_of([0, 0, 64, 40])
    inputs, resized = model.transform(images, targets)
    proposals, _ = model.rpn(inputs, model.backbone(inputs.tensors), resized)
    found = model.roi_heads.propose(proposals, resized)
    plain = model.roi_heads.propose(proposals, [{k: v for k, v in t.items() if k != "ignore"} for t in resized])
    for i in (0, 2):
        inside = lies_in_region(found.boxes[i], resized[i]["ignore"])
        assert not bool((inside & (found.labels[i] == 0)).any())
        assert bool((inside & (found.labels[i] > 0)).any())
        assert bool((lies_in_region(plain.boxes[i], resized[i]["ignore"]) & (plain.labels[i] == 0)).any())
    assert torch.equal(found.boxes[1], plain.boxes[1])


# --- losses -----------------------------------------------------------------------------------------------------------


def losses_of(model, images, targets):
    torch.manual_seed(1)
    with model.head.state_kept():
        losses = model(images, targets)
        model.zero_grad()
        sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, torch.rand(())


def same(first, second):
    (a, b), (c, d), (e, f) = zip(first, second, strict=True)
    assert a.keys() == b.keys()
    assert c.keys() == d.keys()
    return all(torch.equal(a[k], b[k]) for k in a) and all(torch.equal(c[k], d[k]) for k in c) and torch.equal(e, f)


@pytest.mark.parametrize("keyed", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("head", sorted(HEADS))
def test_without_a_region_every_bit_is_as_before(head, keyed):
    """Losses, gradients and the state of the random generator."""
    model = small(head=head)
    images, targets = batch([1, 2], keyed=keyed)
    before = losses_of(model, images, targets)
    none = torch.zeros(0, 4)
    for regions in ((none, none), (NOWHERE, NOWHERE), (None, none), (None, NOWHERE))[:: 1 if head == "softmax" else 2]:
        pairs = zip(targets, regions, strict=True)
        assert same(before, losses_of(model, images, [t if r is None else {**t, "ignore": r} for t, r in pairs]))


def test_a_region_changes_the_losses_and_not_the_target():
    model = small()
    images, targets = batch([1, 2])
    targets[1]["ignore"] = boxes_of([0, 0, 64, 40])
    with_region = losses_of(model, images, targets)[0]
    plain = losses_of(model, images, [{k: v for k, v in t.items() if k != "ignore"} for t in targets])[0]
    for name in ("loss_objectness", "loss_classifier"):
        assert not torch.equal(with_region[name], plain[name])
    assert targets[1]["ignore"].tolist() == [[0, 0, 64, 40]]


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", ["mask_rcnn_small", "faster_rcnn_small"])
def test_a_batch_in_which_everything_is_ignored_costs_nothing(name, head):
    """No object, one region over everything: the mean over nothing must not become NaN."""
    images, targets = batch([1, 2], objects=0)
    model = small(name, head)
    losses, gradients, _ = losses_of(model, images, [{**t, "ignore": EVERYWHERE} for t in targets])
    assert {name: float(value.detach()) for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    assert len(gradients) > 0
    assert all(bool((gradient == 0).all()) for gradient in gradients.values())


@pytest.mark.parametrize("head", sorted(HEADS))
def test_an_ignored_image_beside_an_ordinary_one(head):
    """The ordinary image alone gives the same losses: the other adds no anchor and no region."""
    model = small(head=head)
    set_trainable(model, "head+reg")
    images, targets = batch([1])
    empty, nothing = scene(5, objects=0)
    alone = losses_of(model, images, targets)[0]
    together = losses_of(model, [*images, empty], [*targets, {**nothing, "ignore": EVERYWHERE}])[0]
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_only_positives_are_left_under_a_region_over_everything():
    model = small()
    images, targets = batch([1, 2])
    losses = losses_of(model, images, [{**t, "ignore": EVERYWHERE} for t in targets])[0]
    assert all(float(value.detach()) > 0 for value in losses.values())


# --- on the way to the model ------------------------------------------------------------------------------------------


def test_regions_are_resized_like_boxes():
    transform = small(side=96).transform
    image, target = scene(1)
    regions = torch.cat([target["boxes"], REGION])
    _, resized = transform([image], [{**target, "ignore": regions}])
    assert torch.equal(resized[0]["ignore"][:-1], resized[0]["boxes"])
    assert resized[0]["ignore"][-1].tolist() == [15, 15, 45, 45]
    assert torch.equal(regions[-1:], REGION)
    assert "ignore" not in transform([image], [target])[1][0]
    assert transform([image], [{**target, "ignore": boxes_of()}])[1][0]["ignore"].shape == (0, 4)


@pytest.mark.parametrize(("regions", "shape"), [(REGION[0], r"\(4,\)"), (REGION[:, :3], r"\(1, 3\)")])
def test_regions_of_a_wrong_shape_are_named(regions, shape):
    images, targets = batch([1])
    with pytest.raises(DataError, match=rf"image 101: ignore is {shape}; needed is \[m, 4\]"):
        small()(images, [{**targets[0], "ignore": regions}])


def test_regions_are_not_needed_in_evaluation():
    model = small(num_detections=3).eval()
    images, targets = batch([1])
    with torch.no_grad():
        first, second = model(images), model(images, [{**targets[0], "ignore": EVERYWHERE}])
    assert torch.equal(first[0]["boxes"], second[0]["boxes"])
