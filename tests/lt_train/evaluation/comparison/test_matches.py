import gc

import numpy as np
import pytest
from pycocotools import mask as rle

from lt_train.evaluation import Detections, GroundTruth
from lt_train.evaluation.comparison import matches
from lt_train.evaluation.comparison.bootstrap import class_ap
from lt_train.evaluation.comparison.matches import match
from lt_train.evaluation.figures.average_precision import evaluate

SIZE = 220
LIMITS = {"coco": 100, "lvis": 300}


def boxes_as_masks(boxes, encode):
    x, y, w, h = boxes.T
    polygons = np.stack([x, y, x, y + h, x + w, y + h, x + w, y], axis=1).tolist()
    if not encode:
        return [[polygon] for polygon in polygons]
    masks = [rle.frPyObjects([polygon], SIZE, SIZE)[0] for polygon in polygons]
    return [{"size": [SIZE, SIZE], "counts": mask["counts"].decode()} for mask in masks]


def random_case(seed, protocol):
    """Tied scores, crowds (or LVIS lists), an empty image, category 9 without ground truth, more than the limit."""
    rng = np.random.default_rng(seed)
    truths, founds = 90, 900
    image_ids, category_ids = np.array([2, 3, 5, 8, 13, 21, 34]), np.array([1, 4, 6, 9])
    images, categories = rng.choice(image_ids[:-1], truths), rng.choice(category_ids[:-1], truths)
    boxes = np.concatenate([rng.integers(0, 90, (truths, 2)), rng.integers(8, 120, (truths, 2))], axis=1).astype(float)
    source = np.concatenate([rng.integers(0, truths, founds), np.full(150, np.flatnonzero(images == 2)[0])])
    moved = boxes[source] + rng.integers(-7, 8, (len(source), 4)) * (rng.random((len(source), 1)) < 0.8)
    moved = np.concatenate([moved[:, :2].clip(0), moved[:, 2:].clip(1)], axis=1)
    other = rng.random(len(source)) < 0.2
    found_categories = np.where(other, rng.choice(category_ids, len(source)), categories[source])
    federated = protocol == "lvis"
    truth = GroundTruth(
        source="random",
        image_ids=image_ids,
        image_sizes=np.full((len(image_ids), 2), SIZE),
        category_ids=category_ids,
        category_names=("a", "b", "c", "d"),
        images=images,
        categories=categories,
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        crowd=np.zeros(truths, bool) if federated else rng.random(truths) < 0.15,
        segmentations=boxes_as_masks(boxes, encode=False),
        negatives=[[9], [], [9, 4], [], [], [1], [6]] if federated else None,
        not_exhaustive=[[1], [4], [], [6, 1], [], [], []] if federated else None,
    )
    found = Detections(
        images=images[source],
        categories=found_categories,
        boxes=moved,
        scores=rng.integers(1, 30, len(source)) / 30,
        segmentations=boxes_as_masks(moved, encode=True),
    )
    # none twice, which the evaluation refuses
    columns = np.column_stack([found.images, found.categories, found.boxes, found.scores])
    once = np.zeros(len(found), bool)
    once[np.unique(columns, axis=0, return_index=True)[1]] = True
    return truth, found.take(once)


def matched(truth, found, *, iou_type="bbox", protocol="coco", engine="fast", limit=None):
    limit = limit or LIMITS[protocol]
    return match(truth, found, iou_type=iou_type, protocol=protocol, max_detections=limit, engine=engine)


