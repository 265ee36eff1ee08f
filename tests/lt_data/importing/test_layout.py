"""Which image a file of annotations belongs to."""

import pytest
from PIL import Image

from lt_data.errors import DataError, OutputError
from lt_data.importing.convert import import_annotations
from lt_data.importing.options import ImportOptions
from tests.lt_data.importing.trees import codes, load, picture, text, voc, voc_object


def names_of(source, out, kind="voc", **given):
    report = import_annotations(source, out, kind, **given)
    return [record["file_name"] for record in load(out)["images"]], codes(report)


def problem_of(source, out, kind="voc", **given):
    with pytest.raises(DataError) as error:
        import_annotations(source, out, kind, **given)
    assert not out.exists()
    return " | ".join(error.value.problems)


@pytest.mark.parametrize(
    ("file", "image", "kind"),
    [
        ("VOC2012/Annotations/a.xml", "VOC2012/JPEGImages/a.jpg", "voc"),
        ("annotations/x/a.xml", "images/x/a.png", "voc"),
        ("a.xml", "a.webp", "voc"),
        ("x/A.XML", "x/A.JPG", "voc"),
        ("labels/train/a.txt", "images/train/a.jpg", "yolo"),
        ("train/labels/a.txt", "train/images/a.jpg", "yolo"),
        ("labels/labels/a.txt", "labels/images/a.jpg", "yolo"),
    ],
)
def test_layouts_of_these_formats_in_one_folder(tmp_path, file, image, kind):
    source = tmp_path / "set"
    text(source / file, voc(voc_object()) if kind == "voc" else "0 .5 .5 .5 .5")
    picture(source / image)
    text(source / "classes.txt", "cat")
    text(source / "README.txt" if kind == "yolo" and "labels" in file else source / "README.md", "about it")
    assert names_of(source, tmp_path / "out.json", kind) == ([image], {})


def test_what_the_system_hides_is_no_annotation(tmp_path):
    for name in ("a.xml", "._a.xml", "__MACOSX/a.xml", ".cache/b.xml"):
        text(tmp_path / "set" / name, voc(voc_object()) if name == "a.xml" else b"\0")
    picture(tmp_path / "set" / "a.jpg")
    assert names_of(tmp_path / "set", tmp_path / "out.json") == (["a.jpg"], {})


def test_the_same_name_in_another_folder_is_another_picture(tmp_path):
    text(tmp_path / "set" / "train" / "1.xml", voc(voc_object()))
    picture(tmp_path / "set" / "val" / "1.jpg")
    problem = problem_of(tmp_path / "set", tmp_path / "out.json")
    assert "LT704: a file of annotations has no image: 1 (train/1.xml)" in problem


def test_the_name_in_the_file_says_which_of_two_and_where_none_has_its_own(tmp_path):
    source = tmp_path / "set"
    for image in ("a.jpg", "a.png", "img 7.jpg"):
        picture(source / image)
    text(source / "a.xml", voc(voc_object(), filename="a.png"))
    text(source / "b.xml", voc(voc_object(), filename=r"C:\Users\me\img 7.jpg"))
    names, found = names_of(source, tmp_path / "out.json")
    assert names == ["a.jpg", "a.png", "img 7.jpg"]
    assert found["LT706"] == ("a.jpg",)


def test_a_name_that_leads_nowhere_is_of_no_matter_where_the_own_one_is_there(tmp_path):
    text(tmp_path / "set" / "a.xml", voc(voc_object(), filename="before it was renamed"))
    picture(tmp_path / "set" / "a.jpg")
    assert names_of(tmp_path / "set", tmp_path / "out.json") == (["a.jpg"], {})


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "..", ""])
def test_no_name_leads_out_of_the_image_folder(tmp_path, name):
    picture(tmp_path / "secret.jpg")
    text(tmp_path / "set" / "a.xml", voc(voc_object(), filename=name))
    assert "LT704" in problem_of(tmp_path / "set", tmp_path / "out.json")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"a.xml": "", "b.xml": "a.jpg"},
            "LT705: a file of annotations and an image are no pair: 1 (a.jpg: of a.xml",
        ),
        ({"a.xml": "c.jpg"}, "(a.xml: names 'c.jpg' while a.jpg is there too)"),
        ({"d.xml": ""}, "(d.xml: could be of d.jpg and d.png)"),
    ],
)
def test_no_pair(tmp_path, files, says):
    for image in ("a.jpg", "c.jpg", "d.jpg", "d.png"):
        picture(tmp_path / "set" / image)
    for name, filename in files.items():
        text(tmp_path / "set" / name, voc(voc_object(), filename=filename))
    assert says in problem_of(tmp_path / "set", tmp_path / "out.json")


def test_an_image_that_is_none(tmp_path):
    text(tmp_path / "set" / "a.xml", voc(voc_object()))
    text(tmp_path / "set" / "a.jpg", "<html>not found</html>")
    text(tmp_path / "set" / "b.jpg", "")
    problem = problem_of(tmp_path / "set", tmp_path / "out.json")
    assert "LT502: an image file cannot be read: 2 (a.jpg: the file holds an HTML page" in problem
    assert "b.jpg: the file is empty" in problem


def test_a_picture_that_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "set" / "a.jpg", exif=exif)
    text(tmp_path / "set" / "a.xml", voc(voc_object(), size=(48, 64)))

    report = import_annotations(tmp_path / "set", tmp_path / "0.json", "voc")
    assert codes(report)["LT503"] == ("a.jpg: 64 x 48 px, a.xml says 48 x 64 (turned)",)
    report = import_annotations(tmp_path / "set", tmp_path / "1.json", "voc", options=ImportOptions(exif="apply"))
    (image,) = load(tmp_path / "1.json")["images"]
    assert (image["width"], image["height"]) == (48, 64)
    assert "data.exif=apply reads it so" in codes(report)["LT503"][0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"source": "none"}, "none: no such folder"),
        ({"source": "images"}, "images: no .xml files of annotations in it"),
        ({"images": "none"}, "none: no such folder"),
    ],
)
def test_folders_that_are_none(tmp_path, given, says):
    text(tmp_path / "xml" / "a.xml", voc(voc_object()))
    picture(tmp_path / "images" / "a.jpg")
    folders = {key: tmp_path / name for key, name in ({"source": "xml", "images": "images"} | given).items()}
    source = folders.pop("source")
    assert says in problem_of(source, tmp_path / "out.json", **folders)


def test_nothing_is_overwritten(tmp_path):
    text(tmp_path / "set" / "a.xml", voc(voc_object()))
    picture(tmp_path / "set" / "a.jpg")
    out = tmp_path / "new" / "out.json"
    import_annotations(tmp_path / "set", out, "voc")
    first = out.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        import_annotations(tmp_path / "set", out, "voc")
    import_annotations(tmp_path / "set", out, "voc", force=True)
    assert out.read_bytes() == first
    with pytest.raises(OutputError, match="is written as .json"):
        import_annotations(tmp_path / "set", tmp_path / "out.txt", "voc")


def test_a_source_without_any_object_and_names_is_no_file_for_others(tmp_path):
    text(tmp_path / "set" / "a.xml", voc())
    picture(tmp_path / "set" / "a.jpg")
    assert "LT005: the list of categories is empty" in problem_of(tmp_path / "set", tmp_path / "out.json")
