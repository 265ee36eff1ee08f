import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lt_train.evaluation import Detections, GroundTruth
from lt_train.evaluation.comparison import bootstrap
from lt_train.evaluation.comparison.bootstrap import (
    class_ap,
    image_weights,
    mean_ap,
    percentile_interval,
    weighted_class_ap,
)
from lt_train.evaluation.comparison.matches import Matches, match
from lt_train.evaluation.figures.average_precision import evaluate

CATEGORIES = [3, 5, 8, 9]


def small_case(seed, *, federated=False):
    """Distinct scores, crowds, an image without anything, a category without ground truth. Image ids 1..6."""
    rng = np.random.default_rng(seed)
    truths, founds = 24, 90
    images, categories = rng.integers(1, 6, truths), rng.choice(CATEGORIES[:3], truths, p=[0.6, 0.35, 0.05])
    boxes = np.concatenate([rng.integers(0, 60, (truths, 2)), rng.integers(10, 90, (truths, 2))], axis=1).astype(float)
    source = rng.integers(0, truths, founds)
    moved = (boxes[source] + rng.integers(-5, 6, (founds, 4)) * (rng.random((founds, 1)) < 0.8)).clip(1)
    truth = GroundTruth(
        source="small",
        image_ids=np.arange(1, 7),
        image_sizes=np.full((6, 2), 200),
        category_ids=np.array(CATEGORIES),
        category_names=("a", "b", "c", "d"),
        images=images,
        categories=categories,
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        crowd=np.zeros(truths, bool) if federated else rng.random(truths) < 0.15,
        segmentations=None,
        negatives=[[9], [], [8], [], [3], []] if federated else None,
        not_exhaustive=[[], [3, 5], [], [8], [], []] if federated else None,
    )
    found = Detections(
        images=images[source],
        categories=np.where(rng.random(founds) < 0.2, rng.choice(CATEGORIES, founds), categories[source]),
        boxes=moved,
        scores=rng.permutation(founds) / founds,
    )
    return truth, found


def repeated(truth, found, weights):
    """The same with each image written down as often as its weight says, copies under new ids."""
    copies = [(image, 100 * image + i) for image, n in enumerate(weights.tolist(), start=1) for i in range(n)]
    rows = [(np.flatnonzero(truth.images == image), new) for image, new in copies]
    kept, kept_images = np.concatenate([r for r, _ in rows]), np.repeat([n for _, n in rows], [len(r) for r, _ in rows])
    lists = {}
    if truth.negatives is not None:
        for name in ("negatives", "not_exhaustive"):
            lists[name] = [getattr(truth, name)[image - 1] for image, _ in copies]
    many = GroundTruth(
        source="repeated",
        image_ids=np.array([new for _, new in copies]),
        image_sizes=np.full((len(copies), 2), 200),
        category_ids=truth.category_ids,
        category_names=truth.category_names,
        images=kept_images,
        categories=truth.categories[kept],
        boxes=truth.boxes[kept],
        areas=truth.areas[kept],
        crowd=truth.crowd[kept],
        segmentations=None,
        **lists,
    )
    rows = [(np.flatnonzero(found.images == image), new) for image, new in copies]
    kept, kept_images = np.concatenate([r for r, _ in rows]), np.repeat([n for _, n in rows], [len(r) for r, _ in rows])
    return many, Detections(kept_images, found.categories[kept], found.boxes[kept], found.scores[kept])


