"""Counts of a training set: of the same classes, or found by their names; and whose frequency counts."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.train import main

from lt_data.errors import DataError
from lt_train.evaluation.measure import evaluate_predictions

NAMES = {1: "cup", 2: "yak", 3: "gnu"}


def content(names, *, images=4, frequency=None):
    """Every image has an object of each category."""
    categories = [{"id": i, "name": name} for i, name in names.items()]
    for category in categories:
        category.update({} if frequency is None else {"frequency": frequency[category["id"]]})
    pairs = [(image, category) for image in range(1, images + 1) for category in names]
    return {
        "images": [{"id": i, "width": 100, "height": 80, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "categories": categories,
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": [10 * c, 10, 20, 20], "area": 400, "iscrowd": 0}
            for n, (i, c) in enumerate(pairs, start=1)
        ],
    }


@pytest.fixture
def files(tmp_path):
    truth = content(NAMES)
    (tmp_path / "val.json").write_text(json.dumps(truth))
    # category 1 is found, the others are not
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.5}
        for a in truth["annotations"]
        if a["category_id"] == 1
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    return tmp_path


def counts_csv(folder, rows):
    path = folder / "counts.csv"
    path.write_text("category_id,name,instances\n" + "".join(f"{i},{name},{n}\n" for i, name, n in rows))
    return path


def measured(files, counts, **options):
    return evaluate_predictions(files / "found.json", files / "val.json", train_counts=counts, groups="10", **options)


def test_other_names_under_the_same_ids_are_refused(files):
    counts = counts_csv(files, [(1, "yak", 5), (2, "gnu", 50), (3, "cup", 500)])
    with pytest.raises(DataError, match=r"3 of 3 categories have other names.*val\.json \(id 1: 'yak' there, 'cup' h"):
        measured(files, counts)
    (files / "train.json").write_text(json.dumps(content({1: "cup", 2: "gnu", 3: "yak"})))
    with pytest.raises(DataError, match=r"2 of 3 categories have other names"):
        measured(files, files / "train.json")


def test_matching_by_names(files):
    counts = counts_csv(files, [(70, "Yak", 5), (80, "gnu", 50), (90, "cup ", 500), (95, "eel", 9)])
    result = measured(files, counts, match="names")
    assert [row["train_instances"] for row in result.per_class] == [500, 5, 50]
    assert [row["group"] for row in result.per_class] == ["[10, ~)", "(0, 10)", "[10, ~)"]
    assert result.metrics["bbox"]["groups"] == {"(0, 10)": 0.0, "[10, ~)": 0.5}
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(1, "eel", 5)], r"has none of the 3 category names of .*\('eel' there\)"),
        ([(1, "cup", 5), (2, "Cup", 6)], r"'cup' is the name of two categories"),
    ],
)
def test_names_that_cannot_be_matched(files, rows, says):
    with pytest.raises(DataError, match=says):
        measured(files, counts_csv(files, rows), match="names")
    with pytest.raises(DataError, match="--match: got 'all'; allowed are ids, names"):
        measured(files, counts_csv(files, rows), match="all")


def test_counts_without_names_go_by_ids(files):
    (files / "counts.csv").write_text("category_id,instances\n1,5\n2,50\n3,500\n")
    result = measured(files, files / "counts.csv")
    assert [row["train_instances"] for row in result.per_class] == [5, 50, 500]
    assert result.warnings == ()


def test_categories_without_counts_are_said(files):
    result = measured(files, counts_csv(files, [(1, "cup", 5)]))
    (line,) = result.warnings
    assert "2 of 3 categories of val.json are not in" in line
    assert "('yak', 'gnu'): they are in no group" in line


def test_the_frequency_of_the_annotation_file_stands(files):
    train = content(NAMES, images=30, frequency={1: "f", 2: "f", 3: "f"})
    (files / "train.json").write_text(json.dumps(train))
    # the annotation file states none: that of the training set counts
    assert measured(files, files / "train.json").metrics["counts"]["classes"]["frequency"] == {"r": 0, "c": 0, "f": 3}
    (files / "val.json").write_text(json.dumps(content(NAMES, frequency={1: "r", 2: "c", 3: "f"})))
    result = measured(files, files / "train.json")
    assert result.metrics["counts"]["classes"]["frequency"] == {"r": 1, "c": 1, "f": 1}
    assert result.metrics["bbox"]["frequency"] == {"r": 1.0, "c": 0.0, "f": 0.0}


def test_the_command(files):
    counts = counts_csv(files, [(1, "yak", 5), (2, "gnu", 50), (3, "cup", 500)])
    arguments = ["eval", "--predictions", files / "found.json", "--annotations", files / "val.json"]
    arguments = [str(argument) for argument in (*arguments, "--train-counts", counts)]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "--match names" in refused.output
    assert CliRunner().invoke(main, [*arguments, "--match", "names"]).exit_code == 0
    assert CliRunner().invoke(main, [*arguments[:5], "--match", "names"]).exit_code == 2


def of_counts(result):
    return [line for line in result.warnings if line.startswith("--train-counts")]


@pytest.mark.parametrize("copied", [False, True])
def test_counts_of_the_file_that_is_measured_are_asked_about(files, copied):
    path = files / "val.json"
    if copied:
        path = files / "copy.json"
        path.write_bytes((files / "val.json").read_bytes())
    (line,) = measured(files, path).warnings
    assert "is the file that is measured, or a copy" in line


def test_images_that_were_trained_on_are_said(files):
    train = content(NAMES, images=3)
    for image in train["images"][:2]:
        image["file_name"] = f"val/{image['file_name']}"
    train["images"][2]["file_name"] = "other.jpg"
    (files / "train.json").write_text(json.dumps(train))
    (line,) = measured(files, files / "train.json").warnings
    assert "2 of 4 images of val.json have id, name and size of images trained on ('1.jpg', ...)" in line
    for image in train["images"]:
        image["width"] += 1
    (files / "train.json").write_text(json.dumps(train))
    assert measured(files, files / "train.json").warnings == ()


def test_names_that_differ_in_signs_between_words_are_one(files):
    (files / "val.json").write_text(json.dumps(content({1: "traffic_light", 2: "Hot-dog", 3: "gnu"})))
    counts = counts_csv(files, [(1, "traffic light", 5), (2, "hot dog", 50), (3, "gnu", 500)])
    for match in (None, "ids", "names"):
        result = measured(files, counts, match=match)
        assert [row["train_instances"] for row in result.per_class] == [5, 50, 500]
        assert result.warnings == ()


def test_a_renamed_class_among_many_is_a_warning(files):
    names = {i: f"class {i}" for i in range(1, 41)}
    (files / "val.json").write_text(json.dumps(content(names)))
    counts = counts_csv(files, [(i, "renamed" if i == 7 else name, i) for i, name in names.items()])
    (line,) = of_counts(measured(files, counts))
    assert "1 of 40 categories have other names" in line
    assert line.endswith("(id 7: 'renamed' there, 'class 7' here); they are matched by their ids")


def test_other_names_by_ids_that_were_asked_for(files):
    counts = counts_csv(files, [(1, "mug", 5), (2, "yak", 50), (3, "gnu", 500)])
    with pytest.raises(DataError, match="or say --match ids if they were only renamed"):
        measured(files, counts)
    result = measured(files, counts, match="ids")
    assert [row["train_instances"] for row in result.per_class] == [5, 50, 500]
    assert "id 1: 'mug' there, 'cup' here" in result.warnings[0]


@pytest.mark.parametrize("first", [0, 1])
def test_counts_of_labels_are_asked_about(files, first):
    (files / "val.json").write_text(json.dumps(content({1: "cup", 3: "yak", 4: "gnu"})))
    (files / "counts.csv").write_text("category_id,instances\n" + "".join(f"{first + n},5\n" for n in range(3)))
    labels, without = measured(files, files / "counts.csv").warnings
    assert f"ids that val.json lacks ({'0, 2' if first == 0 else '2'}), and its ids are {first}..{first + 2}" in labels
    assert "are in no group" in without
    # of a larger training set, names say that ids are ids
    rows = [(1, "cup", 5), (2, "eel", 5), (3, "yak", 5), (4, "gnu", 5)]
    assert measured(files, counts_csv(files, rows)).warnings == ()
