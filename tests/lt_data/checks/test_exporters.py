"""`lt-data check` says which program wrote a file, by files in the shape that each writes."""

import json

import pytest

from lt_data.checks.check import check_data, check_file, format_report
from tests.lt_data.pools import pool, save

CVAT_INFO = dict.fromkeys(("contributor", "date_created", "description", "url", "version", "year"), "")
LABELME_INFO = {**dict.fromkeys(("description", "url", "version", "year", "contributor")), "date_created": "2024-01-01"}
VIA = "VIA project exported to COCO format using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via/)"
FILES = {
    "Roboflow": {"info": {"year": "2024", "version": "3", "description": "Exported from roboflow.com"}},
    "Label Studio": {"info": {"year": 2023, "version": "1.0", "description": "", "contributor": "Label Studio"}},
    "VIA (VGG Image Annotator)": {"info": {"year": 2021, "version": "1.0", "description": VIA}},
    "SuperAnnotate": {"info": {"url": "https://superannotate.ai", "contributor": "Superannotate AI"}},
    "labelme's converter (labelme2coco)": {
        "info": LABELME_INFO,
        "licenses": [{"url": None, "id": 0, "name": None}],
    },
    "CVAT or Datumaro": {"info": CVAT_INFO, "licenses": [{"name": "", "id": 0, "url": ""}]},
}


@pytest.mark.parametrize("name", FILES)
def test_the_program_is_named(tmp_path, name):
    report = check_file(save({**pool({1: [1]}), **FILES[name]}, tmp_path / "a.json"))
    assert [note.split(": ")[0] for note in report.notes] == [f"written by {name}"]
    assert f"note: written by {name}: " in format_report(report)
    assert json.loads(format_report(report, "json"))["notes"] == list(report.notes)


def test_records_tell_too(tmp_path):
    content = pool({1: [1]})
    content["images"][0]["file_name"] = "yard_jpg.rf.0123456789abcdef.jpg"
    assert "one side of a split" in check_file(save(content, tmp_path / "a.json")).notes[0]
    content = pool({1: [1]})
    content["annotations"][0]["attributes"] = {"occluded": False}
    assert "brush masks have iscrowd 1" in check_file(save(content, tmp_path / "b.json")).notes[0]


@pytest.mark.parametrize("info", [None, [], "x", {"description": None}, {"contributor": 7}])
def test_other_files_have_no_note(tmp_path, info):
    data = json.dumps({**pool({1: [1]}), "info": info}).encode()
    assert check_data(tmp_path / "a.json", data).notes == ()


def test_official_files_have_no_note(shared_data):
    for name in ("coco_real/annotations/instances_val2017.json", "lvis_val_100/lvis_val_100.json"):
        assert check_file(shared_data / name).notes == ()