def plain_coco_ap(truth, found):
    """pycocotools as everybody calls it, [K]; NaN without ground truth."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": int(i)} for i in truth.image_ids],
        "categories": [{"id": i} for i in CATEGORIES],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": int(crowd)}
            for n, (i, c, b, crowd) in enumerate(
                zip(truth.images.tolist(), truth.categories.tolist(), truth.boxes.tolist(), truth.crowd, strict=True), 1
            )
        ],
    }
    columns = (found.images, found.categories, found.boxes, found.scores)
    results = [
        {"image_id": i, "category_id": c, "bbox": b, "score": s}
        for i, c, b, s in zip(*(column.tolist() for column in columns), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][..., 0, -1]
    ap = precision.mean(axis=(0, 1))
    return np.where(ap < 0, np.nan, ap), np.where(ap < 0, np.nan, precision[0].mean(axis=0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_are_as_good_as_repeated_images(seed):
    truth, found = small_case(seed)
    matches = match(truth, found, iou_type="bbox", protocol="coco", max_detections=100)
    weights = image_weights(6, 12, seed=seed)
    ours = weighted_class_ap(matches, weights)
    for b, row in enumerate(weights):
        ap, ap50 = plain_coco_ap(*repeated(truth, found, row))
        np.testing.assert_allclose(ours.ap[b], ap, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.ap50[b], ap50, rtol=0, atol=1e-12)
    assert matches.ignored.any()
    # resamples differ, and some draw no image of a class
    assert len(np.unique(ours.ap[:, 0])) > 6
    assert np.isnan(ours.ap[:, 2]).any()


def test_weights_are_as_good_as_repeated_images_by_lvis():
    truth, found = small_case(3, federated=True)
    matches = match(truth, found, iou_type="bbox", protocol="lvis", max_detections=15)
    weights = image_weights(6, 8, seed=3)
    ours = weighted_class_ap(matches, weights)
    for b, row in enumerate(weights):
        many, all_found = repeated(truth, found, row)
        theirs = evaluate(many, all_found, iou_type="bbox", protocol="lvis", engine="official", max_detections=15)
        np.testing.assert_allclose(ours.ap[b], theirs.class_ap(), rtol=0, atol=1e-12)


def test_one_of_each_image_is_the_set_itself_and_twice_each_is_too():
    truth, found = small_case(4)
    matches = match(truth, found, iou_type="bbox", protocol="coco", max_detections=100)
    once = class_ap(matches)
    twice = weighted_class_ap(matches, np.full((3, 6), 2, np.int32))
    np.testing.assert_allclose(once.ap[0], evaluate(truth, found, iou_type="bbox").class_ap(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(twice.ap, np.repeat(once.ap, 3, axis=0), rtol=0, atol=1e-12)


def test_memory_blocks_change_nothing(monkeypatch):
    truth, found = small_case(5)
    matches = match(truth, found, iou_type="bbox", protocol="coco", max_detections=100)
    weights = image_weights(6, 50, seed=0)
    whole = weighted_class_ap(matches, weights)
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    parts = weighted_class_ap(matches, weights)
    np.testing.assert_array_equal(whole.ap, parts.ap)
    np.testing.assert_array_equal(whole.ap50, parts.ap50)


def test_image_weights():
    weights = image_weights(40, 300, seed=7)
    assert weights.shape == (300, 40)
    assert (weights.sum(axis=1) == 40).all()
    np.testing.assert_array_equal(weights, image_weights(40, 300, seed=7))
    assert (weights != image_weights(40, 300, seed=8)).any()
    # an image is left out of a resample with probability (1 - 1/40)^40 = 0.363
    assert (weights == 0).mean() == pytest.approx(0.363, abs=0.02)
    assert weights.var() == pytest.approx(1 - 1 / 40, abs=0.05)


@pytest.mark.parametrize(("images", "resamples"), [(0, 5), (5, 0)])
def test_nothing_to_draw(images, resamples):
    with pytest.raises(ValueError, match="at least 1 image and 1 resample"):
        image_weights(images, resamples, seed=0)


def test_weights_of_another_set():
    truth, found = small_case(0)
    matches = match(truth, found, iou_type="bbox", protocol="coco", max_detections=100)
    with pytest.raises(ValueError, match=r"must be \[B, 6\], got \[2, 5\]"):
        weighted_class_ap(matches, np.ones((2, 5), np.int32))


def test_recall_points_are_compared_as_the_evaluators_compare():
    points = np.linspace(0.0, 1.0, 101)
    for instances in range(1, 260):
        recall = np.arange(instances + 1) / instances
        np.testing.assert_array_equal(bootstrap._points_reached(recall), np.searchsorted(points, recall, side="right"))


def test_means_leave_out_what_was_not_measured():
    values = np.array([[0.5, np.nan, 0.1], [np.nan, np.nan, 0.3]])
    np.testing.assert_allclose(mean_ap(values, np.array([True, True, True])), [0.3, 0.3])
    np.testing.assert_allclose(mean_ap(values, np.array([True, True, False])), [0.5, np.nan])
    assert np.isnan(mean_ap(values, np.zeros(3, bool))).all()


def test_percentile_interval():
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.append(np.arange(101.0), np.nan), level=0.9) == pytest.approx((5, 95))
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def simulated_pair(rng, images, better):
    """Two systems on fresh images of one kind: 4 classes of falling size; the second finds more by ``better``."""
    columns, truths = ([], []), []
    for k, expected in enumerate([90, 60, 30, 15]):
        owner = np.repeat(np.arange(images), rng.poisson(expected / images, images))
        place, count = np.unique(owner, return_counts=True)
        truths.append((np.full(len(place), k), place, count))
        hardness = rng.normal(0, 1, len(owner)) + rng.normal(0, 0.5, images)[owner]
        wrong, wrong_score = rng.integers(0, images, 2 * expected), rng.normal(-1, 1, 2 * expected)
        for skill, column in zip((0.5, 0.5 + better), columns, strict=True):
            score = skill - hardness + rng.normal(0, 0.5, len(owner))
            reached = np.arange(10)[:, None] < rng.integers(3, 11, len(owner))
            scores = np.concatenate([score[score > -0.8], wrong_score + rng.normal(0, 0.5, len(wrong))])
            hits = np.concatenate([reached[:, score > -0.8], np.zeros((10, len(wrong)), bool)], axis=1)
            order = np.argsort(-scores)
            where = np.concatenate([owner[score > -0.8], wrong])[order]
            column.append((np.full(len(order), k), where, scores[order], hits[:, order]))
    truth = [np.concatenate(part) for part in zip(*truths, strict=True)]
    for column in columns:
        k, where, scores, hits = (np.concatenate(part, axis=-1) for part in zip(*column, strict=True))
        yield Matches(
            iou_type="bbox",
            protocol="coco",
            max_detections=100,
            image_ids=np.arange(images),
            category_ids=np.arange(4),
            category_names=tuple("abcd"),
            categories=k,
            images=where,
            scores=scores,
            hits=hits,
            ignored=np.zeros_like(hits),
            truth_categories=truth[0],
            truth_images=truth[1],
            truth_counts=truth[2],
        )


@pytest.mark.parametrize("better", [0.4, pytest.param(0.0, marks=pytest.mark.slow)])
def test_intervals_hold_the_true_difference_about_as_often_as_they_say(better):
    """Images are drawn anew 60 times: 95 % intervals of the difference of AP hold its expected value."""
    rng = np.random.default_rng(0)
    everything = np.ones(4, bool)
    differences, intervals = [], []
    for trial in range(60):
        first, second = simulated_pair(rng, 120, better)
        weights = image_weights(120, 150, seed=trial)
        one, two = (mean_ap(class_ap(system).ap, everything)[0] for system in (first, second))
        draws = [mean_ap(weighted_class_ap(system, weights).ap, everything) for system in (first, second)]
        differences.append(two - one)
        intervals.append(percentile_interval(draws[1] - draws[0]))
    low, high = np.array(intervals).T
    expected = np.mean(differences)
    assert abs(expected) < 0.01 if better == 0 else expected > 0.02
    assert 0.88 <= ((low <= expected) & (expected <= high)).mean() <= 1
    # as wide as the spread over fresh images calls for: about four standard deviations
    assert (high - low).mean() == pytest.approx(3.92 * np.std(differences), rel=0.3)