@pytest.mark.parametrize("engine", ["fast", "official"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("protocol", ["coco", "lvis"])
@pytest.mark.parametrize("limit", [None, 40])
def test_ap_from_matches_is_that_of_the_evaluators(protocol, iou_type, engine, limit):
    truth, found = random_case(0 if limit else 1, protocol)
    ours = matched(truth, found, iou_type=iou_type, protocol=protocol, engine=engine, limit=limit)
    theirs = evaluate(truth, found, iou_type=iou_type, protocol=protocol, engine=engine, max_detections=limit)
    ap = class_ap(ours)
    np.testing.assert_allclose(ap.ap[0], theirs.class_ap(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ap.ap50[0], theirs.class_ap(iou=0.5), rtol=0, atol=1e-12)
    assert np.isnan(ap.ap[0]).tolist() == [False, False, False, True]
    assert 0.02 < np.nanmin(ap.ap50) < 1
    # the case is one in which the limit and what is ignored matter
    assert len(ours.scores) < len(found)
    assert ours.ignored.any()
    assert ours.hits[0].sum() > ours.hits[-1].sum() > 0


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("protocol", ["coco", "lvis"])
def test_engines_give_the_same_matches(protocol, iou_type):
    truth, found = random_case(2, protocol)
    fast, official = (
        matched(truth, found, iou_type=iou_type, protocol=protocol, engine=engine) for engine in ("fast", "official")
    )
    for name in vars(fast):
        np.testing.assert_array_equal(getattr(fast, name), getattr(official, name), err_msg=name)


@pytest.mark.parametrize("engine", ["fast", "official"])
def test_hand_made(engine):
    """A hit at every threshold, one up to .60, a miss, one in a crowd, in two images."""
    boxes = np.array([[0, 0, 50, 50], [0, 0, 100, 100], [100, 0, 90, 90]], float)
    truth = GroundTruth(
        source="hand",
        image_ids=np.array([3, 7]),
        image_sizes=np.full((2, 2), SIZE),
        category_ids=np.array([2, 5]),
        category_names=("x", "y"),
        images=np.array([3, 7, 7]),
        categories=np.array([5, 5, 5]),
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        crowd=np.array([False, False, True]),
        segmentations=None,
    )
    found = Detections(
        images=np.array([7, 7, 3, 3, 7]),
        categories=np.array([5, 5, 5, 5, 2]),
        boxes=np.array([[110, 10, 60, 60], [0, 0, 100, 62], [0, 0, 50, 50], [150, 150, 9, 9], [0, 0, 9, 9]], float),
        scores=np.array([0.2, 0.5, 0.9, 0.6, 0.7]),
    )
    ours = matched(truth, found, engine=engine)
    assert ours.categories.tolist() == [0, 1, 1, 1, 1]
    assert ours.images.tolist() == [1, 0, 0, 1, 1]
    assert ours.scores.tolist() == [0.7, 0.9, 0.6, 0.5, 0.2]
    assert ours.hits.sum(axis=0).tolist() == [0, 10, 0, 3, 0]
    assert ours.hits[:3].all(axis=0).tolist() == [False, True, False, True, False]
    assert ours.ignored.sum(axis=0).tolist() == [0, 0, 0, 0, 10]
    assert [part.tolist() for part in ours.truth_of(1)] == [[0, 1], [1, 1]]
    assert [part.tolist() for part in ours.truth_of(0)] == [[], []]
    second = ours.detections_of(1)
    assert second.images.tolist() == [0, 0, 1, 1]
    assert second.hits.shape == second.ignored.shape == (10, 4)


@pytest.mark.parametrize("engine", ["fast", "official"])
@pytest.mark.parametrize("protocol", ["coco", "lvis"])
def test_matching_some_categories_at_a_time_changes_nothing(protocol, engine, monkeypatch):
    truth, found = random_case(3, protocol)
    whole = matched(truth, found, protocol=protocol, engine=engine)
    monkeypatch.setattr(matches, "_CHUNK", 50)
    assert len(matches._chunks(truth, found)) > 2
    parts = matched(truth, found, protocol=protocol, engine=engine)
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name), err_msg=name)


@pytest.mark.parametrize("engine", ["fast", "official"])
@pytest.mark.parametrize("protocol", ["coco", "lvis"])
def test_no_detections(protocol, engine):
    truth, found = random_case(4, protocol)
    ours = matched(truth, found.take(np.zeros(len(found), bool)), protocol=protocol, engine=engine)
    assert ours.hits.shape == (10, 0)
    assert class_ap(ours).ap[0, :3].tolist() == [0, 0, 0]
    assert ours.truth_counts.sum() == (~truth.crowd).sum()


def test_garbage_is_collected_again_afterwards(capfd):
    truth, found = random_case(5, "coco")
    assert gc.isenabled()
    matched(truth, found, engine="official")
    assert gc.isenabled()
    assert capfd.readouterr() == ("", "")
