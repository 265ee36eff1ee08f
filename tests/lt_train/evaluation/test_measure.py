"""Result files of any framework, measured and written."""

import json

import pytest

from lt_data.errors import DataError, OutputError
from lt_train.evaluation.directory import read_inputs, write_evaluation
from lt_train.evaluation.measure import Choices, evaluate_predictions
from lt_train.evaluation.truth import columns


def content():
    """Two classes in three images; class 7 has one instance, class 3 has two."""
    boxes = [(1, 3, [10, 10, 20, 20]), (2, 3, [5, 5, 30, 40]), (3, 7, [0, 0, 50, 50])]
    return {
        "images": [{"id": i, "width": 100, "height": 80, "file_name": f"{i}.jpg"} for i in (1, 2, 3)],
        "categories": [{"id": 3, "name": "cup"}, {"id": 7, "name": "yak"}, {"id": 9, "name": "gnu"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, c, b) in enumerate(boxes, start=1)
        ],
    }


WRITTEN = ["confusion.csv", "confusion_groups.csv", "inputs.json", "metrics.json", "per_class.csv"]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "val.json").write_text(json.dumps(content()))
    found = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5} for a in content()["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found[:2]))
    return tmp_path


def test_perfect_boxes_of_one_class(files):
    measured = evaluate_predictions(files / "found.json", files / "val.json")
    assert measured.metrics["bbox"]["AP"] == pytest.approx(0.5)
    assert "segm" not in measured.metrics
    assert measured.metrics["bbox"]["groups"] == {}
    assert [row["bbox_AP"] for row in measured.per_class] == [1.0, 0.0, None]
    assert [row["train_instances"] for row in measured.per_class] == [None, None, None]


def many_boxes(*widths):
    """Forty boxes 20 px high in image 1, of these widths and of 20 px; the first in front."""
    truth = content()
    sides = [*widths, *[20] * (40 - len(widths))]
    truth["annotations"] = [
        {"id": n, "image_id": 1 + n % 3, "category_id": 3, "bbox": [2 * n, 5, width, 20], "area": 400, "iscrowd": 0}
        for n, width in enumerate(sides)
    ]
    return truth


def test_boxes_of_no_size_are_left_out_as_in_training_and_said(files):
    """No prediction can hit them: those with such boxes are refused."""
    truth = many_boxes(-5, 0)
    found = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5} for a in truth["annotations"][2:]]
    (files / "val.json").write_text(json.dumps(truth))
    (files / "found.json").write_text(json.dumps(found))
    measured = evaluate_predictions(files / "found.json", files / "val.json")
    assert measured.metrics["bbox"]["AP"] == pytest.approx(1.0)
    assert measured.metrics["counts"]["ground_truth"] == 38
    assert measured.notes == (
        "val.json: 2 of 40 annotations have a box of no size (annotation ids 0, 1); they are left out",
    )
    (files / "val.json").write_text(json.dumps(many_boxes(-5, 0, 0)))
    with pytest.raises(DataError, match="3 of 40 annotations have a box of no size .* at most 5 %; mend the boxes"):
        evaluate_predictions(files / "found.json", files / "val.json")


