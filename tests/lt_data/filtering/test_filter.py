"""`lt_data.filter_annotations`: kept records keep their bytes, and what was dropped is counted."""

import json

import pytest

from lt_data import FilterOptions, filter_annotations
from lt_data.checks.check import check_file
from lt_data.errors import DataError, OutputError
from lt_data.filtering.choose import names_in
from lt_data.filtering.filter import format_filter
from lt_data.mending.document import Document
from tests.lt_data.damage import lvis_file
from tests.lt_data.pools import annotation, pool, save


@pytest.fixture
def path(tmp_path):
    names = {1: "crate", 2: "a, b", 3: "sack"}
    content = pool({1: [1, 2, 2], 2: [(1, "crowd")], 3: [3], 4: []}, categories=[1, 2, 3, 9], names=names)
    content["annotations"].append(annotation(90, 3, 2, box=(1.0, 1.0, 30.0, 20.0)))
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return file


def run(path, **options):
    out = path.with_name("out.json")
    report = filter_annotations(path, out, FilterOptions(**options), force=True)
    content = json.loads(out.read_text(encoding="utf-8"))
    old, new = (Document.of(file, file.read_bytes()).records for file in (path, out))
    for key in ("images", "annotations", "categories"):
        assert {bytes(record) for record in new[key]} <= {bytes(record) for record in old[key]}
        assert [record["id"] for record in content[key]] == [
            i for i in (json.loads(bytes(r))["id"] for r in old[key]) if i in {record["id"] for record in content[key]}
        ]
    assert not check_file(out).has_errors
    kept = {key: [record["id"] for record in content[key]] for key in ("images", "annotations", "categories")}
    return kept, report


def test_categories(path):
    kept, report = run(path, categories=("a, b", "3"))
    assert kept == {"images": [1, 2, 3, 4], "annotations": [2, 3, 5, 90], "categories": [2, 3]}
    assert report.dropped_annotations == {"of categories that were dropped": 2}
    assert report.dropped_categories == ("crate", "category 9")
    assert run(path, drop_categories=("crate", "9"))[0] == kept
    assert names_in(r"crate, a\, b,,3") == ("crate", "a, b", "3")


def test_sizes_leave_crowds_and_count_what_goes(path):
    kept, report = run(path, min_size=10)
    assert kept["annotations"] == [4, 90]
    assert (report.dropped_images, report.dropped_annotations) == (0, {"too small": 4})


def test_images_by_pattern_and_by_list(path):
    kept, report = run(path, images="*00[13].jpg")
    assert (kept["images"], kept["annotations"]) == ([1, 3], [1, 2, 3, 5, 90])
    assert (report.dropped_images, report.dropped_annotations) == (2, {"of images that were dropped": 1})
    names = path.with_name("names.txt")
    names.write_text("000000000001.jpg\n\n000000000003.jpg\n")
    assert run(path, images=names)[0] == kept
    names.write_text("000000000001.jpg\nmissing.jpg\n")
    with pytest.raises(DataError, match=r"1 of 2 names are no file_name of .* \('missing.jpg'\)"):
        run(path, images=names)


def test_rare_categories_are_counted_in_what_is_left(path):
    kept, _ = run(path, min_instances=2)
    assert (kept["categories"], kept["annotations"]) == ([2], [2, 3, 90])
    kept, report = run(path, min_instances=1, images="*001.jpg", drop_empty=True)
    assert kept == {"images": [1], "annotations": [1, 2, 3], "categories": [1, 2]}
    assert "dropped 2 categories: sack, category 9" in format_filter(report)
    assert json.loads(format_filter(report, "json"))["dropped"]["images"] == 3


def test_nothing_given_changes_nothing_but_the_ends_of_lines(path):
    kept, _ = run(path)
    assert json.loads(path.with_name("out.json").read_text()) == json.loads(path.read_text())
    assert len(kept["images"]) == 4


def test_lvis_says_what_is_left(tmp_path):
    content = lvis_file()
    content["annotations"][0]["bbox"] = [1.0, 2.0, 30.0, 40.0]
    path = save(content, tmp_path / "a.json")
    report = filter_annotations(path, tmp_path / "b.json", FilterOptions(min_size=5, drop_categories=("3",)))
    left = json.loads((tmp_path / "b.json").read_text())
    assert [(c["id"], c["image_count"], c["instance_count"]) for c in left["categories"]] == [(1, 1, 1), (2, 0, 0)]
    # objects that went are still to be seen; of a dropped category nothing is said
    assert [image["not_exhaustive_category_ids"] for image in left["images"]] == [[1, 2], [], [1, 2], [], [1, 2]]
    assert report.rewritten == (
        *("frequency", "image_count", "instance_count"),
        *("neg_category_ids", "not_exhaustive_category_ids"),
    )


def test_what_is_refused(path):
    out = path.with_name("out.json")
    for options, text in (
        ({"categories": ("crat",)}, "--categories: no category has the name or id 'crat'"),
        ({"categories": ("1",), "drop_categories": ("2",)}, "to keep and to drop are both given"),
        ({"min_size": float("nan")}, "min-size: got nan"),
        ({"min_instances": -1}, "min-instances: got -1"),
        ({"images": "x*"}, "--images: no file_name is like 'x\\*', for example '000000000001.jpg'"),
        ({"min_instances": 50}, "no category would be left"),
    ):
        with pytest.raises(DataError, match=text):
            filter_annotations(path, out, FilterOptions(**options))
    assert not out.exists()
    with pytest.raises(OutputError, match="is read by this command"):
        filter_annotations(path, path, force=True)
