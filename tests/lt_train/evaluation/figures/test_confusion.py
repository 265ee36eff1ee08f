"""What objects are taken for: counted by hand, against a plain loop, and by the rules of LVIS."""

import csv
import io

import numpy as np
import pytest

from lt_data.groups import Group
from lt_train.evaluation import load_ground_truth
from lt_train.evaluation.figures.confusion import (
    Confusion,
    confusion_csv,
    confusion_groups_csv,
    confusion_of,
)
from lt_train.evaluation.figures.overlaps import match_greedily
from lt_train.evaluation.predictions.columns import Detections

GROUPS = (Group("(0, 10)", 0, 10, (7,)), Group("[10, ~)", 10, None, (1, 2)))


def truth_of(*objects, lists=None, crowd=()):
    """Objects as (image, category, x); 10 pixels wide and high."""
    rows = [
        {"id": n + 1, "image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], "area": 100}
        | {"iscrowd": int(n in crowd)}
        for n, (image, category, x) in enumerate(objects)
    ]
    images = [{"id": i, "width": 200, "height": 50} | (lists or {}).get(i, {}) for i in (3, 4)]
    categories = [{"id": i, "name": f"c{i}"} for i in (7, 1, 2)]
    return load_ground_truth({"images": images, "categories": categories, "annotations": rows}, masks=False)


def found(*detections):
    """Detections as (image, category, x, score), as large as objects."""
    images, categories, x, scores = (np.array(column) for column in zip(*detections, strict=True))
    boxes = np.stack([x, np.zeros(len(x)), np.full(len(x), 10.0), np.full(len(x), 10.0)], 1)
    return Detections(images, categories, boxes.astype(float), scores)


def cells(confusion: Confusion):
    """Counts by true and predicted category id; None is the background."""
    ids = [*confusion.category_ids.tolist(), None]
    rows = zip(confusion.true.tolist(), confusion.predicted.tolist(), confusion.counts.tolist(), strict=True)
    return {(ids[true], ids[predicted]): count for true, predicted, count in rows}


def test_every_object_and_every_detection_above_the_score_counts_once():
    truth = truth_of((3, 1, 0), (3, 2, 20), (3, 7, 40), (4, 7, 60), (4, 1, 100))
    detections = found(
        (3, 1, 1, 0.9),  # right
        (3, 1, 2, 0.8),  # the same object again: of nothing
        (3, 1, 21, 0.7),  # 2 taken for 1
        (3, 2, 20, 0.6),  # comes too late, though it fits better
        (4, 7, 63, 0.5),  # right: IoU 7 / 13
        (4, 2, 104, 0.5),  # IoU 6 / 14: of nothing, and 1 is missed
        (3, 7, 40, 0.3),  # not above the score: 7 is missed
        (4, 1, 0, 0.9),  # of an object in another image: of nothing
    )
    confusion = confusion_of(truth, detections, protocol="coco", groups=GROUPS)
    assert cells(confusion) == {
        (1, 1): 1, (2, 1): 1, (7, 7): 1, (7, None): 1, (1, None): 1,
        (None, 1): 2, (None, 2): 2,
    }  # fmt: skip
    assert sum(cells(confusion).values()) == 5 + 4
    assert confusion_csv(confusion).splitlines()[:3] == [
        "true_id,true_name,true_group,predicted_id,predicted_name,predicted_group,count,score_above",
        '1,c1,"[10, ~)",1,c1,"[10, ~)",1,0.3',
        '1,c1,"[10, ~)",,background,background,1,0.3',
    ]
    rows = list(csv.DictReader(io.StringIO(confusion_groups_csv(confusion))))
    table = {(r["true_group"], r["predicted_group"]): (int(r["count"]), int(r["same_category"])) for r in rows}
    assert table == {
        ("(0, 10)", "(0, 10)"): (1, 1), ("(0, 10)", "[10, ~)"): (0, 0), ("(0, 10)", "background"): (1, 0),
        ("[10, ~)", "(0, 10)"): (0, 0), ("[10, ~)", "[10, ~)"): (2, 1), ("[10, ~)", "background"): (1, 0),
        ("background", "(0, 10)"): (0, 0), ("background", "[10, ~)"): (4, 0),
    }  # fmt: skip


def test_crowds_are_no_objects_and_take_away_nothing_but_their_own_category():
    truth = truth_of((3, 1, 0), (3, 2, 50), crowd=(0,))
    detections = found((3, 1, 2, 0.9), (3, 1, 4, 0.8), (3, 2, 2, 0.7), (3, 1, 8, 0.6))
    # the second category is no crowd there, and the last detection lies in the crowd by a fifth
    assert cells(confusion_of(truth, detections, protocol="coco")) == {(None, 1): 1, (None, 2): 1, (2, None): 1}


def test_lvis_counts_only_what_was_looked_for():
    lists = {
        3: {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]},
        4: {"neg_category_ids": [], "not_exhaustive_category_ids": []},
    }
    truth = truth_of((3, 1, 0), (4, 1, 0), lists=lists)
    detections = found(
        (3, 1, 0, 0.9),  # right
        (3, 1, 50, 0.9),  # of nothing, and not exhaustive there: counts nowhere
        (3, 2, 70, 0.9),  # certainly not there
        (3, 7, 90, 0.9),  # nobody looked for it
        (4, 7, 0, 0.9),  # likewise, though it lies on an object
        (4, 1, 50, 0.9),  # of nothing
    )
    counted = {(1, 1): 1, (None, 2): 1, (None, 1): 1, (1, None): 1}
    assert cells(confusion_of(truth, detections, protocol="lvis")) == counted


def test_nothing_found_and_nothing_there():
    truth = truth_of((3, 1, 0))
    none = found((3, 1, 0, 0.1))
    assert cells(confusion_of(truth, none, protocol="coco")) == {(1, None): 1}
    assert cells(confusion_of(truth_of(), none, protocol="coco")) == {}


@pytest.mark.parametrize("seed", [0, 1])
def test_matches_are_those_of_a_plain_loop(monkeypatch, seed):
    monkeypatch.setattr("lt_train.evaluation.figures.overlaps._PAIRS", 50)
    rng = np.random.default_rng(seed)

    def drawn(number):
        boxes = np.concatenate([rng.integers(0, 5, (number, 2)), rng.integers(0, 9, (number, 2))], 1)
        return rng.integers(0, 5, number), boxes.astype(float)

    (images, boxes), (places, objects) = drawn(120), drawn(60)
    scores = rng.integers(0, 10, 120) / 10
    expected, free = np.full(120, -1), set(range(60))
    for d in np.argsort(-scores, kind="stable"):
        best = 0.5
        for o in range(60):
            w, h = (
                min(boxes[d, i] + boxes[d, i + 2], objects[o, i] + objects[o, i + 2]) - max(boxes[d, i], objects[o, i])
                for i in (0, 1)
            )
            inter = max(w, 0) * max(h, 0)
            union = boxes[d, 2] * boxes[d, 3] + objects[o, 2] * objects[o, 3] - inter
            iou = inter / union if union else 0
            if o in free and places[o] == images[d] and iou >= best and (iou > best or expected[d] < 0):
                best, expected[d] = iou, o
        free.discard(expected[d])
    taken = match_greedily(images, boxes, scores, places, objects)
    assert taken.tolist() == expected.tolist()
    assert (taken >= 0).sum() > 10
