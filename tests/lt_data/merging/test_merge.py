"""`lt_data.merge`: nothing is lost or mixed up, whatever ids the files use."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_data import merge
from lt_data.errors import DataError, OutputError
from lt_data.merging.result import format_merge
from tests.lt_data.damage import lvis_file
from tests.lt_data.pools import pool, save

NAMES = ("crate", "barrel", "sack", "drum")


def named(content, prefix):
    """Images of another name in each file."""
    for image in content["images"]:
        image["file_name"] = f"{prefix}/{image['file_name']}"
    return content


def objects(content):
    """What a file says, whatever its ids: file name, category name and box of each object."""
    images = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    rows = content["annotations"]
    return sorted((images[row["image_id"]], names[row["category_id"]], tuple(row["bbox"])) for row in rows)


def run(tmp_path, *contents, **options):
    paths = [save(content, tmp_path / f"{number}.json") for number, content in enumerate(contents)]
    out = tmp_path / "out.json"
    report = merge(paths, out, force=True, **options)
    return json.loads(out.read_text(encoding="utf-8")), report


@st.composite
def files(draw):
    """Two to four files with ids of their own choice."""
    found = []
    for number in range(draw(st.integers(2, 4))):
        ids = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
        listed = draw(st.lists(st.integers(0, 6), min_size=len(names), max_size=len(names), unique=True))
        images = {i: draw(st.lists(st.sampled_from(listed), max_size=3)) for i in ids}
        found.append(
            named(pool(images, categories=listed, names=dict(zip(listed, names, strict=True))), f"folder{number}")
        )
    return found


@settings(max_examples=40)
@given(contents=files())
def test_nothing_is_lost_or_mixed_up(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("merge")
    mixed, report = run(folder, *contents)
    assert objects(mixed) == sorted(each for content in contents for each in objects(content))
    for key in ("images", "annotations", "categories"):
        ids = [row["id"] for row in mixed[key]]
        assert len(set(ids)) == len(ids)
    names = [category["name"] for category in mixed["categories"]]
    assert sorted(names) == sorted({c["name"] for content in contents for c in content["categories"]})
    assert not report.after.has_errors
    # the first file keeps every id, and the map is one to one within each file and list
    assert not [moved for moved in report.moved if moved.input == 1]
    assert len({moved[:4] for moved in report.moved}) == len(report.moved)
    again, _ = run(folder, *contents)
    assert again == mixed


def test_records_keep_their_bytes_where_ids_do(tmp_path):
    first = '{"images": [{"id": 1,  "file_name": "a.jpg","width":9,"height":9}], "annotations": [{"id":1,"image_id":1, '
    first += '"category_id": 5,"bbox":[1,1,2,2.50],"area":5 }], "categories": [{"id": 5 ,"name": "x"}]}'
    second = (
        first.replace("a.jpg", "b.jpg").replace('"category_id": 5', '"category_id": 6').replace('"id": 5', '"id": 6')
    )
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, text in zip(paths, (first, second), strict=True):
        path.write_text(text)
    merge(paths, tmp_path / "c.json")
    assert (tmp_path / "c.json").read_text() == (
        '{"images": [{"id": 1,  "file_name": "a.jpg","width":9,"height":9},\n'
        '{"id": 2,  "file_name": "b.jpg","width":9,"height":9}],\n'
        '"annotations": [{"id":1,"image_id":1, "category_id": 5,"bbox":[1,1,2,2.50],"area":5 },\n'
        '{"id":2,"image_id":2, "category_id": 5,"bbox":[1,1,2,2.50],"area":5 }],\n'
        '"categories": [{"id": 5 ,"name": "x"}]}\n'
    )
    with (tmp_path / "c.ids.csv").open(newline="") as handle:
        rows = [(row["input"], row["list"], row["old_id"], row["new_id"]) for row in csv.DictReader(handle)]
    assert rows == [("2", "images", "1", "2"), ("2", "annotations", "1", "2"), ("2", "categories", "6", "5")]


def test_a_folder_of_one_file_an_image(tmp_path):
    for name in ("b", "a", "c"):
        save(named(pool({1: [1]}, names={1: "crate"}), name), tmp_path / f"{name}.json")
    (tmp_path / "notes.txt").touch()
    report = merge([tmp_path], tmp_path / "all" / "out.json")
    content = json.loads(report.out.read_text())
    assert [(image["id"], image["file_name"][0]) for image in content["images"]] == [(1, "a"), (2, "b"), (3, "c")]
    assert [row["id"] for row in content["annotations"]] == [1, 2, 3]
    assert "1 a.json" in format_merge(report)
    assert json.loads(format_merge(report, "json"))["moved_ids"] == 4


def test_an_image_of_two_files(tmp_path):
    contents = pool({1: [1]}, names={1: "crate"}), pool({1: [2], 3: [2]}, names={2: "sack"})
    with pytest.raises(DataError, match=r"1 images are in an earlier file too, .* --on-same join, or list each twice"):
        run(tmp_path, *contents)
    assert not (tmp_path / "out.json").exists()
    joined, report = run(tmp_path, *contents, on_same="join")
    assert [image["id"] for image in joined["images"]] == [1, 3]
    assert [(row["image_id"], row["category_id"]) for row in joined["annotations"]] == [(1, 1), (1, 2), (3, 2)]
    assert (report.files[1].joined, len(report.notes)) == (1, 1)
    kept, report = run(tmp_path, *contents, on_same="keep")
    assert len(kept["images"]) == 3
    assert [finding.code for finding in report.left] == ["LT201"]


def test_images_are_the_same_by_their_bytes(tmp_path):
    """Under other names; and pictures that differ are two, though both are called 1.jpg."""
    folders = tmp_path / "one", tmp_path / "two"
    contents = pool({1: [1], 2: [1]}), pool({1: [1], 2: [1]})
    for folder, content, pictures in zip(folders, contents, ((b"aaaa", b"bbbb"), (b"cccc", b"aaaa")), strict=True):
        folder.mkdir()
        for image, picture in zip(content["images"], pictures, strict=True):
            (folder / image["file_name"]).write_bytes(picture)
    joined, report = run(tmp_path, *contents, images=folders, on_same="join")
    assert [file.joined for file in report.files] == [0, 1]
    assert [row["image_id"] for row in joined["annotations"]] == [1, 2, 3, 1]
    with pytest.raises(DataError, match="got 3 folders for 2 files"):
        run(tmp_path, *contents, images=(*folders, tmp_path))


def test_info_licenses_and_other_members(tmp_path):
    first, second = named(pool({1: [1]}), "a"), named(pool({1: [1]}), "b")
    first.update(info={"year": 1}, licenses=[{"id": 1, "name": "CC"}, {"id": 2, "name": "PD"}], extra=[1])
    second.update(info={"year": 2}, licenses=[{"id": 1, "name": "PD"}, {"id": 2, "name": "own"}], extra=[2])
    first["images"][0]["license"], second["images"][0]["license"] = 1, 2
    second["images"].append({**second["images"][0], "id": 5, "file_name": "b/c.jpg", "license": 1})
    # no license of its file: the number may be that of another file's
    second["images"].append({**second["images"][0], "id": 6, "file_name": "b/d.jpg", "license": 3})
    mixed, report = run(tmp_path, first, second)
    assert mixed["info"] == {"description": "merged", "merged": [{"year": 1}, {"year": 2}]}
    assert mixed["licenses"] == [{"id": 1, "name": "CC"}, {"id": 2, "name": "PD"}, {"id": 3, "name": "own"}]
    assert [image["license"] for image in mixed["images"]] == [1, 3, 2, None]
    assert mixed["extra"] == [1]
    assert [note.split(": ", 1)[1] for note in report.notes] == [
        "'extra' is another one than in an earlier file, and is left out",
        "1 images name a license that the file lacks; they have none now",
    ]


def test_licenses_that_no_file_lists_stay(tmp_path):
    first, second = named(pool({1: [1]}), "a"), named(pool({1: [1]}), "b")
    first["images"][0]["license"], second["images"][0]["license"] = 4, 5
    first["licenses"] = []
    mixed, report = run(tmp_path, first, second)
    assert [image["license"] for image in mixed["images"]] == [4, 5]
    assert (mixed["licenses"], report.notes) == ([], ())


def test_lvis_lists_and_counts(tmp_path):
    first, second = lvis_file(), lvis_file()
    for image in second["images"]:
        image["coco_url"] = image["coco_url"].replace("train2017/", "train2017/x")
        image["not_exhaustive_category_ids"] = [30]
    for row in second["annotations"]:
        row["category_id"] *= 10
    for category in second["categories"]:
        category["id"] *= 10
    for image in second["images"]:
        image["neg_category_ids"] = [10]
    mixed, _ = run(tmp_path, first, second)
    assert [c["id"] for c in mixed["categories"]] == [1, 2, 3]
    assert mixed["images"][5]["neg_category_ids"] == [1]
    assert mixed["images"][5]["not_exhaustive_category_ids"] == [3]
    stated = [(c["image_count"], c["instance_count"], c["frequency"]) for c in mixed["categories"]]
    assert stated == [(6, 12, "r"), (6, 6, "r"), (4, 4, "r")]
    # 3 is a category of the first file, not of the second
    second["images"][0]["neg_category_ids"] = [3]
    with pytest.raises(DataError, match=r"images\[0\]: neg_category_ids names a category that the file lacks"):
        run(tmp_path, first, second)


def test_what_is_refused(tmp_path):
    path = save(pool({1: [1]}), tmp_path / "a.json")
    with pytest.raises(DataError, match="1 file; give two or more, or a folder of them"):
        merge([path], tmp_path / "o.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no .json files in it"):
        merge([path, tmp_path / "empty"], tmp_path / "o.json")
    twice = save(named(pool({1: [1, 2]}, names={1: "x", 2: "x"}), "b"), tmp_path / "b.json")
    with pytest.raises(DataError, match="more than one category is called 'x'"):
        merge([path, twice], tmp_path / "o.json")
    with pytest.raises(OutputError, match="is read by this command"):
        merge([path, twice], path, force=True)
