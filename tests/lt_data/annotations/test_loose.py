"""Files that keep their ids or side fields in another way than most: who reads them, and who refuses."""

import json

import pytest

from lt_data.annotations.file import read_annotations
from lt_data.annotations.problems import structural_problems
from lt_data.checks.check import check_file
from lt_data.counts.class_weights import class_weight_table
from lt_data.counts.group_stats import group_stats
from lt_data.counts.repeat_factor_table import format_repeat_factors, repeat_factor_table
from lt_data.counts.training import load_train_counts
from lt_data.errors import DataError
from tests.lt_data.pools import pool, save

IMAGES = {1: [1, 1, 2], 2: [2, (1, "crowd")], 3: [1], 4: []}


def content():
    return pool(IMAGES)


def with_image_ids(make):
    """The same file with other ids for its images."""
    changed = content()
    for image in changed["images"]:
        image["id"] = make(image["id"])
    for record in changed["annotations"]:
        record["image_id"] = make(record["image_id"])
    return changed


def counted(path):
    stats, factors = group_stats(path, (2,)), repeat_factor_table(path, 0.9)
    counts = load_train_counts(path)
    return (
        (stats.instances, stats.images_with_annotations, [(g.categories, g.images) for g in stats.groups]),
        factors.factors.tolist(),
        (counts.instances.tolist(), counts.images.tolist(), counts.names),
        class_weight_table(path, kind="inverse").weights.tolist(),
    )


@pytest.fixture
def as_usual(tmp_path):
    return counted(save(content(), tmp_path / "usual.json"))


def test_whole_floats_are_ids_everywhere(tmp_path, as_usual):
    changed = with_image_ids(float)
    for record in (*changed["annotations"], *changed["categories"]):
        record["id"] = float(record["id"])
    for record in changed["annotations"]:
        record["category_id"] = float(record["category_id"])
    path = save(changed, tmp_path / "a.json")
    file = read_annotations(path)
    assert file.image_ids.tolist() == [1, 2, 3, 4]
    assert file.annotation_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert counted(path) == as_usual
    assert {f.code for f in check_file(path).findings} == {"LT109", "LT208", "LT209"}


@pytest.mark.parametrize("value", [1.5, 2.0**54, "1", None, True, [1]])
def test_what_is_no_whole_number_is_no_id(tmp_path, value):
    changed = content()
    changed["annotations"][0]["category_id"] = value
    with pytest.raises(DataError, match=r"LT00[78]: .*annotations\[0\]: category_id is"):
        read_annotations(save(changed, tmp_path / "a.json"))


def test_a_float_beyond_exact_numbers_is_called_too_large(tmp_path):
    changed = content()
    changed["annotations"][0]["id"] = 1e300
    with pytest.raises(DataError, match=r"LT008: an id is too large: 1 \(annotations\[0\]: id is 1e\+300"):
        read_annotations(save(changed, tmp_path / "a.json"))


@pytest.mark.parametrize("make", ["cam-{}".format, str, "\u4e2d{}".format])
def test_text_for_image_ids_is_counted_and_nothing_else(tmp_path, as_usual, make):
    path = save(with_image_ids(make), tmp_path / "a.json")
    assert counted(path) == as_usual
    rows = format_repeat_factors(repeat_factor_table(path, 0.9), "csv").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [make(i) for i in IMAGES]
    file = read_annotations(path, only_matched=True)
    assert file.written_image_ids() == [make(i) for i in IMAGES]
    with pytest.raises(DataError, match="LT010: .*give each image a number") as error:
        read_annotations(path)
    assert error.value.problems == structural_problems(path)
    assert structural_problems(path, only_matched=True) == []


def test_text_is_never_the_number_that_it_shows(tmp_path):
    changed = content()
    for record in changed["annotations"]:
        record["image_id"] = str(record["image_id"])
    path = save(changed, tmp_path / "a.json")
    with pytest.raises(DataError, match=r"LT007: .*annotations\[0\]: image_id is '1'.*image_id as images has it"):
        group_stats(path)
    # that images are without annotations, or categories without instances, would only follow from it
    assert {f.code for f in check_file(path).findings} == {"LT007", "LT109", "LT209"}
    changed = with_image_ids(str)
    changed["annotations"][0]["image_id"] = 1
    with pytest.raises(DataError, match=r"LT007: .*annotations\[0\]: image_id is 1 "):
        group_stats(save(changed, path))


