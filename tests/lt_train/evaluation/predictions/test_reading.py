import gzip
import json
import math

import numpy as np
import pytest

from lt_data.errors import DataError
from lt_train.evaluation import Detections, check_results, load_ground_truth, read_detections
from lt_train.evaluation.figures.average_precision import evaluate

TRUTH = {
    "images": [{"id": 1, "height": 20, "width": 30}, {"id": 2, "height": 20, "width": 30}],
    "categories": [{"id": i, "name": f"c{i}"} for i in (4, 7, 9)],
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
MASK = {"size": [20, 30], "counts": [100, 5, 495]}


def prediction(**changes):
    good = {"image_id": 1, "category_id": 4, "bbox": [1.0, 1, 4, 4], "score": 0.5, "segmentation": MASK}
    return {**good, **changes}


def spread(records):
    """The same with different scores, so that none repeats another."""
    return [{**record, "score": (i + 1) / 100} for i, record in enumerate(records)]


def problems(*predictions, iou_types=("bbox",)):
    with pytest.raises(DataError) as caught:
        check_results(list(predictions), TRUTH, iou_types=iou_types)
    return caught.value.problems


def skipped(predictions, **options):
    detections = read_detections(predictions, load_ground_truth(TRUTH, masks=False), skip_invalid=True, **options)
    return len(detections), {problem.kind: problem.count for problem in detections.skipped}


def test_good_results_pass():
    check_results([prediction()], TRUTH, iou_types=("bbox", "segm"))
    check_results([], TRUTH)


def test_unknown_images_and_categories_are_counted_with_examples():
    wrong = spread([prediction(image_id=i) for i in (7, 8, 8, 9, 10)] + [prediction(category_id=55), prediction()])
    image, category = problems(*wrong)
    assert "5 of 7 predictions name an image that annotations does not list: image_id (7, 8, 9)" in image
    assert "1 of 7 predictions name a category that annotations lacks: category_id (55)" in category
    assert "look like labels" not in category


@pytest.mark.parametrize(("labels", "said"), [((0, 1, 2), "0..2"), ((1, 2, 3), "1..3"), ((3,), "1..3")])
def test_labels_of_a_model_are_recognised(labels, said):
    (line,) = problems(*(prediction(category_id=label) for label in labels))
    assert f"all ids lie in {said}, so they look like labels; write dataset ids" in line


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.5])
def test_scores_that_are_none(score):
    (line,) = problems(prediction(score=score), prediction())
    assert f"1 of 2 predictions have a score outside 0..1 ({score})" in line


@pytest.mark.parametrize("box", [[0, 0, math.nan, 3], [math.inf, 0, 3, 3], [5, 5, -1, 3], [5, 5, 3, -0.5]])
def test_boxes_without_a_size(box):
    assert "1 of 1 predictions have a box that is not finite or of negative size" in problems(prediction(bbox=box))[0]


def test_masks_of_another_size():
    turned = {**MASK, "size": [30, 20]}
    (line,) = problems(prediction(segmentation=turned), prediction(), iou_types=["segm"])
    assert "1 of 2 predictions have a mask of another size than their image: size ([30, 20])" in line


@pytest.mark.parametrize(
    "counts",
    [
        *("", "é0", "PPP", "00", "zzz~", [600, -5, 5], [1, 2], [0.5, 599.5], "text", 5, None, b"\xff"),
        *("0" * 7, "hb0 ", "oooooooooo0"),
    ],
)
def test_masks_that_cannot_be_read(counts):
    bad = prediction(segmentation={"size": [20, 30], "counts": counts}, image_id=2)
    (line,) = problems(bad, prediction(), iou_types=["segm"])
    assert "1 of 2 predictions have a mask whose counts cannot be read: image_id (2)" in line


