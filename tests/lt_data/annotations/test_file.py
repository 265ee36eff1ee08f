"""Reading COCO and LVIS files, and writing kept records back byte for byte."""

import gzip
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.annotations.problems import structural_problems
from lt_data.annotations.subset import write_subset
from lt_data.errors import DataError

HOSTILE = (
    '{ "licenses":[{"id":1,"name":"a \\"]}\\u00e9 {["}],\n  "annotations" : [\n'
    '   {"iscrowd":0, "id" : 7,"image_id":2,"category_id":90,"bbox":[1,2,3.50,4],'
    '"area":14,"segmentation":[[1,2,3,2,3,4]]} ,\n'
    '{"category_id":3,"image_id":1,"id":9007199254740992,"note":"}],{","area":1e1,"bbox":[0,0,2,5]}],'
    '"categories":[{"name":"z\u00fcg","id":90},{"id":3,"name":"a"}],"info":{},'
    '"images":[{"id":2,"width":10,"height":20,"file_name":"b.jpg"},'
    '{"coco_url":"http://x.org/train2017/000000000001.jpg","height":5,"id":1,"width":6}]}'
)


def write(tmp_path, text):
    path = tmp_path / "annotations.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_any_key_order_whitespace_and_escapes(tmp_path):
    file = read_annotations(write(tmp_path, HOSTILE))
    assert file.image_ids.tolist() == [2, 1]
    assert file.image_sizes.tolist() == [[10, 20], [6, 5]]
    assert file.file_names == ["b.jpg", "000000000001.jpg"]
    assert file.annotation_ids.tolist() == [7, 2**53]
    assert file.annotation_category_ids.tolist() == [90, 3]
    assert file.crowd.tolist() == [False, False]
    assert file.areas.tolist() == [14, 10]
    assert file.boxes.tolist() == [[1, 2, 3.5, 4], [0, 0, 2, 5]]
    assert file.categories.names == ("z\u00fcg", "a")
    assert file.image_index().tolist() == [0, 1]
    assert file.segmentation(0) == [[1, 2, 3, 2, 3, 4]]
    assert file.segmentation(1) is None


def test_kept_records_and_other_members_keep_their_bytes(tmp_path):
    path = write(tmp_path, HOSTILE)
    file = read_annotations(path)
    out = tmp_path / "out.json"
    write_subset(file, out, images=np.array([False, True]), annotations=np.array([False, True]))
    text = out.read_text(encoding="utf-8")
    whole, part = json.loads(HOSTILE), json.loads(text)
    assert list(part) == list(whole)
    assert part["images"] == whole["images"][1:]
    assert part["annotations"] == whole["annotations"][1:]
    assert {k: part[k] for k in ("licenses", "categories", "info")} == {
        k: whole[k] for k in ("licenses", "categories", "info")
    }
    for record in (*file.annotation_records[1:], *file.image_records[1:], file.members["licenses"]):
        assert bytes(record).decode() in text
        assert bytes(record).decode() in HOSTILE


def test_everything_kept_is_everything(tmp_path):
    path = write(tmp_path, HOSTILE)
    file = read_annotations(path)
    write_subset(file, tmp_path / "out.json", images=np.ones(2, bool), annotations=np.ones(2, bool))
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == json.loads(HOSTILE)


