"""Finding images without leaving the image folder."""

import pytest

from lt_data.errors import DataError
from lt_data.files import image_files
from lt_data.files.image_files import find_images, normal_name


@pytest.fixture(params=["asked one by one", "listed"])
def folder(request, tmp_path, monkeypatch):
    """Many names are looked up in a listing, few one by one."""
    monkeypatch.setattr(image_files, "MANY", 0 if request.param == "listed" else 10**9)
    images = tmp_path / "images"
    (images / "val2017").mkdir(parents=True)
    (images / "a.jpg").touch()
    (images / "val2017/b.jpg").touch()
    (images / "val2017/a.jpg").touch()
    (images / "folder.jpg").mkdir()
    (tmp_path / "secret.jpg").touch()
    return images


def test_finds_in_the_folder_and_its_coco_subfolders(folder):
    assert find_images(folder, ["a.jpg", "b.jpg", "val2017/b.jpg"]) == [
        folder / "a.jpg",
        folder / "val2017/b.jpg",
        folder / "val2017/b.jpg",
    ]


def test_folders_are_no_images_and_links_are(folder):
    (folder / "c.jpg").symlink_to(folder / "a.jpg")
    assert find_images(folder, ["c.jpg"]) == [folder / "c.jpg"]
    with pytest.raises(DataError, match="image is missing"):
        find_images(folder, ["folder.jpg"])


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "val2017/../../secret.jpg", "/etc/passwd", "..\\secret.jpg", "C:x", ""]
)
def test_names_that_leave_the_folder_are_refused(folder, name):
    with pytest.raises(DataError, match="refused"):
        find_images(folder, ["a.jpg", name])


def test_missing_images_are_listed_and_counted(folder):
    with pytest.raises(DataError) as error:
        find_images(folder, ["a.jpg", *(f"{i}.jpg" for i in range(9))])
    assert len(error.value.problems) == 6
    assert "9 of 10 images are missing" in error.value.problems[-1]
    with pytest.raises(DataError, match="no such folder"):
        find_images(folder / "none", [])


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 2500 + "b", "a\nb.jpg", "a\x00b"])
def test_names_that_no_file_can_have_are_missing_in_one_short_line(folder, name):
    with pytest.raises(DataError, match="image is missing") as error:
        find_images(folder, ["a.jpg", name])
    line, _ = error.value.problems
    assert len(line) < len(str(folder)) + 300
    assert line.isprintable()


def test_a_long_name_that_is_refused_is_cut(folder):
    with pytest.raises(DataError, match=r"\(5,0\d\d characters\) is not a name inside") as error:
        find_images(folder, ["../" + "x" * 5000])
    assert len(str(error.value)) < len(str(folder)) + 400


def test_a_folder_may_be_text(folder):
    assert find_images(str(folder), ["./a.jpg"]) == [folder / "a.jpg"]


@pytest.mark.parametrize(
    ("name", "normal"), [("./a.jpg", "a.jpg"), ("a//./b.jpg", "a/b.jpg"), ("", ""), ("a.jpg", "a.jpg")]
)
def test_normal_names(name, normal):
    assert normal_name(name) == normal