@pytest.mark.parametrize(
    "mask", [{"size": [20, 30]}, {"counts": "00"}, {"size": 5, "counts": "00"}, [1, 1, 5, 5, 5, 1], [], [["1"]]]
)
def test_what_is_no_mask(mask):
    (line,) = problems(prediction(segmentation=mask), prediction(), iou_types=["segm"])
    assert "1 of 2 predictions are no COCO results ([0]: " in line
    assert "segmentation (RLE or polygons)" in line


@pytest.mark.parametrize("field", ["image_id", "category_id", "score", "bbox"])
def test_a_missing_field_is_named_with_its_record(field):
    record = prediction()
    del record[field]
    (line,) = problems(prediction(), record)
    assert f"1 of 2 predictions are no COCO results ([1]: Object missing required field `{field}`" in line


def test_values_of_other_types():
    wrong = [prediction(bbox=[1, 2, 3]), prediction(score=1j), prediction(image_id=[1]), prediction(), 5]
    (line,) = problems(*wrong)
    assert "4 of 5 predictions" in line
    assert "[0]: Array of length 4 expected, got 3" in line.replace(
        "Expected `array` of length 4", "Array of length 4 expected"
    )
    assert "complex" in line


def test_repeated_records():
    box = [prediction(), prediction(score=0.25), prediction(), prediction(bbox=[1.0, 1, 4, 5])]
    (line,) = problems(*box)
    assert "1 of 4 predictions repeat an earlier one exactly: image_id (1)" in line
    other = {"size": [20, 30], "counts": [101, 5, 494]}
    check_results([prediction(), prediction(segmentation=other)], TRUTH, iou_types=["segm"])
    assert len(problems(prediction(), prediction(segmentation=other))) == 1
    check_results([prediction(), prediction(segmentation=other)], TRUTH, iou_types=["bbox", "segm"])


def everything_wrong():
    small = {"size": [30, 20], "counts": "00"}
    return [
        *spread([prediction(), prediction(image_id=5), prediction(category_id=50)]),
        *(prediction(score=2), prediction(bbox=[1, 1, -1, 1]), prediction(segmentation=small)),
        *(prediction(segmentation={"size": [20, 30], "counts": "00"}, score=0.75), {"image_id": 1}),
        *(prediction(score=0.875), prediction(score=0.875), prediction(image_id=6, score=-1)),
    ]


KINDS = {"record": 1, "image": 2, "category": 1, "score": 2, "box": 1, "mask_size": 1, "mask": 1, "duplicate": 1}


def test_all_kinds_at_once_and_exactly_these_are_left_out():
    lines = problems(*everything_wrong(), iou_types=("bbox", "segm"))
    assert len(lines) == len(KINDS)
    assert all(line.startswith("predictions: ") and "\n" not in line for line in lines)
    assert skipped(everything_wrong(), iou_types=("bbox", "segm")) == (2, KINDS)


def test_from_a_file_with_nan_as_python_writes_it(tmp_path):
    path = tmp_path / "r.json"
    wrong = [*everything_wrong(), prediction(score=math.nan), prediction(bbox=[math.nan] * 4, score=0.3)]
    path.write_text(json.dumps(wrong), encoding="utf-8")
    assert skipped(path) == (2, {**KINDS, "score": 3, "box": 2})
    with pytest.raises(
        DataError, match=r"^r\.json: 3 of 13 predictions have a score outside 0\.\.1 \(2\.0, -1\.0, nan\)"
    ):
        raise DataError([p.line for p in read_skipping(path) if p.kind == "score"])


