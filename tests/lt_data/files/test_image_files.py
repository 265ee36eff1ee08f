"""Finding images without leaving the image folder."""

import pytest

from lt_data.annotations.file import read_annotations
from lt_data.errors import DataError
from lt_data.files import image_files
from lt_data.files.image_files import find_images, normal_name
from tests.lt_data.pools import pool, save


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
    found = find_images(folder, ["a.jpg", "b.jpg", "val2017/b.jpg"])
    assert found.paths == [folder / "a.jpg", folder / "val2017/b.jpg", folder / "val2017/b.jpg"]
    assert found.notes == ()


LVIS_05 = "COCO_val2014_000000266409.jpg"


@pytest.mark.parametrize("place", ["000000266409.jpg", "val2017/000000266409.jpg", "train2017/000000266409.jpg"])
def test_names_of_lvis_05_are_found_where_coco_2017_has_the_images(folder, place):
    """LVIS v0.5 names the images of COCO 2014 beside URLs of COCO 2017."""
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    url = "http://images.cocodataset.org/val2017/000000266409.jpg"
    by_url = find_images(folder, ["a.jpg", LVIS_05], url_of=["", url].__getitem__)
    assert by_url.paths == [folder / "a.jpg", path]
    assert by_url.notes == (
        f"{folder}: 1 of 2 images are not there under their file_name and were found by the path in their coco_url "
        f"({LVIS_05} is {place})",
    )
    by_number = find_images(folder, [LVIS_05])
    assert by_number.paths == [path]
    assert "by what follows the last underscore of their file_name" in by_number.notes[0]


def test_the_name_as_given_comes_first_then_the_split_of_the_url(folder):
    for name in ("000000266409.jpg", "val2017/000000266409.jpg", "x/000000266409.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    url = "http://host/x/000000266409.jpg?size=1#top"
    assert find_images(folder, [LVIS_05], url_of=lambda _: url).paths == [folder / "x/000000266409.jpg"]
    (folder / "val2014").mkdir()
    (folder / "val2014" / LVIS_05).touch()
    found = find_images(folder, [LVIS_05], url_of=lambda _: url)
    assert found == ([folder / "val2014" / LVIS_05], ())


@pytest.mark.parametrize("url", [5, 1.5, ["http://host/a.jpg"], {}, True])
def test_a_url_that_is_no_text_counts_as_none(folder, url):
    content = pool({1: [1]})
    content["images"][0].update(file_name="lost.jpg", coco_url=url)
    file = read_annotations(save(content, folder / "a.json"))
    with pytest.raises(DataError, match=r"lost\.jpg: image is missing"):
        file.find_images(folder)


@pytest.mark.parametrize("name", ["my_000000266409.jpg", "COCO_val2014_266409.jpg", "COCO_val2014_000000266409_1.jpg"])
def test_only_names_of_coco_2014_are_shortened(folder, name):
    (folder / "000000266409.jpg").touch()
    (folder / "266409.jpg").touch()
    (folder / "1.jpg").touch()
    with pytest.raises(DataError, match="image is missing"):
        find_images(folder, [name])


@pytest.mark.parametrize("url", ["http://host/../secret.jpg", "http://host/..", "x", "http://host/C:/secret.jpg", "/"])
def test_urls_never_lead_out_of_the_folder(folder, url):
    with pytest.raises(DataError, match="image is missing"):
        find_images(folder, ["secret.jpg"], url_of=lambda _: url)


def test_a_backslash_in_a_name_is_pointed_out(folder):
    with pytest.raises(DataError, match="missing; its file_name has a backslash, folders are separated by '/'"):
        find_images(folder, ["val2017\\c.jpg"])


@pytest.mark.parametrize(
    ("name", "there", "difference"),
    [
        ("sub/caf\u00e9.jpg", "sub/cafe\u0301.jpg", "another Unicode form"),
        ("Sub/X.JPG", "sub/x.jpg", "upper and lower case"),
        ("x.jpg", "sub/x.jpg", "another folder"),
        ("wrong/x.jpg", "sub/x.jpg", "another folder"),
        ("sub/x.jpg", "x.jpg", "another folder"),
        ("sub\\x.jpg", "sub/x.jpg", "a backslash for '/'"),
        ("all\\sub\\x.jpg", "sub/x.jpg", "a backslash for '/', another folder"),
        ("x%20y.jpg", "x y.jpg", "%20 and its like for characters"),
        ("x y.jpg", "x%20y.jpg", "%20 and its like for characters"),
        ("x.png", "x.jpg", "another ending"),
        ("x", "x.jpg", "another ending"),
        ("x.jpg ", "x.jpg", "spaces around it"),
        ("X.jpg", "x.jpg ", "upper and lower case, spaces around it"),
    ],
)
def test_near_misses_in_the_folder_are_shown(folder, name, there, difference):
    (folder / there).parent.mkdir(exist_ok=True)
    (folder / there).touch()
    with pytest.raises(DataError) as error:
        find_images(folder, ["a.jpg", "none.jpg", name])
    assert error.value.problems == [
        f"{folder}: 2 of 3 images are missing, 1 of them are there under nearly their name; write file_name as the "
        "folder has it, or give the folder that it is relative to",
        f"{folder / name}: image is missing; there is '{there}' ({difference})",
        f"{folder / 'none.jpg'}: image is missing",
    ]


@pytest.mark.parametrize(
    ("name", "others"),
    [("x.jpg", ["p/x.jpg", "q/x.jpg"]), ("x.jpg", ["x.txt", "x.jpg.txt"]), ("p/x.png", ["x.jpg"])],
)
def test_what_may_be_any_of_several_files_or_another_one_is_not_guessed(folder, name, others):
    for other in others:
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).touch()
    with pytest.raises(DataError) as error:
        find_images(folder, [name])
    assert error.value.problems[1] == f"{folder / name}: image is missing"


def test_a_link_that_leads_nowhere_is_no_near_miss(folder):
    (folder / "x.jpg").symlink_to("nowhere")
    with pytest.raises(DataError) as error:
        find_images(folder, ["x.jpg"])
    assert error.value.problems[1] == f"{folder / 'x.jpg'}: image is missing"


def test_folders_are_no_images_and_links_are(folder):
    (folder / "c.jpg").symlink_to(folder / "a.jpg")
    assert find_images(folder, ["c.jpg"]).paths == [folder / "c.jpg"]
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
    assert "9 of 10 images are missing; check the image folder" in error.value.problems[0]
    with pytest.raises(DataError, match="no such folder"):
        find_images(folder / "none", [])


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 2500 + "b", "a\nb.jpg", "a\x00b"])
def test_names_that_no_file_can_have_are_missing_in_one_short_line(folder, name):
    with pytest.raises(DataError, match="image is missing") as error:
        find_images(folder, ["a.jpg", name])
    _, line = error.value.problems
    assert len(line) < len(str(folder)) + 300
    assert line.isprintable()


def test_a_long_name_that_is_refused_is_cut(folder):
    with pytest.raises(DataError, match=r"\(5,0\d\d characters\) is not a name inside") as error:
        find_images(folder, ["../" + "x" * 5000])
    assert len(str(error.value)) < len(str(folder)) + 400


def test_a_folder_may_be_text(folder):
    assert find_images(str(folder), ["./a.jpg"]).paths == [folder / "a.jpg"]


@pytest.mark.parametrize(
    ("name", "normal"), [("./a.jpg", "a.jpg"), ("a//./b.jpg", "a/b.jpg"), ("", ""), ("a.jpg", "a.jpg")]
)
def test_normal_names(name, normal):
    assert normal_name(name) == normal
