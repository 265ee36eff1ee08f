import math

import pytest

from lt_data.errors import DataError
from lt_train.evaluation import check_results, evaluate_coco

TRUTH = {
    "images": [{"id": 1, "height": 20, "width": 30}, {"id": 2, "height": 20, "width": 30}],
    "categories": [{"id": 4, "name": "cat"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 4,
            "bbox": [0, 0, 5, 5],
            "area": 25,
            "segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]],
        }
    ],
}


def prediction(**changes):
    good = {"image_id": 1, "category_id": 4, "bbox": [1.0, 1, 4, 4], "score": 0.5}
    good["segmentation"] = {"size": [20, 30], "counts": [100, 5, 495]}
    return {**good, **changes}


def problems(*predictions, iou_types=("bbox",)):
    with pytest.raises(DataError) as caught:
        check_results(list(predictions), TRUTH, iou_types=iou_types)
    return caught.value.problems


def test_good_results_pass():
    check_results([prediction()], TRUTH, iou_types=("bbox", "segm"))
    check_results([], TRUTH)


def test_unknown_images_and_categories_are_counted_with_examples():
    wrong = [prediction(image_id=i) for i in (7, 8, 8, 9, 10)] + [prediction(category_id=1), prediction()]
    image, category = problems(*wrong)
    assert "5 of 7 predictions name an image that annotations does not list: image_id (7, 8, 9)" in image
    assert "1 of 7 predictions name a category that annotations lacks: category_id (1)" in category
    assert "dataset ids" in category


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_that_are_no_numbers(score):
    assert "1 of 2 predictions have no finite score" in problems(prediction(score=score), prediction())[0]


@pytest.mark.parametrize("box", [[0, 0, math.nan, 3], [math.inf, 0, 3, 3], [5, 5, -1, 3]])
def test_boxes_without_a_size(box):
    assert "not finite or of negative size" in problems(prediction(bbox=box))[0]


@pytest.mark.parametrize(
    "mask", [{"size": [30, 20], "counts": "00"}, {"size": [20, 30]}, {"counts": "00"}, {"size": 5, "counts": "00"}]
)
def test_masks_of_another_size(mask):
    assert "no RLE of the size of its image" in problems(prediction(segmentation=mask), iou_types=["segm"])[0]


@pytest.mark.parametrize("field", ["image_id", "category_id", "score", "bbox"])
def test_a_missing_field_is_named_with_its_record(field):
    record = prediction()
    del record[field]
    (line,) = problems(prediction(), record)
    assert f"missing required field `{field}`" in line
    assert "$[1]" in line


def test_a_box_of_three_numbers_and_an_alien_type():
    assert "$[0].bbox" in problems(prediction(bbox=[1, 2, 3]))[0]
    assert "complex" in problems(prediction(score=1j))[0]


def test_evaluation_checks_by_itself():
    with pytest.raises(DataError, match="name an image"):
        evaluate_coco(TRUTH, [prediction(image_id=9)], iou_type="bbox")


def test_run_lengths_as_a_list_are_read():
    """The same mask as a list of runs and compressed: equal AP."""
    exact = {"size": [20, 30], "counts": [0, 5, 15, 5, 15, 5, 15, 5, 15, 5, 515]}
    evaluation = evaluate_coco(TRUTH, [prediction(segmentation=exact)], iou_type="segm", engine="fast")
    assert evaluation.class_ap()[0] == pytest.approx(1)