def test_images_with_ids_of_both_kinds_are_refused(tmp_path):
    changed = with_image_ids(str)
    changed["images"][3]["id"] = 4
    path = save(changed, tmp_path / "a.json")
    with pytest.raises(DataError, match=r"LT007: .*images\[0\]: id is '1'"):
        group_stats(path)
    assert "LT104" not in {f.code for f in check_file(path).findings}


def test_text_ids_are_looked_up_and_shown_as_they_are(tmp_path):
    changed = with_image_ids("cam-{}".format)
    changed["annotations"][0]["image_id"] = "cam-9"
    path = save(changed, tmp_path / "a.json")
    with pytest.raises(DataError, match=r"LT104: .*annotations\[0\] \(id 1\): image_id 'cam-9'"):
        group_stats(path)
    changed = with_image_ids("cam-{}".format)
    changed["images"][3]["id"] = "cam-1"
    with pytest.raises(DataError, match=r"LT101: .*\(id 'cam-1': images\[0\], images\[3\]\)"):
        group_stats(save(changed, path))


def test_repeated_annotation_ids_stop_nothing_that_only_counts(tmp_path, as_usual):
    changed = content()
    for record in changed["annotations"]:
        record["id"] = 1
    path = save(changed, tmp_path / "a.json")
    assert counted(path) == as_usual
    with pytest.raises(DataError, match="LT102: an annotation id occurs more than once: 1 "):
        read_annotations(path)
    # what stops counting is told without what does not
    changed["annotations"][0]["category_id"] = 77
    with pytest.raises(DataError) as error:
        group_stats(save(changed, path))
    assert [line.split(": ")[1] for line in error.value.problems] == ["LT105"]


def test_equal_category_records_count_once_and_others_stop(tmp_path, as_usual):
    changed = content()
    changed["categories"] = [*changed["categories"], *content()["categories"], *content()["categories"]]
    path = save(changed, tmp_path / "a.json")
    assert counted(path) == as_usual
    with pytest.raises(DataError, match="LT111: equal records of a category"):
        read_annotations(path)
    assert {f.code for f in check_file(path).findings} == {"LT109", "LT111", "LT208", "LT209"}
    changed["categories"][4]["name"] = "another"
    with pytest.raises(DataError) as error:
        group_stats(save(changed, path))
    assert [line.split(": ")[1] for line in error.value.problems] == ["LT103"]


SIDE_FIELDS = {
    "images": {"width": "64", "height": 48.5, "file_name": 12, "coco_url": {}},
    "categories": {"name": 10, "frequency": 3, "image_count": "4", "instance_count": 2.5, "supercategory": [1]},
}


@pytest.mark.parametrize(("key", "field"), [(key, field) for key, fields in SIDE_FIELDS.items() for field in fields])
def test_side_fields_stop_nobody_who_does_not_use_them(tmp_path, as_usual, key, field):
    changed = content()
    changed[key][0][field] = SIDE_FIELDS[key][field]
    path = save(changed, tmp_path / "a.json")
    assert counted(path)[:2] == as_usual[:2]
    file = read_annotations(path)
    assert len(file.annotation_ids) == 6
    codes = {f.code for f in check_file(path).findings}
    assert ("LT011" in codes) == (field != "supercategory")


def test_side_fields_that_cannot_be_used_count_as_missing(tmp_path):
    changed = content()
    changed["images"][0].update(SIDE_FIELDS["images"])
    changed["categories"][0].update(SIDE_FIELDS["categories"])
    changed["categories"][1].update(frequency="r", instance_count=9.0)
    file = read_annotations(save(changed, tmp_path / "a.json"))
    assert file.image_sizes.tolist() == [[0, 0], *[[64, 48]] * 3]
    assert file.file_names[:2] == ["", "000000000002.jpg"]
    assert file.categories.names == ("10", "category 2")
    assert file.categories.frequencies is None
    assert file.categories.header_instances.tolist() == [-1, 9]


