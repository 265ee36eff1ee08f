"""Samples: labels, boxes, flips, and everything that is left out or refused."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from lt_data.errors import DataError
from lt_train.data import detection_data
from lt_train.data.dataset import DetectionDataset, flip_horizontally, make_loader
from lt_train.data.detection_data import (
    box_centres,
    check_segmentations,
    keep_classes_below,
    load_data,
    training_rows,
)
from lt_train.data.plan import Draw
from tests.lt_data.pools import as_lvis_05


def annotation(number, image_id, category_id, box, crowd=0):
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "bbox": box, "area": w * h,
        "iscrowd": crowd, "segmentation": [polygon],
    }  # fmt: skip


def make(tmp_path, annotations, images=(5, 9)):
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in images],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "b"}, {"id": 7, "name": "a"}],
    }
    folder = tmp_path / "images"
    folder.mkdir(exist_ok=True)
    for i in images:
        pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3) + np.uint8(i)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path, folder


GOOD = [annotation(i, 5, 7, [1, 2, 10, 8]) for i in range(1, 30)]


def test_labels_boxes_and_masks(tmp_path):
    boxes = [
        annotation(1, 9, 90, [4, 6, 10, 12]),
        annotation(2, 5, 7, [0, 0, 40, 30]),
        annotation(3, 9, 7, [30, 20, 99, 99]),
    ]
    dataset = DetectionDataset(load_data(*make(tmp_path, boxes)), np.array([1, 0]), masks="polygons")
    image, target = dataset[Draw(0, 0, 0)]
    assert target["image_id"] == 9
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == (3, 30, 40)
    assert int(image[0, 0, 0]) == 9
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[4, 6, 14, 18], [30, 20, 40, 30]]
    assert target["masks"].bitmaps()[0].sum() == 120
    assert dataset[Draw(0, 1, 1)][1]["labels"].tolist() == [1]


def test_images_of_lvis_05_are_found_and_it_is_said(tmp_path):
    path, folder = make(tmp_path, [annotation(1, 9, 90, [4, 6, 10, 12])])
    path.write_text(json.dumps(as_lvis_05(json.loads(path.read_text()), folder)))
    data = load_data(path, folder)
    assert data.paths == [folder / "val2017/000000000005.png", folder / "val2017/000000000009.png"]
    assert len(data.notes) == len(data.image_notes) == 1
    assert "2 of 2 images are not there under their file_name" in data.notes[0]
    assert int(DetectionDataset(data, np.array([1]))[Draw(0, 0, 0)][0][0, 0, 0]) == 9


def test_crowds_and_empty_boxes_are_left_out_with_a_note(tmp_path):
    bad = [annotation(50, 9, 7, [3, 3, 0, 5]), annotation(51, 9, 90, [1, 1, 5, 5], crowd=1)]
    data = load_data(*make(tmp_path, [*GOOD, *bad]))
    assert int(data.usable.sum()) == len(GOOD)
    assert any("1 crowd annotations are regions to ignore" in note for note in data.notes)
    assert any("1 of 31 annotations have no box" in note and "50" in note for note in data.notes)
    rows, notes = training_rows(data, keep_empty=False)
    assert rows.tolist() == [0]
    assert "1 images without usable annotations are left out" in notes[0]
    assert training_rows(data, keep_empty=True)[0].tolist() == [0, 1]


CROWDS = [
    annotation(50, 9, 7, [30, 2, 99, 8], crowd=1),
    annotation(51, 5, 90, [1, 1, 5, 5], crowd=1),
    annotation(52, 9, 90, [4, 6, 10, 12]),
    annotation(53, 9, 90, [0, 0, 4, 4], crowd=1),
    annotation(54, 9, 90, [40, 3, 5, 5], crowd=1),
]


def test_crowds_are_regions_to_ignore(tmp_path):
    """Clipped boxes in file order; one outside the image is none; the targets are the other annotations."""
    data = load_data(*make(tmp_path, CROWDS))
    assert data.usable.tolist() == [False, False, True, False, False]
    assert data.regions.tolist() == [True, True, False, True, False]
    assert data.notes == (
        "a.json: 4 crowd annotations are regions to ignore: no targets, and what lies at least half in one is not "
        "trained as background; 1 of them have no box with an area inside the image and are left out",
    )
    dataset = DetectionDataset(data, np.array([0, 1]), masks="polygons")
    first, second = (dataset[Draw(0, 0, row)][1] for row in (0, 1))
    assert first["boxes"].shape == (0, 4)
    assert first["ignore"].tolist() == [[1, 1, 6, 6]]
    assert second["boxes"].tolist() == [[4, 6, 14, 18]]
    assert second["ignore"].tolist() == [[30, 2, 40, 10], [0, 0, 4, 4]]
    assert second["ignore"].dtype == torch.float32
    assert len(second["masks"]) == len(second["labels"]) == 1


def test_targets_do_not_depend_on_crowds(tmp_path):
    """Without crowds there is no key; with them every other value is the same."""
    without = DetectionDataset(load_data(*make(tmp_path, CROWDS[2:3])), np.array([1]), flip=0.5, seed=2)
    crowds = DetectionDataset(load_data(*make(tmp_path, CROWDS)), np.array([1]), flip=0.5, seed=2)
    for epoch in range(8):
        (image, target), (same_image, more) = without[Draw(epoch, 0, 0)], crowds[Draw(epoch, 0, 0)]
        assert "ignore" not in target
        assert set(more) - set(target) == {"ignore"}
        assert torch.equal(image, same_image)
        for key, value in target.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(more[key]))


def test_flips_mirror_regions(tmp_path):
    data = load_data(*make(tmp_path, CROWDS))
    plain, flipped = (DetectionDataset(data, np.array([1]), flip=flip)[Draw(0, 0, 0)] for flip in (0.0, 1.0))
    assert torch.equal(flipped[0], plain[0].flip(-1))
    assert flipped[1]["ignore"].tolist() == [[0, 2, 10, 10], [36, 0, 40, 4]]
    assert torch.equal(flip_horizontally(*flipped)[1]["ignore"], plain[1]["ignore"])


def test_batches_in_which_one_image_has_regions(tmp_path):
    data = load_data(*make(tmp_path, [CROWDS[0], *GOOD]))
    dataset = DetectionDataset(data, np.array([0, 1]))
    ((images, targets),) = make_loader(dataset, [[Draw(0, 0, 0), Draw(0, 1, 1)]], workers=0)
    assert len(images) == 2
    assert ["ignore" in target for target in targets] == [False, True]


def test_many_bad_boxes_are_an_error(tmp_path):
    with pytest.raises(DataError, match="at most 5 %"):
        load_data(*make(tmp_path, [GOOD[0], annotation(50, 9, 7, [99, 99, 5, 5])]))


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        training_rows(load_data(*make(tmp_path, [])), keep_empty=False)


def test_flip_mirrors_image_boxes_and_masks_together(tmp_path):
    dataset = DetectionDataset(load_data(*make(tmp_path, GOOD[:1])), np.array([0]), masks="polygons")
    image, target = dataset[Draw(0, 0, 0)]
    flipped, mirrored = flip_horizontally(image, target)
    assert torch.equal(flipped, image.flip(-1))
    assert mirrored["boxes"].tolist() == [[29, 2, 39, 10]]
    assert np.array_equal(mirrored["masks"].bitmaps(), target["masks"].bitmaps()[:, :, ::-1])
    again, back = flip_horizontally(flipped, mirrored)
    assert torch.equal(again, image)
    assert torch.equal(back["boxes"], target["boxes"])


def test_runs_are_those_of_the_resized_image(tmp_path):
    data = load_data(*make(tmp_path, [annotation(99, 5, 7, [3, 4, 10, 8]), *GOOD]))
    options = {"flip": 1.0, "short_sides": (60,), "max_size": 100}
    _, drawn = DetectionDataset(data, np.array([0]), masks="polygons", **options)[Draw(0, 0, 0)]
    _, ready = DetectionDataset(data, np.array([0]), masks="runs", **options)[Draw(0, 0, 0)]
    runs, masks = ready["masks"], drawn["masks"].resize(60, 80)
    assert (runs.height, runs.width, len(runs)) == (60, 80, len(GOOD) + 1)
    painted = np.zeros((len(runs), 60, 80), np.uint8)
    for instance in range(len(runs)):
        for column, first, end in runs.table[:, slice(*runs.bounds[instance : instance + 2].tolist())].T.tolist():
            painted[instance, first:end, column] = 1
    np.testing.assert_array_equal(painted, masks.bitmaps())


def test_short_sides_of_a_range(tmp_path):
    """Any whole number, both ends among them, each about as often; masks are those of the image in that size."""
    data = load_data(*make(tmp_path, GOOD[:1]))
    dataset = DetectionDataset(data, np.array([0]), short_sides=range(33, 38), max_size=46, masks="runs")
    targets = [dataset[Draw(0, position, 0)][1] for position in range(200)]
    sides, counts = np.unique([target["short_side"] for target in targets], return_counts=True)
    assert sides.tolist() == [33, 34, 35, 36, 37]
    assert counts.min() > 25
    for target in targets:
        # 30 x 40, whose long side may have 46
        height = min(target["short_side"], 34)
        assert target["masks"].height == height
        assert target["masks"].width == {33: 44, 34: 45 if target["short_side"] == 34 else 46}[height]
    assert [dataset[Draw(0, position, 0)][1]["short_side"] for position in range(20)] == [
        target["short_side"] for target in targets[:20]
    ]


def test_draws_depend_on_their_key_alone(tmp_path):
    data = load_data(*make(tmp_path, GOOD))
    options = {"flip": 0.5, "short_sides": (20, 30, 40)}
    first = DetectionDataset(data, np.array([0]), seed=3, **options)
    draws = [Draw(epoch, 0, 0) for epoch in range(40)]
    forward = [(d[1]["boxes"].tolist(), d[1]["short_side"], d[1]["draw_seed"]) for d in map(first.__getitem__, draws)]
    torch.rand(7)  # the global stream plays no part
    second = DetectionDataset(data, np.array([0]), seed=3, **options)
    backward = [second[d][1] for d in reversed(draws)][::-1]
    assert forward == [(t["boxes"].tolist(), t["short_side"], t["draw_seed"]) for t in backward]
    assert {side for _, side, _ in forward} == {20, 30, 40}
    assert len({str(boxes) for boxes, _, _ in forward}) == 2
    assert len({seed for _, _, seed in forward}) == 40


def test_boxes_that_lose_their_area_in_float32_are_left_out(tmp_path):
    """The first has no width as float32, the second none once it is mirrored."""
    thin = [annotation(50, 5, 7, [30.1, 3, 1e-9, 5]), annotation(51, 5, 7, [0, 3, 1e-6, 5])]
    small = annotation(52, 5, 7, [39, 3, 0.01, 0.01])
    data = load_data(*make(tmp_path, [*GOOD, *GOOD_MORE, small, *thin]))
    assert data.usable.tolist() == [True] * (len(data.usable) - 2) + [False] * 2
    assert any("(annotation ids 50, 51)" in note for note in data.notes)
    _, target = DetectionDataset(data, np.array([0]), flip=1.0)[Draw(0, 0, 0)]
    assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()


GOOD_MORE = [annotation(i, 9, 90, [1, 2, 10, 8]) for i in range(100, 130)]
SQUARE = [1, 1, 9, 1, 9, 9, 1, 9]
FULL = {"size": [30, 40], "counts": [600, 600]}


def with_segmentations(tmp_path, segmentations, *, size=True):
    """Image 5 with one annotation per segmentation, numbered from 200 on, behind sound ones."""
    records = [{**annotation(200 + i, 5, 7, [1, 2, 10, 8]), "segmentation": s} for i, s in enumerate(segmentations)]
    path, folder = make(tmp_path, [*GOOD, *records])
    if not size:
        content = json.loads(path.read_text())
        content["images"] = [{"id": i["id"], "file_name": i["file_name"]} for i in content["images"]]
        path.write_text(json.dumps(content))
    return load_data(path, folder)


UNREADABLE = [
    *({"counts": [600, 600]}, {"size": [30, 40], "counts": [-1, 1201]}, {"size": [30, 40], "counts": "~~\u00e9"}),
    *([["1", "2", "3", "4", "5", "6"]], [[1, 2, None, 4, 5, 6]], "text", 7, {}, [[1e300, 0, 9, 1, 9, 9]]),
    *(SQUARE, [[[1, 1], [9, 1], [9, 9]]], [[[1, 2], [3]]], [SQUARE, 5]),
    *({"size": [30, 40], "counts": "o"}, [[0, 0, 1e9, 0, 9, 9]], ["abcdef"], [[0, 0, True, 0, 9, 9]]),
]


@pytest.mark.parametrize("segmentation", UNREADABLE, ids=lambda s: json.dumps(s)[:30])
def test_segmentations_that_cannot_be_read_are_refused_before_training(tmp_path, segmentation):
    data = with_segmentations(tmp_path, [[SQUARE], segmentation, FULL])
    with pytest.raises(DataError) as error:
        check_segmentations(data)
    (line,) = error.value.problems
    assert line.startswith(f"{data.file.path}: 1 of 32 annotations have a segmentation that is neither")
    assert "(annotation 201 of image 5)" in line


def test_sizes_and_sums_of_run_lengths_are_checked_before_training(tmp_path):
    turned = {"size": [40, 30], "counts": [600, 600]}
    unfilled = {"size": [30, 40], "counts": [600, 599]}
    with pytest.raises(DataError) as error:
        check_segmentations(with_segmentations(tmp_path, [turned, FULL, *[unfilled] * 4]))
    size, runs = error.value.problems
    assert "1 of 35 annotations have run lengths of another size than their image (annotation 200 of image 5)" in size
    first = "annotation 202 of image 5, annotation 203 of image 5, annotation 204 of image 5, ..."
    assert f"4 of 35 annotations have run lengths that do not fill their size ({first})" in runs


def test_annotations_that_get_their_box_as_mask_are_counted(tmp_path):
    boxes = [None, [], [[]], [[], []], [[1, 2, 3, 4]], [[1, 1, 9, 1, 9, 9, 1]]]
    thin = [[1, 1, 5, 5, 9, 9]]
    data = with_segmentations(tmp_path, [*boxes, thin, [SQUARE, [3, 3]], FULL])
    first = "annotation 200 of image 5, annotation 201 of image 5, annotation 202 of image 5, ..."
    assert check_segmentations(data) == (
        f"a.json: 6 of 38 annotations have no mask (no polygon of three points and no run lengths); their box is their "
        f"mask ({first})",
        "a.json: 1 of 38 annotations have a mask whose area is 0 and are trained with it (annotation 206 of image 5)",
    )
    _, target = DetectionDataset(data, np.array([0]), masks="polygons")[Draw(0, 0, 0)]
    areas = target["masks"].bitmaps()[len(GOOD) :].sum((1, 2)).tolist()
    assert areas[:6] == [80] * 6
    assert areas[7:] == [64, 600]


def test_only_what_is_trained_on_is_checked(tmp_path):
    bad = [annotation(50, 9, 7, [3, 3, 0, 5]), annotation(51, 9, 90, [1, 1, 5, 5], crowd=1)]
    data = load_data(*make(tmp_path, [*GOOD, *({**record, "segmentation": "x"} for record in bad)]))
    assert check_segmentations(data) == ()


def test_a_file_of_boxes_has_no_masks(tmp_path):
    data = load_data(*make(tmp_path, [{**record, "segmentation": []} for record in GOOD]))
    with pytest.raises(DataError, match="none of the 29 annotations has a mask, but the model predicts masks"):
        check_segmentations(data)
    assert check_segmentations(load_data(*make(tmp_path, []))) == ()


def test_a_wrong_size_of_an_image_of_unknown_size_names_the_annotation(tmp_path):
    data = with_segmentations(tmp_path, [FULL, {"size": [40, 30], "counts": [600, 600]}], size=False)
    assert check_segmentations(data) == ()
    with pytest.raises(
        DataError, match=r"a\.json: run lengths of another .* image 5, which is 30 high and 40 wide \(annotation 201\)"
    ):
        DetectionDataset(data, np.array([0]), masks="polygons")[Draw(0, 0, 0)]


def tail(tmp_path):
    """Class 90 twice, class 7 four times; image 9 holds the frequent class alone."""
    boxes = [annotation(1, 5, 90, [0, 0, 9, 9]), annotation(2, 5, 90, [9, 0, 9, 9]), annotation(3, 5, 7, [20, 0, 9, 9])]
    boxes += [annotation(number, 9, 7, [0, 0, 5, number]) for number in (4, 5, 6)]
    return load_data(*make(tmp_path, boxes))


def test_tail_data_keeps_the_tail_and_calls_the_rest_background(tmp_path):
    data = keep_classes_below(tail(tmp_path), 3)
    rows, _ = training_rows(data, keep_empty=False)
    assert [int(i) for i in data.file.image_ids[rows]] == [5]
    target = DetectionDataset(data, rows)[Draw(0, 0, 0)][1]
    # neither a target nor a region to ignore
    assert target["labels"].tolist() == [2, 2]
    assert "ignore" not in target
    # groups and weights still come from all instances
    assert data.counts.instances.tolist() == [4, 2]
    assert data.notes[-1] == (
        "classes_below=3: 1 of 2 categories are trained; 4 objects of the others are unlabelled and count as background"
    )


def test_no_class_below_is_an_error(tmp_path):
    with pytest.raises(DataError, match="classes_below=2: no class .* between 1 and 1 usable instances; the smallest"):
        keep_classes_below(tail(tmp_path), 2)


def test_rows_of_classes(tmp_path):
    data = tail(tmp_path)
    dataset = DetectionDataset(data, np.array([1, 0]))
    assert [own.tolist() for own in dataset.rows_of_classes()] == [[0, 1], [1]]
    assert [part.tolist() for part in dataset.pairs()] == [[1, 1, 1, 0, 0, 0], [2, 2, 1, 1, 1, 1]]
    # images that are left out hold nothing
    assert [own.tolist() for own in DetectionDataset(data, np.array([1])).rows_of_classes()] == [[0]]


def test_a_sample_is_the_same_in_a_process_that_is_not_forked(tmp_path):
    data = load_data(*make(tmp_path, [annotation(99, 5, 7, [3, 4, 10, 8]), *GOOD]))
    options = {"flip": 0.5, "short_sides": (60,), "max_size": 100, "masks": "runs"}
    dataset = DetectionDataset(data, np.array([0, 1]), **options)
    sent = pickle.loads(pickle.dumps(dataset))
    assert not hasattr(sent, "data")
    assert len(sent) == len(dataset) == 2
    for draw in (Draw(0, 0, 0), Draw(1, 1, 1)):
        (image, target), (other, wanted) = sent[draw], dataset[draw]
        assert torch.equal(image, other)
        assert torch.equal(target["boxes"], wanted["boxes"])
        assert torch.equal(target["masks"].table, wanted["masks"].table)


def test_masks_are_checked_alike_in_two_processes(tmp_path, monkeypatch):
    broken = annotation(300, 9, 90, [1, 1, 5, 5]) | {"segmentation": [[]]}
    data = load_data(*make(tmp_path, [*GOOD, broken]))
    alone = check_segmentations(data)
    monkeypatch.setattr(detection_data, "MANY_MASKS", 7)
    assert check_segmentations(data) == alone
    assert "1 of 30 annotations have no mask" in alone[0]


def test_where_boxes_lie(tmp_path):
    """What lies inside the image of each object, crowds and boxes without area apart; untrained classes too."""
    boxes = [
        annotation(1, 9, 90, [4, 6, 10, 12]),
        annotation(2, 5, 7, [30, 20, 99, 99]),
        annotation(3, 5, 7, [1, 1, 5, 5], crowd=1),
        *[annotation(i, 5, 7, [0, 0, 40, 30]) for i in range(10, 40)],
        annotation(4, 5, 7, [3, 3, 0, 5]),
    ]
    data = load_data(*make(tmp_path, boxes))
    centres, labels = box_centres(keep_classes_below(data, 2))
    assert labels.tolist() == [2, *[1] * 31]
    np.testing.assert_allclose(centres[:3], [[9 / 40, 12 / 30], [35 / 40, 25 / 30], [0.5, 0.5]])


def test_boxes_in_images_of_unknown_size_lie_nowhere(tmp_path):
    path, folder = make(tmp_path, [annotation(1, 5, 7, [1, 2, 3, 4]), annotation(2, 9, 7, [1, 2, 3, 4])])
    content = json.loads(path.read_text())
    del content["images"][1]["width"], content["images"][1]["height"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        box_centres(load_data(path, folder))
    assert error.value.problems == [
        f"{path}: 1 boxes lie in images without width and height (annotation 2 of image 9); where in the image they "
        "lie is needed, add the sizes to the file"
    ]
