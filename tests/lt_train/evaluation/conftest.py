"""The systems that are compared."""

import pytest

from lt_train.evaluation import load_ground_truth
from lt_train.evaluation.comparison.differences import System, compare_systems
from tests.lt_train.evaluation.compared import GROUPS, matched, predictions


@pytest.fixture(scope="module")
def truth():
    """40 images; category 1 in all, 2 in half, 7 in four of them, 9 in none."""
    annotations = []
    for image in range(1, 41):
        for category in [1, 1, *([2] * (image % 2)), *([7] * (image % 10 == 0))]:
            n = len(annotations)
            box = [10 + 37 * n % 60, 5 + 53 * n % 70, 20 + n % 30, 25 + n % 20]
            annotations.append(
                {"id": n + 1, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            )
    return {
        "images": [{"id": i, "height": 200, "width": 200} for i in range(1, 41)],
        "categories": [{"id": 7, "name": "seven, rare"}, *({"id": i, "name": f"c{i}"} for i in (1, 2, 9))],
        "annotations": annotations,
    }


@pytest.fixture(scope="module")
def results(truth):
    """The second finds class 2 far better; class 1 differs by chance."""
    return {
        "base": predictions(truth, {1: 0.7, 2: 0.4, 7: 0.3}),
        "other": predictions(truth, {1: 0.7, 2: 0.95, 7: 1}, seed=1),
    }


@pytest.fixture(scope="module")
def systems(truth, results):
    ground_truth = load_ground_truth(truth, masks=False)
    return [System(name, {"bbox": matched(ground_truth, found)}) for name, found in results.items()]


@pytest.fixture(scope="module")
def comparison(systems):
    return compare_systems(systems, groups=GROUPS, resamples=200, seed=3)