def not_finite(key, field, value):
    changed = content()
    changed[key][0][field] = value
    # a word within a text is no number
    changed["images"][1]["file_name"] = "NaN, \\ Infinity.jpg"
    return changed


NAN, MINUS_INFINITY = float("nan"), float("-inf")


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("annotations", "bbox", [NAN, 1, MINUS_INFINITY, 3]),
        ("annotations", "area", NAN),
        ("annotations", "segmentation", [[1, 2, NAN, 4, 5, 6]]),
        ("images", "width", NAN),
        ("images", "flickr_url", NAN),
        ("categories", "instance_count", float("inf")),
        ("categories", "supercategory", NAN),
    ],
)
def test_numbers_that_json_does_not_have_stop_no_counting(tmp_path, as_usual, key, field, value):
    path = save(not_finite(key, field, value), tmp_path / "a.json")
    assert counted(path) == as_usual
    file = read_annotations(path, only_matched=True)
    assert file.file_names[1] == "NaN, \\ Infinity.jpg"
    # who looks at records, and who copies them, needs JSON
    for read in (lambda: file.boxes, lambda: read_annotations(path)):
        with pytest.raises(DataError, match="LT004: NaN or Infinity stands for a number"):
            read()


@pytest.mark.parametrize("field", ["id", "image_id", "category_id", "iscrowd"])
def test_ids_that_are_no_numbers_stop_counting_in_one_line(tmp_path, field):
    path = save(not_finite("annotations", field, NAN), tmp_path / "a.json")
    with pytest.raises(DataError) as error:
        group_stats(path)
    (line,) = error.value.problems
    assert f"LT007: an id or iscrowd has a wrong type: 1 (annotations[0]: {field} is nan" in line


def test_crowd_flags_are_no_side_field(tmp_path):
    changed = content()
    changed["annotations"][0]["iscrowd"] = "0"
    with pytest.raises(DataError, match=r"LT007: .*annotations\[0\]: iscrowd is '0'"):
        group_stats(save(changed, tmp_path / "a.json"))


def test_boxes_and_areas_in_quotes_are_told_without_the_quotes(tmp_path):
    changed = content()
    changed["annotations"][0].update(bbox=[1, 2, "3.0", "4.0"], area="12")
    path = save(changed, tmp_path / "a.json")
    (finding,) = [f for f in check_file(path).findings if f.code == "LT302"]
    assert finding.count == 2
    assert finding.fix.startswith("write numbers without quotes")
    assert group_stats(path).instances == 5


def test_a_list_that_is_null_is_not_called_missing(tmp_path):
    (line,) = structural_problems(save({**content(), "annotations": None}, tmp_path / "a.json"))
    assert "LT002: a member is not a list: 1 ('annotations' is null)" in line


def test_the_category_that_groups_all_others_is_named(tmp_path):
    changed = pool(IMAGES, categories=[0, 1, 2], names={0: "goods"})
    for category in changed["categories"]:
        category["supercategory"] = "none" if category["id"] == 0 else "goods"
    (finding,) = [f for f in check_file(save(changed, tmp_path / "a.json")).findings if f.code == "LT207"]
    assert finding.examples == ("categories[0] (id 0) 'goods': the supercategory of all others, as Roboflow writes it",)
    changed["categories"][2]["supercategory"] = "other"
    (finding,) = [f for f in check_file(save(changed, tmp_path / "a.json")).findings if f.code == "LT207"]
    assert finding.examples == ("categories[0] (id 0) 'goods'",)


def test_images_with_crowds_only_are_not_without_annotations(tmp_path):
    from lt_data.counts.group_stats import format_stats

    stats = group_stats(save(pool({1: [1], 2: [(1, "crowd")], 3: []}), tmp_path / "a.json"))
    assert (stats.images, stats.images_with_annotations, stats.images_with_crowds_only) == (3, 1, 1)
    assert "3 images in the file, 1 of them without annotations, 1 with crowds only" in format_stats(stats)
    assert json.loads(format_stats(stats, "json"))["images_with_crowds_only"] == 1
