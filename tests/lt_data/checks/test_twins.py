"""One thing under two names, objects that are listed twice, and the lists of LVIS images."""

import pytest
from PIL import Image

from lt_data.annotations.file import read_annotations
from tests.lt_data.findings import base, found
from tests.lt_data.pools import save


@pytest.mark.parametrize(
    "name", ["./000000000001.jpg", ".//000000000001.jpg", ".\\000000000001.jpg", "a/../000000000001.jpg"]
)
def test_one_file_under_two_names(tmp_path, name):
    content = base()
    content["images"][2]["file_name"] = name
    finding = found(tmp_path, content)["LT214"]
    assert finding.count == 1
    assert "images[0] (id 1)" in finding.examples[0]
    assert "images[2] (id 3)" in finding.examples[0]


def test_links_count_where_files_are_looked_at(tmp_path):
    for number in (1, 2):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number:012d}.jpg")
    (tmp_path / f"{3:012d}.jpg").symlink_to(tmp_path / f"{2:012d}.jpg")
    assert "LT214" not in found(tmp_path, base())
    finding = found(tmp_path, base(), images=tmp_path)["LT214"]
    assert finding.examples == ("images[1] (id 2): '000000000002.jpg', images[2] (id 3): '000000000003.jpg'",)


def test_files_whose_names_differ_in_case_are_two(tmp_path):
    content = base()
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "a.jpg", "A.jpg"
    assert found(tmp_path, content) == {}


def test_the_other_file_may_write_the_name_in_another_way(tmp_path):
    other = base()
    other["images"] = [{**other["images"][0], "file_name": "./000000000001.jpg"}]
    other["annotations"] = []
    findings = found(tmp_path, base(), other=save(other, tmp_path / "val.json"))
    assert findings["LT601"].count == 1


def test_crowds_and_other_boxes_are_no_repetition(tmp_path):
    content = base()
    first = content["annotations"][0]
    crowd = {**first, "iscrowd": 1}
    moved = {**first, "bbox": [1.5, 2, 3, 4]}
    without = {key: value for key, value in first.items() if key not in ("bbox", "segmentation")}
    content["annotations"] += [crowd, crowd, moved, without, without]
    for number, record in enumerate(content["annotations"], start=1):
        content["annotations"][number - 1] = {**record, "id": number}
    assert "LT109" not in found(tmp_path, content)
    content["annotations"].append({**first, "id": 99, "bbox": [1.0, 2.0, 3, 4.0]})
    assert found(tmp_path, content)["LT109"].count == 1


def test_ignore_counts_where_it_is_one_and_no_crowd(tmp_path):
    content = base()
    for record, value in zip(content["annotations"], (1, 0, True, 1), strict=True):
        record["ignore"] = value
    content["annotations"][3]["iscrowd"] = 1
    assert found(tmp_path, content)["LT219"].count == 2


@pytest.mark.parametrize("value", ["1", "true", "True", 1.0])
def test_ignore_may_be_written_as_text(tmp_path, value):
    content = base()
    content["annotations"][0]["ignore"] = value
    assert found(tmp_path, content)["LT219"].count == 1
    assert read_annotations(tmp_path / "a.json").ignored.tolist() == [True, False, False, False]


@pytest.mark.parametrize("value", ["0", "", "false", None, [1], {"1": 1}, 2])
def test_what_else_ignore_says_is_nothing(tmp_path, value):
    content = base()
    content["annotations"][0]["ignore"] = value
    assert found(tmp_path, content) == {}


def test_an_accent_is_part_of_its_letter_or_a_character_of_its_own(tmp_path):
    content = base()
    content["categories"][0]["name"], content["categories"][1]["name"] = "caf\u00e9", "Cafe\u0301"
    assert found(tmp_path, content)["LT213"].count == 1
    content["categories"][1]["name"] = "Cafe"
    assert "LT213" not in found(tmp_path, content)


def test_a_category_in_the_lists_of_two_images_is_no_contradiction(tmp_path):
    content = base()
    lists = [([2], []), ([], [2]), ([], [])]
    # image 3 has category 2, image 1 has both
    for image, (negative, partly) in zip(content["images"][::-1], lists[::-1], strict=True):
        image.update(neg_category_ids=negative, not_exhaustive_category_ids=partly)
    assert "LT222" not in found(tmp_path, content)


def test_files_without_lists_have_nothing_to_say_of_them(tmp_path):
    content = base()
    assert found(tmp_path, content) == {}
    for image in content["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[1])
    assert found(tmp_path, content) == {}
    del content["images"][1]["neg_category_ids"]
    content["images"][2]["not_exhaustive_category_ids"] = ["1"]
    findings = found(tmp_path, content)
    assert {code: finding.count for code, finding in findings.items()} == {"LT217": 1, "LT218": 1}


def test_an_annotation_of_another_image_is_no_contradiction(tmp_path):
    content = base()
    for image in content["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
    # image 2 holds category 1 only
    content["images"][1]["neg_category_ids"] = [2]
    assert found(tmp_path, content) == {}
    content["images"][1]["neg_category_ids"] = [1, 2, 77]
    findings = found(tmp_path, content)
    assert findings["LT216"].examples == ("images[1] (id 2): neg_category_ids has 1",)
    assert findings["LT215"].examples == ("images[1] (id 2): neg_category_ids has 77",)


def test_whole_floats_in_a_list_are_ids(tmp_path):
    content = base()
    for image in content["images"]:
        image.update(neg_category_ids=[77.0], not_exhaustive_category_ids=[])
    content["images"][1]["neg_category_ids"] = [1.5]
    findings = found(tmp_path, content)
    assert findings["LT217"].examples == ("images[1] (id 2): neg_category_ids is [1.5]",)
    assert findings["LT215"].examples[0] == "images[0] (id 1): neg_category_ids has 77"


@pytest.mark.parametrize("name", ["traffic_light", "Traffic-Light", " traffic  light"])
def test_categories_whose_names_differ_in_signs_between_words(tmp_path, name):
    content = base()
    content["categories"][0]["name"], content["categories"][1]["name"] = "traffic light", name
    assert found(tmp_path, content)["LT213"].count == 1