GOOD = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("nonsense", "not a JSON object"),
        ("[]", "not an annotation file"),
        (json.dumps({**GOOD, "images": 3}), r"LT002: .*'images'"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "categories"}), r"LT001: .*'categories'"),
        (json.dumps({**GOOD, "categories": []}), "LT005: .*at least one category"),
        (json.dumps({**GOOD, "images": [{"id": 1}, {"id": 1}]}), "LT101: an image id occurs more than once: 1 "),
        (json.dumps({**GOOD, "images": [{"id": "one"}]}), r"LT010: .*images\[0\]: 'one'.*give each image a number"),
        (json.dumps({**GOOD, "images": [{"id": "one"}, {"id": 2}]}), r"LT007: .*images\[0\]"),
        (json.dumps({**GOOD, "images": None}), "LT002: .*'images' is null"),
        (json.dumps({**GOOD, "images": [{"id": 2**53 + 1}]}), r"LT008: .*2\^53"),
        (json.dumps({**GOOD, "annotations": [{"id": 1, "image_id": 5, "category_id": 1}]}), "LT104: .*image_id 5"),
        (json.dumps({**GOOD, "annotations": [{"id": 1, "image_id": 1, "category_id": 5}]}), "LT105: .*category_id 5"),
        (json.dumps({**GOOD, "annotations": [{"id": 1, "image_id": 1}]}), r"LT006: .*annotations\[0\]: category_id"),
    ],
)
def test_bad_files_are_one_line_each(tmp_path, text, says):
    with pytest.raises(DataError, match=says) as error:
        read_annotations(write(tmp_path, text))
    assert all("\n" not in problem for problem in error.value.problems)


def test_harmless_nulls_and_whole_floats(tmp_path):
    content = {
        "images": [
            {"id": 1, "width": 100.0, "height": 80.0, "file_name": "a.jpg", "coco_url": None},
            {"id": 2, "width": None, "height": None, "file_name": None, "coco_url": "http://x.org/b.jpg"},
            {"id": 3, "file_name": None, "coco_url": None},
        ],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "iscrowd": crowd, "bbox": None, "area": None}
            for i, crowd in enumerate([None, 0.0, 1.0, 1, True, False])
        ],
        "categories": [{"id": 1, "name": None}],
    }
    file = read_annotations(write(tmp_path, json.dumps(content)))
    assert file.image_sizes.tolist() == [[100, 80], [0, 0], [0, 0]]
    assert file.file_names == ["a.jpg", "b.jpg", ""]
    assert file.crowd.tolist() == [False, False, True, True, True, False]
    assert file.categories.names == ("1",)
    assert np.isnan(file.boxes).all()


def test_useless_urls_and_header_counts_are_no_reason_to_stop(tmp_path):
    images = [{"id": 1, "coco_url": "http://[x"}]
    categories = [{"id": 1, "instance_count": 10**25}, {"id": 2, "instance_count": 3}, {"id": 3}]
    file = read_annotations(write(tmp_path, json.dumps({**GOOD, "images": images, "categories": categories})))
    assert file.file_names == [""]
    assert file.categories.header_instances.tolist() == [2**63 - 1, 3, -1]


def test_what_is_read_later_is_refused_in_one_line_too(tmp_path):
    text = HOSTILE.replace("[[1,2,3,2,3,4]]", "[[1,2,3,2,3,1e999]]").encode().replace(b'"info"', b'"in\xfffo"')
    path = tmp_path / "annotations.json"
    path.write_bytes(text)
    file = read_annotations(path)
    with pytest.raises(DataError, match=r"annotations\[0\]: Number out of range .*mend this record"):
        file.segmentation(0)
    with pytest.raises(DataError, match="a member cannot be read"):
        file.members  # noqa: B018


def test_an_archive_that_needs_a_password(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", HOSTILE)
    data = bytearray(path.read_bytes())
    # the bit that says encrypted, in both headers
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a whole \.zip file \(.*password"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("key", "record"),
    [
        ("images", {"id": 1.5}),
        ("annotations", {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0.5}),
        ("annotations", {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": "0"}),
        ("annotations", {"id": 1, "image_id": None, "category_id": 1}),
    ],
)
def test_what_is_not_harmless_is_still_refused(tmp_path, key, record):
    with pytest.raises(DataError, match=rf"LT007: an id or iscrowd has a wrong type: .*{key}\[0\]: "):
        read_annotations(write(tmp_path, json.dumps({**GOOD, key: [record]})))


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".zip"])
def test_progress_counts_bytes_to_the_end(tmp_path, suffix):
    text = json.dumps({**GOOD, "info": "x" * 2**25}).encode()
    path = tmp_path / f"annotations{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.json", text)
    else:
        path.write_bytes(text if suffix == ".json" else gzip.compress(text))
    steps = []
    read_annotations(path, progress=lambda done, total: steps.append((done, total)))
    done, totals = zip(*steps, strict=True)
    assert len(steps) >= 3
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[-1] == totals[0]


