"""Pascal VOC: boxes, difficult objects, what cannot be read."""

import time

import pytest

from lt_data.errors import DataError
from lt_data.importing.convert import import_annotations
from lt_data.importing.options import ImportOptions
from tests.lt_data.importing.trees import codes, load, text, voc, voc_object, voc_tree


def imported(tmp_path, files, **options):
    source, images = voc_tree(tmp_path, files)
    given = {key: options.pop(key) for key in ("names",) if key in options}
    report = import_annotations(
        source, tmp_path / "out.json", "voc", images=images, options=ImportOptions(**options), **given
    )
    return load(tmp_path / "out.json"), report


def refused(tmp_path, content, **given):
    source, images = voc_tree(tmp_path, {"good": voc(voc_object()), "sub/bad": content})
    with pytest.raises(DataError) as error:
        import_annotations(source, tmp_path / "out.json", "voc", images=images, **given)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    (problem,) = error.value.problems
    assert problem.startswith(f"{source}: LT7")
    return problem


def test_a_tree_of_folders_becomes_one_file_in_the_order_of_names(tmp_path):
    content, report = imported(
        tmp_path,
        {
            "b": voc(voc_object("dog", (0, 0, 64, 48))),
            "a/2": voc(voc_object("cat", (1.5, 2, 11, 22.25)), voc_object("ant", (3, 4, 5, 6))),
            "a/10": voc(),
        },
    )
    assert content == {
        "images": [
            {"id": 1, "file_name": "a/10.png", "width": 64, "height": 48},
            {"id": 2, "file_name": "a/2.png", "width": 64, "height": 48},
            {"id": 3, "file_name": "b.png", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 2,
                "category_id": 2,
                "bbox": [1.5, 2, 9.5, 20.25],
                "area": 192.375,
                "iscrowd": 0,
            },
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [3, 4, 2, 2], "area": 4, "iscrowd": 0},
            {"id": 3, "image_id": 3, "category_id": 3, "bbox": [0, 0, 64, 48], "area": 3072, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    assert (report.images, report.annotations, report.categories) == (3, 3, 3)
    assert codes(report) == {"LT208": ("a/10.png",)}


def test_pixels_that_are_counted_from_1(tmp_path):
    """An object over the whole image is 1 to 64 there: it begins at the edge 0 and ends at the edge 64."""
    whole = {"a": voc(voc_object(box=(1, 1, 64, 48)))}
    content, _ = imported(tmp_path / "0", whole)
    assert content["annotations"][0]["bbox"] == [1, 1, 63, 47]
    content, report = imported(tmp_path / "1", whole, one_based=True)
    assert content["annotations"][0]["bbox"] == [0, 0, 64, 48]
    assert codes(report) == {}


def test_a_source_that_counts_from_0_after_all(tmp_path):
    _, report = imported(tmp_path, {"a": voc(voc_object(), voc_object(box=(3, 0, 64, 48)))}, one_based=True)
    assert codes(report)["LT708"] == ("a.xml object 2: name 'cat', xmin '3', ymin '0', xmax '64', ymax '48'",)


@pytest.mark.parametrize(
    ("difficult", "crowds", "told"),
    [("crowd", [0, 1, 0], {"LT209"}), ("drop", [0, 0], {"LT707"}), ("keep", [0, 0, 0], set())],
)
def test_difficult_objects(tmp_path, difficult, crowds, told):
    objects = (voc_object(), voc_object(box=(5, 5, 9, 9), difficult=1), voc_object(box=(20, 5, 39, 9), difficult=0))
    content, report = imported(tmp_path, {"a": voc(*objects)}, difficult=difficult)
    assert [record["iscrowd"] for record in content["annotations"]] == crowds
    assert [record["id"] for record in content["annotations"]] == list(range(1, len(crowds) + 1))
    assert set(codes(report)) == told


def test_parts_of_an_object_and_white_space_are_no_objects_and_no_names(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>"
    content, _ = imported(tmp_path, {"a": voc(voc_object("\n  cat\n", more=part))})
    assert [record["bbox"] for record in content["annotations"]] == [[1, 2, 10, 20]]
    assert [record["name"] for record in content["categories"]] == ["cat"]


def test_an_encoding_that_the_file_declares(tmp_path):
    content = voc(voc_object("café"), head='<?xml version="1.0" encoding="ISO-8859-1"?>').encode("latin-1")
    assert imported(tmp_path, {"a": content})[0]["categories"] == [{"id": 1, "name": "café"}]


def test_names_give_ids_and_order(tmp_path):
    text(tmp_path / "names.txt", "dog\nbird\ncat\n")
    content, report = imported(tmp_path, {"a": voc(voc_object("cat"))}, names=tmp_path / "names.txt")
    assert [(record["id"], record["name"]) for record in content["categories"]] == [(1, "dog"), (2, "bird"), (3, "cat")]
    assert content["annotations"][0]["category_id"] == 3
    assert set(codes(report)) == {"LT207"}


def test_a_class_that_the_names_lack(tmp_path):
    text(tmp_path / "names.txt", "cat")
    problem = refused(tmp_path, voc(voc_object(), voc_object("dog")), names=tmp_path / "names.txt")
    assert "LT703: the class of an object is not among the names: 1 (sub/bad.xml object 2: 'dog'; the names" in problem


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (voc_object(box=("x", 2, 11, 22)), "sub/bad.xml object 1: name 'cat', xmin 'x', ymin '2'"),
        (voc_object(box=(12, 2, 11, 22)), "xmin '12', ymin '2', xmax '11'"),
        (voc_object(box=("nan", 2, 11, 22)), "xmin 'nan'"),
        (voc_object(box=(1, 2, "inf", 22)), "xmax 'inf'"),
        (voc_object(name=" "), "name ''"),
        (voc_object(difficult="maybe"), "difficult 'maybe'"),
        ("<object><name>cat</name></object>", "xmin is missing"),
    ],
)
def test_an_object_that_cannot_be_read(tmp_path, broken, says):
    problem = refused(tmp_path, voc(broken))
    assert "LT702: an object cannot be read: 1 (sub/bad.xml object 1: " in problem
    assert says in problem


BOMB = "<!DOCTYPE a [" + '<!ENTITY e0 "ha">'
BOMB += "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 30)) + "]>"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not well-formed XML (no element found: line 1, column 0)"),
        ("<annotation><object></annotation>", "not well-formed XML (mismatched tag: line 1, column 22)"),
        (b"<annotation>\xff</annotation>", "not well-formed XML"),
        ('<?xml version="1.0" encoding="martian"?><annotation/>', "not well-formed XML"),
        ("<annotations/>", "it begins with <annotations> instead of <annotation>"),
        (voc(voc_object("&e29;"), head=BOMB), "it has a document type (DOCTYPE)"),
        (
            voc(voc_object("&x;"), head='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'),
            "it has a document type (DOCTYPE)",
        ),
    ],
)
def test_a_file_that_cannot_be_read_or_must_not_be(tmp_path, content, says):
    begun = time.process_time()
    problem = refused(tmp_path, content)
    assert "LT701: a file of annotations cannot be read: 1 (sub/bad.xml: " in problem
    assert says in problem
    assert time.process_time() - begun < 20


def test_another_size_than_the_images_is_told_and_that_of_the_image_taken(tmp_path):
    sizes = {"a": (48, 64), "b": (0, 0), "c": None}
    files = {name: voc(voc_object(), size=size) for name, size in sizes.items()}
    content, report = imported(tmp_path, files)
    assert {(record["width"], record["height"]) for record in content["images"]} == {(64, 48)}
    assert codes(report) == {"LT503": ("a.png: 64 x 48 px, a.xml says 48 x 64 (turned)",)}


def test_what_check_finds_is_told_by_the_place_in_the_source(tmp_path):
    """It is written all the same, as the source has it."""
    wrong = (voc_object(box=(70, 2, 80, 9)), voc_object(box=(9, 9, 9, 9)))
    files = {"a": voc(voc_object()), "b": voc(voc_object(), *wrong)}
    content, report = imported(tmp_path, files)
    assert [record["bbox"] for record in content["annotations"]][2:] == [[70, 2, 10, 7], [9, 9, 0, 0]]
    found = codes(report)
    assert found["LT305"][0].startswith("b.xml object 2: bbox [70, 2, 10, 7]")
    assert found["LT304"][0].startswith("b.xml object 3: ")
    assert report.has_errors
