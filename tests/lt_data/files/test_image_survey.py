"""The look at the images of a data set: ranges that are hardly used, turned pictures, what cannot be read."""

import numpy as np
import pytest
from PIL import Image

from lt_data.errors import DataError
from lt_data.files import image_survey
from lt_data.files.image_survey import survey_images
from lt_data.files.pixels import AS_STORED, ImageReading, parse_range

PLAIN = np.zeros((4, 6), np.uint8)


def survey(folder, files, reading=AS_STORED, sizes=None):
    """Of files by name: an array, or an EXIF orientation."""
    for name, content in files.items():
        exif = Image.Exif()
        if isinstance(content, int):
            exif[0x0112] = content
        Image.fromarray(PLAIN if isinstance(content, int) else content).save(folder / name, exif=exif)
    sizes = np.zeros((len(files), 2), np.int64) if sizes is None else np.array(sizes)
    return survey_images("img", [folder / name for name in files], sizes, reading)


def gray16(low, high):
    return np.array([[low, high]], np.uint16)


def test_nothing_is_said_of_usual_images(tmp_path):
    assert survey(tmp_path, {"a.png": PLAIN, "b.jpg": PLAIN, "c.png": gray16(0, 9000), "d.png": 1}) == ((), ())


def test_a_range_that_is_hardly_used_is_said_once_for_all_images(tmp_path):
    found = survey(tmp_path, {"a.png": gray16(976, 1200), "b.png": gray16(1000, 2144), "c.png": PLAIN})
    assert found.notes == (
        "img: 2 of 3 images are 16-bit gray with values of 976 to 2144, less than an eighth of 0 to 65535, which "
        "becomes 0 to 255: they come out nearly of one colour; give their range, for example data.image_range=0,4095",
    )
    # one image that is dark beside others that are not is what images are like
    assert survey(tmp_path, {"a.png": gray16(0, 5), "b.png": gray16(0, 9000)}) == ((), ())


def test_a_range_that_was_given_is_the_measure(tmp_path):
    files = {"a.png": gray16(976, 2144)}
    assert survey(tmp_path, files, ImageReading((0, 4095))) == ((), ())
    (line,) = survey(tmp_path, files, ImageReading((50000, 60000))).notes
    assert "less than an eighth of 50000 to 60000" in line


def test_values_that_no_range_is_known_of_are_problems(tmp_path):
    files = {f"{i}.tif": np.array([[0, 70000 + i]], np.int32) for i in range(5)}
    found = survey(tmp_path, files)
    assert [line.partition(",")[0] for line in found.problems] == [
        f"{tmp_path / f'{i}.tif'}: 32-bit integers from 0 to {70000 + i}" for i in range(3)
    ]
    assert survey(tmp_path, files, ImageReading((0, 70000))) == ((), ())


def test_turned_images_are_said(tmp_path):
    files = {"a.jpg": 6, "b.jpg": 1, "c.jpg": 2}
    (line,) = survey(tmp_path, files).notes
    assert line.startswith("img: 2 of 3 images are turned or mirrored by EXIF (first a.jpg); data.exif=ignore takes")
    (line,) = survey(tmp_path, files, ImageReading(exif="apply"), sizes=[(6, 4), (6, 4), (6, 4)]).notes
    assert line.endswith("; data.exif=apply turns them but 1 whose record has the size as stored")


def test_images_that_cannot_be_read_are_left_to_who_needs_them(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert survey_images("img", [tmp_path / "a.png", tmp_path / "b.png"], np.zeros((2, 2), int), AS_STORED) == ((), ())


def test_of_many_images_some_from_all_over_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(image_survey, "MOST", 3)
    files = {f"{i}.jpg": 3 if i >= 6 else 1 for i in range(9)}
    (line,) = survey(tmp_path, files).notes
    assert line.startswith("img: 1 of 3 images looked at (of 9) are turned or mirrored by EXIF (first 6.jpg)")


@pytest.mark.parametrize(
    ("value", "wanted"), [("auto", None), ("0,4095", (0, 4095)), ([-1, 1], (-1, 1)), ("-1e3, 5", (-1000, 5))]
)
def test_ranges(value, wanted):
    assert parse_range(value) == wanted


@pytest.mark.parametrize("value", ["", "4095", "0,1,2", "5,5", "9,0", "0,nan", "0,inf", "a,b", 7, [1], None, {"a": 1}])
def test_what_is_no_range(value):
    with pytest.raises(DataError, match="allowed are auto and two numbers LOW,HIGH"):
        parse_range(value)