def test_geometry_is_refused_in_the_words_of_check(tmp_path):
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, "3", 4]}
    path = write(tmp_path, json.dumps({**GOOD, "annotations": [record]}))
    with pytest.raises(DataError) as error:
        _ = read_annotations(path).boxes
    assert list(error.value.problems) == structural_problems(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path / "none.json")


def test_real_coco_file(shared_data):
    path = shared_data / "coco_real/annotations/instances_train2017.json"
    file = read_annotations(path)
    content = json.loads(path.read_text())
    assert len(file.image_ids) == len(content["images"]) == 368
    assert file.annotation_ids.tolist() == [a["id"] for a in content["annotations"]]
    assert file.crowd.tolist() == [bool(a["iscrowd"]) for a in content["annotations"]]
    np.testing.assert_array_equal(file.boxes, [a["bbox"] for a in content["annotations"]])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xef\xbb\xbf" + HOSTILE.encode(), "starts with a byte-order mark; save it as UTF-8 without one"),
        (HOSTILE.encode("utf-16"), "starts with a byte-order mark; save it as UTF-8 without one"),
        (HOSTILE.encode("utf-16-le"), "is not UTF-8 .UTF-16..; save it as UTF-8"),
        (HOSTILE.encode("utf-16-be"), "is not UTF-8 .UTF-16..; save it as UTF-8"),
        (bytes(4096), "starts with zero bytes: it was not written to its end; fetch or write it again"),
        (gzip.compress(HOSTILE.encode()), "is a gzip file; name it .gz"),
    ],
)
def test_other_encodings_are_named(tmp_path, data, says):
    path = tmp_path / "annotations.json"
    path.write_bytes(data)
    for function in (read_annotations, structural_problems):
        with pytest.raises(DataError, match=f"^[^ ]*annotations.json: {says}$"):
            function(path)


def test_an_archive_made_on_macos(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", HOSTILE)
        archive.writestr("__MACOSX/._a.json", b"\0\5\x16\7")
    assert read_annotations(path).image_ids.tolist() == [2, 1]


def test_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    for path in (tmp_path / "a.json", Path("/dev/null")):
        with pytest.raises(DataError, match="is not a plain file; save it first"):
            read_annotations(path)


def test_a_file_that_is_written_to_while_it_is_used(tmp_path):
    path = write(tmp_path, HOSTILE)
    everything = {"images": np.ones(2, bool), "annotations": np.ones(2, bool)}
    file, other = read_annotations(path), read_annotations(path)
    assert len(other.sha256) == 64
    with path.open("r+b") as handle:
        handle.write(b"\n")
    os.utime(path, ns=(1, 1))
    for use in (lambda: file.sha256, lambda: write_subset(other, tmp_path / "out.json", **everything)):
        with pytest.raises(DataError, match="changed while it was read"):
            use()

    def damage(done, total):
        with path.open("r+b") as handle:
            handle.write(b"\0")
        os.utime(path, ns=(2, 2))

    with pytest.raises(DataError, match="changed while it was read"):
        read_annotations(path, progress=damage)


def test_a_file_that_is_replaced_or_removed_while_it_is_used(tmp_path):
    path = write(tmp_path, HOSTILE)
    file = read_annotations(path)
    (tmp_path / "new.json").write_text("{}")
    os.replace(tmp_path / "new.json", path)
    file.check_unchanged()
    path.unlink()
    assert file.sha256 == hashlib.sha256(HOSTILE.encode()).hexdigest()
