"""Pictures of an evaluation and of single images, at 3 to 1,230 classes: what they show, and that all fits."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from lt_data.annotations.file import read_annotations
from lt_data.errors import DataError
from lt_train.report.class_dots import class_figure
from lt_train.report.confusion_picture import class_shares, confusion_figure, group_confusion_figure
from lt_train.report.sample_predictions import images_to_show, objects_that_differ, plot_sample_predictions


def rows_of(classes, *, measured=lambda i: True, groups=True):
    """Rows of ``per_class.csv``: class i has i training instances, and an AP of its share."""
    return [
        {
            "category_id": str(i),
            "name": f"class {i}",
            "group": ("(0, 10)" if i < 10 else "[10, ~)") if groups else "",
            "train_instances": str(i),
            "bbox_AP": str(i / classes) if measured(i) else "",
        }
        for i in range(1, classes + 1)
    ]


def cell(true, predicted, count):
    return {"true_id": true, "predicted_id": predicted, "count": str(count), "score_above": "0.3"}


@pytest.mark.parametrize("classes", [3, 24, 80])
def test_named_dots_have_a_line_for_each_measured_class(classes):
    rows = rows_of(classes, measured=lambda i: i != 2)
    figure = class_figure({"softmax": rows, "bags": rows_of(classes)}, "bbox")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    # most training instances first; class 2 is measured of one run
    assert labels == [f"class {i} ({i})" for i in range(classes, 0, -1)]
    softmax, bags = axes.lines[:2]
    assert bags.get_xdata() == pytest.approx([100 * i / classes for i in range(classes, 0, -1)])
    assert np.isnan(softmax.get_xdata()).tolist() == [i == 2 for i in range(classes, 0, -1)]
    assert axes.get_xlim()[0] == 0
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))


def test_many_classes_are_dots_along_their_rank_with_a_running_mean():
    figure = class_figure({"run": rows_of(1230)}, "bbox")
    (axes,) = figure.axes
    dots, mean = axes.lines[:2]
    assert len(dots.get_xdata()) == len(mean.get_xdata()) == 1230
    assert [text.get_text() for text in axes.texts] == ["[10, ~)\n1221", "(0, 10)\n9"]


def test_dots_of_other_classes_are_refused():
    with pytest.raises(DataError, match="bbox of the same classes is needed"):
        class_figure({"a": rows_of(3), "b": rows_of(4)}, "bbox")
    with pytest.raises(DataError, match="segm of the same classes is needed"):
        class_figure({"a": rows_of(3)}, "segm")


def test_shares_are_of_each_row_with_the_background_last():
    cells = [cell("1", "1", 3), cell("1", "2", 1), cell("2", "", 2), cell("", "1", 4)]
    shares = class_shares(cells, ["2", "3", "1"])
    # the second has no objects: nothing is known of it, which is not zero
    assert np.array_equal(shares, [[0, 0, 0, 1], [np.nan] * 4, [0.25, 0, 0.75, 0], [0, 0, 1, 0]], equal_nan=True)


@pytest.mark.parametrize(("classes", "joined"), [(1, 1), (24, 1), (80, 1), (1230, 4)])
def test_matrix_of_classes_at_every_size(classes, joined):
    cells = [cell(str(i), str(i), 1) for i in range(1, classes + 1)]
    figure = confusion_figure(cells, rows_of(classes))
    axes = figure.axes[0]
    mesh = axes.collections[0].get_array()
    side = -(-classes // joined)
    assert mesh.shape == (side + 1, side + 1)
    assert np.asarray(mesh)[:side].tolist() == np.eye(side, side + 1).tolist()
    assert np.ma.getmaskarray(mesh).any(axis=1).tolist() == [False] * side + [True]
    # nothing was found where nothing is
    assert "grey: a row without any" in axes.get_title()
    cells.append(cell("", "1", 2))
    axes = confusion_figure(cells, rows_of(classes)).axes[0]
    assert not np.ma.getmaskarray(axes.collections[0].get_array()).any()
    assert "grey" not in axes.get_title()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[-1] == "nothing"
    assert len(labels) == (classes + 1 if classes < 100 else 3)
    assert ("4 x 4 classes" in axes.get_title()) == (joined == 4)
    assert "score above 0.3" in axes.get_xlabel()


@pytest.mark.parametrize(("classes", "joined"), [(24, 1), (1230, 4)])
def test_a_class_without_objects_is_drawn_in_grey(classes, joined):
    cells = [cell(str(i), str(i), 1) for i in range(5, classes + 1)]
    axes = confusion_figure(cells, rows_of(classes)).axes[0]
    shown = axes.collections[0].get_array()
    without = np.ma.getmaskarray(shown).all(axis=1)
    assert without[:-1].sum() == 4 // joined
    assert "grey: a row without any" in axes.get_title()


def test_a_matrix_without_groups_or_counts_is_drawn_too():
    rows = [row | {"train_instances": ""} for row in rows_of(120, groups=False)]
    labels = [label.get_text() for label in confusion_figure([], rows).axes[0].get_yticklabels()]
    assert labels == ["nothing"]


def test_matrix_of_groups_tells_right_classes_from_others_of_the_group():
    names = ("rare", "frequent", "background")
    counts = {("rare", "rare"): (2, 1), ("rare", "frequent"): (6, 0), ("background", "frequent"): (5, 0)}
    rows = [
        {"true_group": t, "predicted_group": p, "score_above": "0.5"}
        | dict(zip(("count", "same_category"), map(str, counts.get((t, p), (0, 0))), strict=True))
        for t in names
        for p in names
        if (t, p) != ("background", "background")
    ]
    (axes,) = group_confusion_figure(rows).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["frequent\n0 objects", "rare\n8 objects", "nothing\n5 detections"]
    assert "grey: a row without any" in axes.get_title()
    # nothing is written in a row without objects
    assert [text.get_text() for text in axes.texts] == ["75.0", "25.0\n12.5 right", "0.0", "100.0", "0.0"]


@pytest.fixture
def scene(tmp_path):
    """Four images with two objects each; what is found in them by two runs."""
    objects = [(image, category, x) for image in (1, 2, 3, 4) for category, x in ((1, 2), (2, 30))]
    square = lambda x: [[x, 5, x + 15, 5, x + 15, 20, x, 20]]  # noqa: E731
    annotations = [
        {"id": n + 1, "image_id": i, "category_id": c, "bbox": [x, 5, 15, 15], "area": 225, "segmentation": square(x)}
        for n, (i, c, x) in enumerate(objects)
    ]
    images = [{"id": i, "width": 60, "height": 40, "file_name": f"{i}.png"} for i in (1, 2, 3, 4)]
    categories = [{"id": i, "name": f"c{i}"} for i in (1, 2)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (tmp_path / "val.json").write_text(json.dumps(content))
    for image in images:
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / image["file_name"])
    groups = [
        {"name": "few", "lower": None, "upper": None, "category_ids": [2]},
        {"name": "many", "lower": None, "upper": None, "category_ids": [1]},
    ]
    data = tmp_path / "data"
    data.mkdir()
    (data / "groups.json").write_text(json.dumps({"schema": 1, "edges": None, "groups": groups}))
    return tmp_path, objects


def test_images_on_which_runs_differ_come_first(scene):
    folder, _ = scene
    file = read_annotations(folder / "val.json")
    # annotations 0, 1 are of image 1; one run finds both of image 3, the other only the first of them, and one of 2
    differing = objects_that_differ(file, [np.array([4, 5, 0, -1]), np.array([4, 0, 2, 6])])
    assert np.flatnonzero(differing).tolist() == [2, 5, 6]
    assert images_to_show(file, differing, [[2], [1]], 2) == [1, 2]
    # then those with the rarest category
    assert images_to_show(file, differing, [[2], [1]], 4) == [1, 2, 3, 0]
    assert images_to_show(file, differing & False, [[2], [1]], 2) == [0, 1]
    # one run differs from nobody
    assert not objects_that_differ(file, [np.array([4, 5])]).any()


def test_grid_counts_right_wrong_and_missed(scene, monkeypatch):
    folder, objects = scene
    drawn = {}
    monkeypatch.setattr(
        "lt_train.report.sample_predictions.plot_predictions",
        lambda path, panels, **options: drawn.update(panels=panels),
    )

    def results(name, wrong, without):
        """Everything found, but for a category taken for the other in one image, and an image without detections."""
        records = [
            {"image_id": i, "category_id": 3 - c if i == wrong else c, "bbox": [x, 5, 15, 15], "score": 0.9}
            for i, c, x in objects
            if i != without
        ]
        (folder / name).write_text(json.dumps([*records, {**records[0], "score": 0.8, "bbox": [40, 20, 9, 9]}]))
        return folder / name

    runs = {"a": results("a.json", wrong=4, without=2), "b": results("b.json", wrong=0, without=0)}
    files = {"annotations": folder / "val.json", "images": folder, "dataset": folder / "data"}
    plot_sample_predictions(folder / "grid.png", predictions=runs, rows=3, **files)
    titles = [panel.title for panel in drawn["panels"]]
    assert titles == [
        "image 2: runs differ on 2 of 2 objects", "0 right, 0 wrong, 2 not found", "2 right, 0 wrong, 0 not found",
        "image 4: runs differ on 2 of 2 objects", "0 right, 2 wrong, 2 not found", "2 right, 0 wrong, 0 not found",
        "image 1: runs differ on 0 of 2 objects", "2 right, 1 wrong, 0 not found", "2 right, 1 wrong, 0 not found",
    ]  # fmt: skip
    truth, _, found = drawn["panels"][:3]
    assert truth.masks.sum(axis=(1, 2)).tolist() == [225, 225]
    assert truth.groups == ["many", "few"]
    assert found.found.right == [True, True]
    assert drawn["panels"][4].found.missed.tolist() == [[2, 5, 17, 20], [30, 5, 45, 20]]
    assert drawn["panels"][7].found.right == [True, True, False]
