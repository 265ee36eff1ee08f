"""Stuff maps: what is read, and what is refused; other kinds of files are in the tests of commands."""

import numpy as np
import pytest
from PIL import Image

from lt_data.errors import DataError
from lt_data.files.stuff_maps import check_stuff_maps, read_stuff_map, stuff_path


def test_labels_are_the_pixels(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20 % 182
    labels[0, 0] = 255
    Image.fromarray(labels).save(tmp_path / "a.png")
    assert np.array_equal(read_stuff_map(tmp_path / "a.png", width=4, height=3), labels)


def test_a_broken_file_is_one_line(tmp_path):
    for name, content in (("text", b"no picture"), ("cut", b"\x89PNG\r\n\x1a\n\x00\x00")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.png: not a readable PNG"):
            read_stuff_map(path, width=4, height=3)


def test_maps_lie_side_by_side_whatever_the_folders_of_the_images(tmp_path):
    """A file name of an annotation file cannot lead out of the folder."""
    assert stuff_path(tmp_path, tmp_path / "../../etc/passwd.jpg") == tmp_path / "passwd.png"
    (tmp_path / "a.png").touch()
    check_stuff_maps(tmp_path, [tmp_path / "train2017/a.jpg"])
    with pytest.raises(DataError, match=r"a\.png would be the stuff map of several images"):
        check_stuff_maps(tmp_path, [tmp_path / "train2017/a.jpg", tmp_path / "val2017/a.jpg"])
    with pytest.raises(DataError, match=r"1 of 2 stuff maps are missing \(b\.png\)"):
        check_stuff_maps(tmp_path, [tmp_path / "a.jpg", tmp_path / "b.jpg"])
    with pytest.raises(DataError, match=r"data\.train\.stuff is a folder of PNGs"):
        check_stuff_maps(tmp_path / "nowhere", [])
