"""Files that people give in place of an annotation file are called by their names."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.data import main

from lt_data.annotations.file import read_annotations
from lt_data.checks.check import check_file
from lt_data.errors import DataError
from tests.lt_data.findings import base

IMAGES = base()["images"]
CATEGORIES = base()["categories"]
VIA_IMAGE = {"filename": "a.jpg", "size": 5, "regions": [], "file_attributes": {}}
RESULT = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
CAPTIONS = {"images": IMAGES, "annotations": [{"id": 1, "image_id": 1, "caption": "a crate"}]}
PANOPTIC = {
    "images": IMAGES,
    "categories": CATEGORIES,
    "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 7, "category_id": 1}]}],
}
VIDEOS = {"videos": [{"id": 1}], "categories": CATEGORIES, "annotations": [{"id": 1, "video_id": 1}]}
LABELME = {"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": None}

FILES = {
    "captions": (json.dumps(CAPTIONS), "captions"),
    "panoptic": (json.dumps(PANOPTIC), "panoptic"),
    "videos": (json.dumps(VIDEOS), "YouTube-VIS"),
    "labelme": (json.dumps(LABELME), "labelme"),
    "via": (json.dumps({"a.jpg5": VIA_IMAGE}), "VGG Image Annotator"),
    "via project": (json.dumps({"_via_settings": {}, "_via_img_metadata": {"a.jpg5": VIA_IMAGE}}), "VGG Image"),
    "results": (json.dumps([RESULT]), "lt-train eval --predictions"),
    "list": ("[1]", "a JSON list"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "page": ("\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "xml": ('<?xml version="1.0"?><annotation/>', "is XML"),
    "lines": (f"{json.dumps(RESULT)}\n{json.dumps(RESULT)}\n", "JSON lines"),
    "comment": (f"// made by hand\n{json.dumps(base())}", "comment"),
    "cut": (json.dumps(base())[:300], "after 300 bytes: it was cut off; fetch it again"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_kind_is_named_in_one_line(tmp_path, kind):
    text, says = FILES[kind]
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (check_file, read_annotations):
        with pytest.raises(DataError) as error:
            read(path)
        assert len(error.value.problems) == 1
        assert str(path) in error.value.problems[0]
        assert says in error.value.problems[0]
    assert CliRunner().invoke(main, ["group-stats", str(path)]).exit_code == 1


def test_keypoints_and_captions_of_objects_are_object_annotations(tmp_path):
    content = base()
    for record in content["annotations"]:
        record.update(keypoints=[1, 2, 2], num_keypoints=1, caption="a crate")
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**content, "shapes": [], "_via_settings": {}}))
    assert len(read_annotations(path).annotation_ids) == 4
    assert check_file(path).findings == ()


def test_a_broken_annotation_file_stays_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**base(), "annotations": [{"id": 1}]}))
    assert "LT006" in {finding.code for finding in check_file(path).findings}
    path.write_text('{"images": [}')
    with pytest.raises(DataError, match="not a JSON object"):
        check_file(path)
