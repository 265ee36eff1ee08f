"""Image files that are missing, damaged or of another size than their record."""

import numpy as np
import pytest
from PIL import Image

from lt_data.checks.check import check_file
from lt_data.errors import DataError
from tests.lt_data.findings import base, found
from tests.lt_data.pools import as_lvis_05, save


@pytest.fixture
def images(tmp_path):
    """Files of the three images: PNG content whatever the name, the last one a JPEG."""
    folder = tmp_path / "images"
    folder.mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    for number, kind in ((1, "PNG"), (2, "PNG"), (3, "JPEG")):
        picture.save(folder / f"{number:012d}.jpg", kind)
    return folder


def test_whole_image_files(tmp_path, images):
    assert found(tmp_path, base(), images=images) == {}


def test_a_name_that_is_no_text_is_not_missing_too(tmp_path, images):
    """A name that has the sign for what cannot be read by itself is: that is a name."""
    content = base()
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "HERE", "a\ufffd.jpg"
    path = tmp_path / "a.json"
    text = save(content, path).read_bytes()
    for written, codes in ((b"caf\xe9.jpg", ["LT003"]), (b"missing.jpg", ["LT501"])):
        path.write_bytes(text.replace(b"HERE", written))
        findings = {finding.code: finding for finding in check_file(path, images=images).findings}
        assert list(findings) == codes
    assert findings["LT501"].count == 2


@pytest.mark.parametrize(
    ("name", "damage", "code", "says"),
    [
        ("000000000001.jpg", lambda data: None, "LT501", "images[0] (id 1): '000000000001.jpg'"),
        ("000000000002.jpg", lambda data: b"", "LT502", "images[1] (id 2): '000000000002.jpg': the file is empty"),
        ("000000000002.jpg", lambda data: data[: len(data) // 2], "LT502", "images[1]"),
        ("000000000002.jpg", lambda data: data[:999] + bytes(9) + data[1008:], "LT502", "images[1]"),
        (
            "000000000003.jpg",
            lambda data: data[: len(data) // 2],
            "LT502",
            "images[2] (id 3): '000000000003.jpg': image file is truncated",
        ),
    ],
)
def test_damaged_image_files(tmp_path, images, name, damage, code, says):
    data = damage((images / name).read_bytes())
    if data is None:
        (images / name).unlink()
    else:
        (images / name).write_bytes(data)
    findings = found(tmp_path, base(), images=images)
    assert list(findings) == [code]
    assert says in findings[code].examples[0]


def test_image_files_of_another_size(tmp_path, images):
    content = base()
    content["images"][0].update(width=48, height=64)
    content["images"][1].update(width=65)
    finding = found(tmp_path, content, images=images)["LT503"]
    assert finding.examples == (
        "images[0] (id 1): '000000000001.jpg': 64 x 48 px, the record says 48 x 64 (turned)",
        "images[1] (id 2): '000000000002.jpg': 64 x 48 px, the record says 65 x 48",
    )


def test_an_orientation_is_mentioned_where_the_file_has_one(tmp_path, images):
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(images / "000000000003.jpg") as picture:
        picture.save(images / "000000000003.jpg", exif=exif)
    content = base()
    content["images"][2].update(width=48, height=64)
    (example,) = found(tmp_path, content, images=images)["LT503"].examples
    assert example.endswith("the record says 48 x 64 (turned: see its EXIF orientation; data.exif=apply reads it so)")


def test_names_that_no_file_can_have_are_missing_files(tmp_path, images):
    content = base()
    content["images"][0]["file_name"] = "x" * 5000
    content["images"][1]["file_name"] = "a\0b"
    content["images"][2]["file_name"] = "../x.jpg"
    findings = found(tmp_path, content, images=images)
    assert findings["LT501"].count == 2
    assert findings["LT202"].count == 1


def test_images_of_another_name_are_looked_at_and_told(tmp_path, images):
    content = as_lvis_05(base(), images)
    content["images"][0]["width"] = 63
    findings = found(tmp_path, content, images=images)
    assert {code: (f.severity, f.count) for code, f in findings.items()} == {
        "LT506": ("info", 3),
        "LT503": ("error", 1),
    }
    assert findings["LT506"].examples[0] == (
        "images[0] (id 1): 'COCO_val2014_000000000001.jpg': 'val2017/000000000001.jpg'"
    )


def test_a_backslash_in_a_name_is_pointed_out(tmp_path, images):
    content = base()
    content["images"][1]["file_name"] = "sub\\x.jpg"
    assert "(write '/' for the backslash)" in found(tmp_path, content, images=images)["LT501"].examples[0]


def test_near_misses_of_names_are_shown(tmp_path, images):
    content = base()
    content["images"][1]["file_name"] = "000000000002.JPEG"
    finding = found(tmp_path, content, images=images)["LT507"]
    assert (finding.severity, finding.count) == ("error", 1)
    assert finding.examples == ("images[1] (id 2): '000000000002.JPEG': '000000000002.jpg' (another ending)",)


def test_images_of_more_than_8_bits_are_told_with_their_values(tmp_path, images):
    content = base()
    stored = [np.full((48, 64), 976, np.uint16), np.full((48, 64), 70000, np.int32), np.full((48, 64), 0.5, np.float32)]
    for record, values, suffix in zip(content["images"], stored, ("png", "tif", "tif"), strict=True):
        record["file_name"] = f"{record['id']}.{suffix}"
        values[0, 0] = 0
        Image.fromarray(values).save(images / record["file_name"])
    findings = found(tmp_path, content, images=images)
    assert {code: (f.severity, f.count) for code, f in findings.items()} == {"LT504": ("warning", 3)}
    assert findings["LT504"].examples == (
        "images[0] (id 1): '1.png': 16-bit gray, values of 0 to 976, less than an eighth of 0 to 65535",
        "images[1] (id 2): '2.tif': 32-bit integers from 0 to 70000, and nothing says which values are black and "
        "white; say so with data.image_range=LOW,HIGH, or save images of 8 bits",
        "images[2] (id 3): '3.tif': floats, values of 0 to 0.5",
    )


@pytest.mark.parametrize(("orientation", "codes"), [(1, set()), (3, {"LT505"}), (6, {"LT505", "LT503"})])
def test_turned_images_are_told(tmp_path, images, orientation, codes):
    content, exif = base(), Image.Exif()
    exif[0x0112] = orientation
    path = images / "000000000003.jpg"
    with Image.open(path) as picture:
        picture.save(path, "JPEG", exif=exif)
    assert set(found(tmp_path, content, images=images)) == codes - {"LT503"}
    if orientation == 6:
        content["images"][2].update(width=48, height=64)
        findings = found(tmp_path, content, images=images)
        assert set(findings) == codes
        assert "(turned: see its EXIF orientation; data.exif=apply reads it so)" in findings["LT503"].examples[0]


def test_image_folder_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path, base(), images=tmp_path / "none")


def test_progress_reaches_its_end_twice(tmp_path, images):
    path = save(base(), tmp_path / "a.json")
    calls = []
    check_file(path, images=images, progress=lambda done, total: calls.append((done, total)))
    in_bytes = [call for call in calls if call[1] == path.stat().st_size]
    assert in_bytes
    assert all(done <= total for done, total in in_bytes)
    assert [call for call in calls if call not in in_bytes] == [(1, 3), (2, 3), (3, 3)]