def read_skipping(path):
    return read_detections(path, load_ground_truth(TRUTH, masks=False), skip_invalid=True).skipped


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"[{", "cut off; fetch it again"),
        (b"[}", "not JSON"),
        (b"\xff\xfe\x00", "byte-order mark"),
        (b'{"images": [], "annotations": []}', "an annotation file, not predictions"),
        (b'{"a": 1}', "a JSON object with 'a'"),
        (b"3", "a JSON value of type int"),
        (b"[]", "holds no predictions at all"),
        (b"[1, 2]", "2 of 2 predictions are no COCO results"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_files_of_another_kind(content, said, tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^r\.json: ") as caught:
        check_results(path, TRUTH)
    assert said in caught.value.problems[0]
    assert len(caught.value.problems) == 1


def test_missing_and_packed_files(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        check_results(tmp_path / "absent.json", TRUTH)
    with gzip.open(tmp_path / "r.json.gz", "wt") as handle:
        json.dump([prediction()], handle)
    check_results(tmp_path / "r.json.gz", TRUTH)


@pytest.mark.parametrize("skip_invalid", [False, True])
def test_an_empty_file_is_refused_but_a_model_may_find_nothing(tmp_path, skip_invalid):
    path = tmp_path / "r.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"^r\.json: holds no predictions at all; .* AP is 0$"):
        evaluate(TRUTH, path, iou_type="bbox", skip_invalid=skip_invalid)
    assert evaluate(TRUTH, [], iou_type="bbox", skip_invalid=skip_invalid).class_ap()[0] == 0


@pytest.mark.parametrize("wrong", [prediction(image_id=9), {"image_id": 1}])
def test_nothing_is_measured_where_all_are_invalid(wrong):
    with pytest.raises(DataError) as caught:
        skipped(spread([wrong, wrong]))
    first, last = caught.value.problems
    assert "2 of 2 predictions" in first
    assert last.startswith("predictions: none of 2 predictions is left without the invalid ones")


@pytest.mark.parametrize(
    ("changes", "said", "fix"),
    [
        ({"score": "0.5"}, "[0], [1]: Expected `float`, got `str` - at `$.score`", "numbers without quotes"),
        ({"bbox": ["1", "2", "3", "4"]}, "[0], [1]: Expected `float`, got `str` - at", "numbers without quotes"),
        ({"segmentation": [{"size": [20, 30], "counts": "0"}]}, "[0], [1]: run lengths are one {size, counts}", "RLE"),
        ({"segmentation": [[[1, 2], [3, 4], [5, 6]]]}, "[0], [1]: points are not grouped: write [[x1, y1, x2", "RLE"),
        ({"segmentation": {"size": [20, 30], "counts": "b'0'"}}, "image_id (1)", "write rle['counts'].decode()"),
    ],
)
def test_slips_of_writers_are_named(changes, said, fix):
    records = [{**prediction(score=score), **changes} for score in (0.5, 0.25)]
    (line,) = problems(*records, iou_types=["segm" if "segmentation" in changes else "bbox"])
    assert said in line
    assert fix in line.partition("); ")[2]


@pytest.mark.parametrize("size", [[10**30, 5], [2**31, 2**31], [-1, 30], [20.5, 30], [1e300, 30]])
def test_sizes_of_masks_that_are_none(size):
    mask = {"size": size, "counts": "0"}
    wrong = spread([prediction(), prediction(segmentation=mask)])
    (line,) = problems(*wrong, iou_types=["segm"])
    assert "1 of 2 predictions are no COCO results ([1]: Expected `" in line
    assert skipped(wrong) == (1, {"record": 1})


def test_sizes_of_masks_may_be_whole_floats():
    mask = {"size": [20.0, 30.0], "counts": [100, 5, 495]}
    found = read_detections([prediction(segmentation=mask)], load_ground_truth(TRUTH, masks=False))
    assert str(found.segmentations[0]["size"]) == "(20, 30)"


@pytest.mark.parametrize("none", [[], None, [[]]])
def test_an_empty_segmentation_is_none(none, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps([prediction(segmentation=none)] * 1), encoding="utf-8")
    truth = load_ground_truth(TRUTH, masks=False)
    assert read_detections(path, truth).iou_types == ("bbox",)
    assert read_detections([prediction(segmentation=none)], truth).iou_types == ("bbox",)
    with pytest.raises(DataError, match=r"1 of 2 .*\[1\]: missing `segmentation`, which the first record has"):
        read_detections([prediction(), prediction(segmentation=none)], truth)


@pytest.mark.parametrize("iou_types", [None, ["segm"], ["bbox", "segm"]])
def test_polygons_become_run_lengths_of_their_image(iou_types, tmp_path):
    polygons = [[[1, 1, 5, 1, 5, 5, 1, 5]], [[1, 1, 5, 1, 5, 5, 1, 5], [10, 10, 13, 10, 13, 12, 10, 12]]]
    records = spread([prediction(), *(prediction(segmentation=mask) for mask in polygons)])
    truth = load_ground_truth(TRUTH, masks=False)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    for given in (records, path):
        found = read_detections(given, truth, iou_types=iou_types)
        assert found.mask_areas.tolist() == [5, 16, 16 + 6]
        assert [tuple(mask["size"]) for mask in found.segmentations] == [(20, 30)] * 3
        (note,) = found.notes
        assert "2 of 3 predictions have polygons for a mask; they become run lengths of the size" in note


def test_results_without_polygons_or_text_have_no_note():
    assert read_detections([prediction()], load_ground_truth(TRUTH, masks=False)).notes == ()


@pytest.mark.parametrize(
    "polygons", [[[1, 1, 5, 5]], [[1, 1, 5, 5, 5, 1, 2]], [[1, 1, 5, 5, 5, 1e9]], [[1, 1, 5, 1, 5, 5], []]]
)
def test_polygons_that_cannot_be_drawn_are_counted(polygons):
    wrong = spread([prediction(), prediction(segmentation=polygons, image_id=2)])
    (line,) = problems(*wrong, iou_types=["segm"])
    assert "1 of 2 predictions have polygons that cannot be encoded (image ids 2)" in line
    assert skipped(wrong) == (1, {"mask": 1})
    check_results(wrong, TRUTH, iou_types=["bbox"])


def test_polygons_of_an_unknown_image_are_told_once():
    polygon = prediction(segmentation=[[1, 1, 5, 1, 5, 5]], image_id=77)
    (line,) = problems(prediction(), polygon, iou_types=["segm"])
    assert "1 of 2 predictions name an image that annotations does not list: image_id (77)" in line


def test_polygons_need_the_size_of_their_image():
    truth = {**TRUTH, "images": [{"id": 1}, {"id": 2}]}
    with pytest.raises(DataError, match="2 of 2 images have no height and width"):
        check_results([prediction(segmentation=[[1, 1, 5, 1, 5, 5]])], truth, iou_types=["segm"])


def named(ids=(1, 2), names=("yard/a_1.jpg", "yard/000007.jpg")):
    images = [{**image, "id": i, "file_name": n} for image, i, n in zip(TRUTH["images"], ids, names, strict=True)]
    return {**TRUTH, "images": images, "annotations": [{**TRUTH["annotations"][0], "image_id": ids[0]}]}


@pytest.mark.parametrize("ids", [(1, 2), ("one", "two"), ("2", "1")])
@pytest.mark.parametrize("given", [("a_1", 7), ("a_1", "000007"), ("a_1.jpg", "yard/000007.jpg")])
def test_names_of_image_files_are_image_ids(ids, given):
    """ultralytics writes the name without its ending, as a number where it is one."""
    truth = load_ground_truth(named(ids), masks=False)
    records = spread([prediction(image_id=given[0]), prediction(image_id=given[1])])
    found = read_detections(records, truth, iou_types=("bbox",))
    assert found.images.tolist() == [1, 2]
    (note,) = found.notes
    assert "2 of 2 predictions have the name of an image file for image_id" in note


def test_a_number_beside_names_is_a_name_too():
    """Taken for an id, it would be another image."""
    truth = load_ground_truth(named((7, 3), ("a.jpg", "7.jpg")), masks=False)
    found = read_detections(spread([prediction(image_id="a"), prediction(image_id=7)]), truth, iou_types=("bbox",))
    assert found.images.tolist() == [7, 3]


def test_text_ids_of_the_annotations_come_before_names():
    truth = load_ground_truth(named(("b", "a"), ("a.jpg", "b.jpg")), masks=False)
    found = read_detections(spread([prediction(image_id=i) for i in "ab"]), truth, iou_types=("bbox",))
    assert found.images.tolist() == [2, 1]
    assert found.notes == ()


def read_images(ids, names, given):
    truth = load_ground_truth(named(ids, names), masks=False)
    found = read_detections(spread([prediction(image_id=i) for i in given]), truth, iou_types=("bbox",))
    return found.images.tolist(), found.notes, found.warnings


@pytest.mark.parametrize("ids", [("2", "1"), ("02", "01")])
def test_a_number_is_the_text_that_writes_it_not_a_place(ids):
    images, notes, warnings = read_images(ids, ("a.jpg", "b.jpg"), [1, 2])
    assert images == [2, 1]
    assert "2 of 2 predictions have numbers for image_id where annotations has text" in notes[0]
    assert warnings == ()


def test_a_text_is_the_number_that_it_writes_unless_it_is_a_name():
    images, notes, _ = read_images((1, 2), ("a.jpg", "b.jpg"), ["2", "1"])
    assert images == [2, 1]
    assert "2 of 2 predictions have text for image_id where annotations has numbers" in notes[0]
    images, notes, warnings = read_images((1, 2), ("2.jpg", "1.jpg"), ["2", "1"])
    assert images == [1, 2]
    assert "2 of 2 predictions have the name of an image file" in notes[0]
    assert "they are taken for names of files. If they are ids" in warnings[0]


@pytest.mark.parametrize("ids", [(1, 2), ("1", "2")])
def test_numbers_that_are_ids_and_names_of_other_images_are_ids_with_a_warning(ids):
    images, _, (line,) = read_images(ids, ("2.jpg", "1.jpg"), [2, 1])
    assert images == [2, 1]
    assert "image_id of 2 of 2 predictions is the id of one image of annotations and the file name of another" in line
    assert "they are taken for ids" in line
    # one reading fits all: nothing is in doubt
    assert read_images(ids, ("2.jpg", "9.jpg"), [2, 1])[2] == ()
    assert read_images(ids, ("1.jpg", "0002.jpg"), [2, 1])[2] == ()


def test_numbers_that_are_all_names_are_names_though_some_are_ids():
    images, notes, warnings = read_images((1, 2), ("2.jpg", "3.jpg"), [2, 3])
    assert images == [1, 2]
    assert "2 of 2 predictions have the name of an image file" in notes[0]
    assert warnings == ()


def test_numbers_that_are_all_names_and_no_ids_are_matched_by_name():
    truth = load_ground_truth(named((101, 102), ("000139.jpg", "000285.jpg")), masks=False)
    found = read_detections(spread([prediction(image_id=285), prediction(image_id=139)]), truth, iou_types=("bbox",))
    assert found.images.tolist() == [102, 101]
    assert "2 of 2 predictions have the name of an image file" in found.notes[0]
    mixed = spread([prediction(image_id=285), prediction(image_id=101)])
    with pytest.raises(DataError, match=r"1 of 2 predictions name an image .* \(285\)"):
        read_detections(mixed, truth, iou_types=("bbox",))


def test_a_name_that_two_images_share_is_no_image_id():
    truth = named((1, 2), ("a/x.jpg", "b/x.jpg"))
    with pytest.raises(DataError, match=r"1 of 2 predictions name an image .* \('x'\)"):
        check_results(spread([prediction(image_id="x"), prediction(image_id="a/x.jpg")]), truth)


def test_masks_that_only_later_records_have_are_not_dropped_in_silence():
    without = spread([prediction(segmentation=None), prediction(), prediction()])
    (line,) = problems(*without, iou_types=None)
    assert "2 of 3 predictions have a segmentation, which the first has not, so that it is not measured" in line
    assert skipped(without) == (3, {"mixed": 2})
    check_results(without, TRUTH, iou_types=["bbox"])
    masks = spread([prediction(), prediction()])
    del masks[0]["bbox"]
    (line,) = problems(*masks, iou_types=None)
    assert "1 of 2 predictions have a bbox, which the first has not" in line


def test_annotations_without_sizes_are_told_apart_from_wrong_masks():
    truth = {**TRUTH, "images": [{"id": 1}, {"id": 2, "height": 20, "width": 30}]}
    for measured in (
        lambda: evaluate(truth, [prediction()], iou_type="segm"),
        lambda: check_results([prediction()], truth, iou_types=["segm"]),
    ):
        with pytest.raises(DataError, match=r"^annotations: 1 of 2 images have no height and width; "):
            measured()
    check_results([prediction()], truth, iou_types=["bbox"])


def test_what_the_first_record_has_is_read():
    truth = load_ground_truth(TRUTH, masks=False)
    only_box, only_mask = prediction(), prediction()
    del only_box["segmentation"], only_mask["bbox"]
    assert read_detections([prediction()], truth).iou_types == ("bbox", "segm")
    assert read_detections([only_box], truth).segmentations is None
    masks = read_detections([only_mask], truth)
    assert masks.iou_types == ("segm",)
    assert np.isnan(masks.boxes).all()
    with pytest.raises(DataError, match=r"1 of 2 predictions are no COCO results \(\[1\]: missing `segmentation`"):
        read_detections([prediction(), only_box], truth)


def test_boxes_that_were_not_read_are_not_measured():
    masks = read_detections([prediction()], load_ground_truth(TRUTH, masks=False), iou_types=("segm",))
    with pytest.raises(DataError, match="have a box that is not finite"):
        evaluate(TRUTH, masks, iou_type="bbox")


def test_columns_instead_of_records():
    """Predictions that are in memory as arrays are checked and measured like the same records."""
    records = spread([prediction(), prediction(image_id=2), prediction(category_id=9)])
    columns = Detections(
        images=np.array([1, 2, 1]),
        categories=np.array([4, 4, 9]),
        boxes=np.tile([1.0, 1, 4, 4], (3, 1)),
        scores=np.array([0.01, 0.02, 0.03]),
    )
    expected = evaluate(TRUTH, records, iou_type="bbox").precision
    np.testing.assert_array_equal(evaluate(TRUTH, columns, iou_type="bbox").precision, expected)
    with pytest.raises(DataError, match="columns of different lengths"):
        check_results(Detections(columns.images[:2], columns.categories, columns.boxes, columns.scores), TRUTH)
    with pytest.raises(DataError, match="no masks were read or given"):
        check_results(columns, TRUTH, iou_types=("segm",))
    wrong = Detections(columns.images + 1, columns.categories, columns.boxes, columns.scores)
    assert skipped(wrong) == (2, {"image": 1})


def test_whole_floats_as_ids_and_numpy_values():
    truth = load_ground_truth(TRUTH, masks=False)
    found = read_detections([prediction(image_id=2.0, category_id=np.int64(7), bbox=np.ones(4))], truth)
    assert (found.images.tolist(), found.categories.tolist(), found.boxes.tolist()) == ([2], [7], [[1, 1, 1, 1]])
    assert found.images.dtype == np.int64


def test_evaluation_checks_by_itself():
    with pytest.raises(DataError, match="name an image"):
        evaluate(TRUTH, [prediction(image_id=9)], iou_type="bbox")
    left = evaluate(TRUTH, [prediction(image_id=9), prediction()], iou_type="bbox", skip_invalid=True)
    assert (left.detections, left.skipped[0].count) == (1, 1)


def test_run_lengths_as_a_list_are_read():
    """The same mask as a list of runs and compressed: equal AP."""
    exact = {"size": [20, 30], "counts": [0, 5, 15, 5, 15, 5, 15, 5, 15, 5, 515]}
    evaluation = evaluate(TRUTH, [prediction(segmentation=exact)], iou_type="segm", engine="fast")
    assert evaluation.class_ap()[0] == pytest.approx(1)
