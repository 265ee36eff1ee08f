"""YOLO: lines, names, what cannot be read."""

import pytest

from lt_data.errors import DataError
from lt_data.importing.convert import import_annotations
from tests.lt_data.importing.trees import codes, load, picture, text, yolo_tree


def imported(tmp_path, files, **given):
    source = yolo_tree(tmp_path / "set", files)
    report = import_annotations(source, tmp_path / "out.json", "yolo", **given)
    return load(tmp_path / "out.json"), report


def refused(tmp_path, files, **given):
    with pytest.raises(DataError) as error:
        imported(tmp_path, files, **given)
    assert not (tmp_path / "out.json").exists()
    (problem,) = error.value.problems
    return problem


def test_lines_become_boxes_in_pixels(tmp_path):
    """64 x 48 px: a centre of 0.5, 0.25 and sides of 0.25, 0.5 are 24..40 and 0..24."""
    content, report = imported(
        tmp_path,
        {"train/b": "\ufeff1 0.5 0.25 0.25 0.5\r\n\r\n", "train/a": "0 0.5 0.5 1 1\n1 0.333333 0.5 0.1 0.1"},
    )
    assert [record["file_name"] for record in content["images"]] == ["images/train/a.jpg", "images/train/b.jpg"]
    assert [record["bbox"] for record in content["annotations"]] == [
        [0, 0, 64, 48],
        [18.1333, 21.6, 6.4, 4.8],
        [24, 0, 16, 24],
    ]
    assert [record["category_id"] for record in content["annotations"]] == [1, 2, 2]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert report.findings == ()


def test_an_empty_file_is_an_image_without_objects(tmp_path):
    content, report = imported(tmp_path, {"a": "", "b": "1 .5 .5 .1 .1\n0 .5 .5 .1 .1"})
    assert [record["image_id"] for record in content["annotations"]] == [2, 2]
    assert set(codes(report)) == {"LT208"}


def test_an_image_without_a_file_is_kept_and_told(tmp_path):
    picture(tmp_path / "set" / "images" / "z.jpg")
    content, report = imported(tmp_path, {"b": "1 .5 .5 .1 .1\n0 .5 .5 .1 .1"})
    assert len(content["images"]) == 2
    assert codes(report)["LT706"] == ("images/z.jpg",)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("0 0.5 0.5 0.1", "LT702", "'0 0.5 0.5 0.1' has 4 numbers, not 5"),
        ("0 .5 .5 .1 .1 .9", "LT702", "has 6 numbers, not 5"),
        ("cat .5 .5 .1 .1", "LT702", "no class number in front"),
        ("-1 .5 .5 .1 .1", "LT702", "no class number in front"),
        ("0 .5 .5 x .1", "LT702", "not four numbers"),
        ("0 .5 .5 -.1 .1", "LT702", "negative"),
        ("0 nan .5 .1 .1", "LT702", "not"),
        ("0 320 240 64 48", "LT702", "not shares of the image"),
        ("2 .5 .5 .1 .1", "LT703", "'2'; the names have '0', '1'"),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path, line, code, says):
    problem = refused(tmp_path, {"a": "0 .5 .5 .1 .1", "sub/bad": f"0 .5 .5 .1 .1\n\n{line}\n"})
    assert f": {code}: " in problem
    assert "(labels/sub/bad.txt line 3: " in problem
    assert says in problem


def test_a_file_that_is_no_text(tmp_path):
    assert "(labels/a.txt: no text in UTF-8)" in refused(tmp_path, {"a": b"\xff\xfe0"})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("data.yaml", "nc: 2\nnames: [cat, dog]", {1: "cat", 2: "dog"}),
        ("data.yaml", "path: ../x\nnames:\n  5: dog\n  0: cat\n", {1: "cat", 6: "dog"}),
        ("obj.names", "cat\ndog\n\n", {1: "cat", 2: "dog"}),
        ("my names.txt", "cat\r\ndog two\r\n", {1: "cat", 2: "dog two"}),
    ],
)
def test_files_of_names(tmp_path, name, content, expected):
    text(tmp_path / name, content)
    result, _ = imported(tmp_path, {"a": "0 .5 .5 .1 .1"}, names=tmp_path / name)
    assert {record["id"]: record["name"] for record in result["categories"]} == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data.yaml", "names: [cat, no]", "names has 1: False; numbers from 0 and texts are allowed"),
        ("data.yaml", "names: {a: cat}", "names has 'a': 'cat'"),
        ("data.yaml", "nc: 3\nnames: [cat, dog]", "nc is 3, and there are 2 names"),
        ("data.yaml", "train: x", "has no names"),
        ("data.yaml", "names: [cat", "not YAML"),
        ("data.yaml", "names: [cat, cat]", "the name 'cat' is used more than once"),
        ("n.txt", "cat\n\ndog", "class 1 has no name"),
        ("n.txt", "\n", "holds no names"),
        ("n.txt", b"\xff", "not UTF-8"),
    ],
)
def test_files_of_names_that_are_refused(tmp_path, name, content, says):
    text(tmp_path / name, content)
    problem = refused(tmp_path, {"a": "0 .5 .5 .1 .1"}, names=tmp_path / name)
    assert problem.startswith(f"{tmp_path / name}: ")
    assert says in problem


def test_names_are_looked_for_and_never_chosen_among(tmp_path):
    text(tmp_path / "set" / "data.yaml", "names: [dog, cat]")
    problem = refused(tmp_path, {"a": "0 .5 .5 .1 .1"})
    assert "2 files of names (data.yaml, classes.txt)" in problem
    for name in ("data.yaml", "classes.txt"):
        (tmp_path / "set" / name).unlink()
    with pytest.raises(DataError, match="no file of names, of data.yaml, "):
        import_annotations(tmp_path / "set", tmp_path / "out.json", "yolo")