def test_masks_of_boxes_of_no_size_are_left_out_with_them(files):
    truth = many_boxes(0)
    for annotation in truth["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    truth["annotations"][0]["segmentation"] = None
    (files / "val.json").write_text(json.dumps(truth))
    mask = {"size": [80, 100], "counts": [0, *([50, 30] * 49), 50, 4030]}
    (files / "found.json").write_text(
        json.dumps([{"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": mask}])
    )
    measured = evaluate_predictions(files / "found.json", files / "val.json")
    assert measured.metrics["counts"]["ground_truth"] == 39
    truth["annotations"][1]["segmentation"] = [[]]
    (files / "val.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"1 of 39 annotations \(ids 1\) have no segmentation \(null, \[\]"):
        evaluate_predictions(files / "found.json", files / "val.json")


def test_the_annotations_become_columns_once_and_their_masks_are_decoded_last(files, monkeypatch):
    outline, truth = [0, 0, 50, 0, 50, 50, 0, 50], content()
    for annotation in truth["annotations"]:
        annotation["segmentation"] = [outline]
    (files / "val.json").write_text(json.dumps(truth))
    mask = {"size": [80, 100], "counts": [0, *([50, 30] * 49), 50, 4030]}
    found = [{"image_id": a["image_id"], "category_id": a["category_id"], "score": 0.5} for a in truth["annotations"]]
    (files / "found.json").write_text(json.dumps([{**record, "segmentation": mask} for record in found]))
    calls = []
    for name in ("_columns", "read_masks"):
        monkeypatch.setattr(columns, name, spy(getattr(columns, name), calls))
    measured = evaluate_predictions(files / "found.json", files / "val.json")
    assert measured.metrics["segm"]["AP"] == pytest.approx(1.0)
    assert calls == ["_columns", "read_masks"]
    (files / "found.json").write_text(json.dumps([{**found[0], "score": 2, "segmentation": mask}]))
    with pytest.raises(DataError, match="a score outside"):
        evaluate_predictions(files / "found.json", files / "val.json")
    assert calls == ["_columns", "read_masks", "_columns"]


def spy(function, calls):
    def called(*args, **options):
        calls.append(function.__name__)
        return function(*args, **options)

    return called


@pytest.mark.parametrize("kind", ["csv", "file", "directory"])
def test_groups_of_the_training_set(files, kind):
    train = {"csv": files / "counts.csv", "file": files / "train.json", "directory": files / "train"}[kind]
    (files / "train").mkdir()
    annotations = [
        {"id": n, "image_id": 1 + n % 3, "category_id": 3 if n < 12 else 7, "bbox": [0, 0, 5, 5], "area": 25}
        for n in range(15)
    ]
    text = json.dumps({**content(), "annotations": annotations})
    (files / "train.json").write_text(text)
    (files / "train" / "annotations.json").write_text(text)
    (files / "counts.csv").write_text("category_id,instances\n3,12\n7,3\n9,0\n")
    measured = evaluate_predictions(
        files / "found.json", files / "val.json", train_counts=train, groups="10", choices=Choices(fixed=True)
    )
    assert measured.metrics["bbox"]["groups"] == {"(0, 10)": 0.0, "[10, ~)": 1.0}
    assert measured.metrics["counts"]["classes"]["groups"] == {"(0, 10)": 1, "[10, ~)": 1}
    assert measured.metrics["bbox"]["AP_fixed"] == pytest.approx(0.5)
    assert [row["group"] for row in measured.per_class] == ["[10, ~)", "(0, 10)", "(0, 10)"]
    assert [row["train_instances"] for row in measured.per_class] == [12, 3, 0]


def test_what_was_measured_is_recorded_and_never_replaced_unasked(files):
    out = files / "eval"
    measured = evaluate_predictions(files / "found.json", files / "val.json", out=out)
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    assert json.loads((out / "metrics.json").read_text()) == measured.metrics
    assert read_inputs(out).predictions == str(files / "found.json")
    with pytest.raises(OutputError, match="--force"):
        evaluate_predictions(files / "found.json", files / "val.json", out=out)
    evaluate_predictions(files / "found.json", files / "val.json", out=out, force=True)


def test_predictions_in_the_output_folder_are_not_replaced(files):
    out = files / "eval"
    out.mkdir()
    (out / "predictions.json").write_bytes((files / "found.json").read_bytes())
    with pytest.raises(OutputError, match="which is read"):
        evaluate_predictions(out / "predictions.json", files / "val.json", out=out, force=True)


def test_predictions_of_a_replaced_evaluation_do_not_stay(files):
    out = files / "eval"
    write_evaluation(out, {"schema": 1}, [], [{"image_id": 1}])
    evaluate_predictions(files / "found.json", files / "val.json", out=out, force=True)
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    assert (files / "found.json").exists()


def test_predictions_that_no_evaluation_wrote_stay(files):
    out = files / "results"
    out.mkdir()
    (out / "predictions.json").write_text("[]")
    evaluate_predictions(files / "found.json", files / "val.json", out=out, force=True)
    assert (out / "predictions.json").read_text() == "[]"


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(files, monkeypatch):
    with pytest.raises(OutputError, match=r"val\.json: is a file"):
        evaluate_predictions(files / "none.json", files / "none.json", out=files / "val.json" / "deep" / "eval")
    monkeypatch.setattr("lt_train.evaluation.directory.os.access", lambda path, _: path != files)
    with pytest.raises(OutputError, match=r"new/eval: cannot be written \(no permission in "):
        evaluate_predictions(files / "none.json", files / "none.json", out=files / "new" / "eval")
    assert not (files / "new").exists()


def test_counts_of_another_label_map_are_refused(files):
    (files / "counts.csv").write_text("category_id,instances\n1,12\n2,3\n")
    with pytest.raises(DataError, match=r"has none of the category ids of .*val\.json \(1, 2, \.\.\. there; 3, 7, 9, "):
        evaluate_predictions(files / "found.json", files / "val.json", train_counts=files / "counts.csv", groups="10")
    (files / "counts.csv").write_text("category_id,instances\n3,12\n2,3\n")
    measured = evaluate_predictions(
        files / "found.json", files / "val.json", train_counts=files / "counts.csv", groups="10"
    )
    assert measured.metrics["bbox"]["groups"]["[10, ~)"] == 1.0


def test_groups_need_counts(files):
    with pytest.raises(DataError, match="--train-counts"):
        evaluate_predictions(files / "found.json", files / "val.json", groups="bags")
    with pytest.raises(DataError, match="coco-lt-paper"):
        evaluate_predictions(files / "found.json", files / "val.json", groups="coco-lt-paper")


def test_skipped_predictions_are_counted(files):
    found = json.loads((files / "found.json").read_text())
    (files / "found.json").write_text(json.dumps([*found, {**found[0], "score": 7.0}, {**found[0], "image_id": 99}]))
    with pytest.raises(DataError) as error:
        evaluate_predictions(files / "found.json", files / "val.json")
    assert len(error.value.problems) == 2
    measured = evaluate_predictions(files / "found.json", files / "val.json", choices=Choices(skip_invalid=True))
    assert {(problem.kind, problem.count) for problem in measured.skipped} == {("score", 1), ("image", 1)}
    assert measured.metrics["bbox"]["AP"] == pytest.approx(0.5)


def a_directory(folder, groups):
    """What a dataset directory needs to be one: here the annotations of above are what was trained on."""
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps(content()))
    rows = [{"name": name, "category_ids": ids} for name, ids in groups.items()]
    (folder / "groups.json").write_text(json.dumps({"schema": 1, "edges": None, "groups": rows}))
    return folder


def test_groups_are_those_of_the_directory_or_of_a_file(files):
    trained = a_directory(files / "lt", {"small": [9, 3], "large": [7]})
    measured = evaluate_predictions(files / "found.json", files / "val.json", train_counts=trained, out=files / "eval")
    assert measured.metrics["bbox"]["groups"] == pytest.approx({"small": 1.0, "large": 0.0})
    assert [row["group"] for row in measured.per_class] == ["small", "large", "small"]
    small, _ = read_inputs(files / "eval").group_list()
    assert (small.name, small.lower, small.upper, small.category_ids) == ("small", None, None, (3, 9))
    # its annotation file says the same as the directory
    file = trained / "annotations.json"
    of_file = evaluate_predictions(files / "found.json", files / "val.json", train_counts=file)
    assert of_file.metrics["bbox"]["groups"] == measured.metrics["bbox"]["groups"]
    by_counts = evaluate_predictions(files / "found.json", files / "val.json", train_counts=trained, groups="2")
    assert [*by_counts.metrics["bbox"]["groups"]] == ["(0, 2)", "[2, ~)"]
    # a file needs no counts
    of_file = evaluate_predictions(files / "found.json", files / "val.json", groups=str(trained / "groups.json"))
    assert of_file.metrics["bbox"]["groups"] == measured.metrics["bbox"]["groups"]
    assert "without training instances" not in of_file.text


def test_groups_that_do_not_fit(files):
    trained = a_directory(files / "lt", {"small": [9, 3]})
    for options in ({"train_counts": trained}, {"groups": str(trained / "groups.json")}):
        with pytest.raises(DataError, match="1 category is in no group"):
            evaluate_predictions(files / "found.json", files / "val.json", **options)
    with pytest.raises(DataError, match="or coco-lt-paper, or a groups file"):
        evaluate_predictions(files / "found.json", files / "val.json", train_counts=trained, groups="gone.json")


def test_measured_classes_without_training_instances_are_counted(files):
    (files / "counts.csv").write_text("category_id,instances\n3,5\n7,0\n9,0\n")
    measured = evaluate_predictions(files / "found.json", files / "val.json", train_counts=files / "counts.csv")
    # class 9 is not measured
    classes = measured.metrics["counts"]["classes"]
    assert classes["untrained"] == {"AP": 1, "groups": dict.fromkeys(classes["groups"], 0) | {"(0, 10)": 1}}
    assert measured.text.splitlines()[-1] == "1 without training instances: 1 in (0, 10)"
