"""Whatever is changed in a dataset directory is found, or stands in the list of what was not checked."""

import json
import shutil
from importlib import metadata

import numpy as np
import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Extras
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from lt_data.verify.verify import format_verify, verify_directory
from tests.lt_data.pools import pool, save
from tests.lt_data.tampering import edit_json, edit_row, found, sign_again

OPTIONS = BuildOptions(seed=3, scale="0.01", on_shortage="cap", edges=(2, 5), threshold=0.2)
DATA_FILES = ("annotations.json", "categories.csv", "groups.json", "repeat_factors.csv", "val.json")
VERSION = metadata.version("lt-detection")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(1)
    images = {int(i): [int(c) for c in rng.choice([1, 1, 1, 2, 2, 5, 90], 5)] for i in rng.choice(10**6, 30, False)}
    content = pool(images, categories=[90, 1, 2, 5, 8])
    return save(content, tmp_path_factory.mktemp("pool") / "pool.json")


@pytest.fixture(scope="module")
def pristine(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for image in json.loads(source.read_text())["images"]:
        (folder / image["file_name"]).write_bytes(b"picture")
    out = tmp_path_factory.mktemp("built") / "lt"
    extras = Extras(val=source, images=folder, copy_images=True)
    build_coco_lt(source, out, options=OPTIONS, extras=extras)
    return out


@pytest.fixture
def built(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "lt")


def replace(name, old, new):
    def change(directory):
        path = directory / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def record(change):
    return lambda directory: edit_json(directory / "build.json", change)


def environment(change):
    return lambda directory: edit_json(directory / "environment.json", change)


def remove(name):
    return lambda directory: (directory / name).unlink()


def cut(name, size):
    return lambda directory: (directory / name).write_bytes((directory / name).read_bytes()[:size])


def flip(name, place):
    def change(directory):
        data = bytearray((directory / name).read_bytes())
        data[place] ^= 0x55
        (directory / name).write_bytes(bytes(data))

    return change


def plain_picture(directory):
    from PIL import Image

    Image.new("RGB", (30, 20), "white").save(directory / "alignment.png")


def first_cell(directory):
    edit_row(directory / "categories.csv", 0, images=1)
    sign_again(directory)


def group_as_text(directory):
    edit_json(
        directory / "groups.json",
        lambda c: c["groups"][0].update(category_ids=[str(i) for i in c["groups"][0]["category_ids"]]),
    )
    sign_again(directory)


def group_of_whom(directory):
    edit_json(directory / "groups.json", lambda c: c["groups"][0].update(note="mine"))
    sign_again(directory)


def other_validation(directory):
    edit_json(directory / "val.json", lambda c: c["categories"][0].update(name="other"))
    sign_again(directory)
    digest = json.loads((directory / "build.json").read_text())["files"]["val.json"]
    edit_json(directory / "build.json", lambda c: c["inputs"]["val"].update(sha256=digest))


def forget_validation(directory):
    edit_json(directory / "build.json", lambda c: (c["inputs"].pop("val"), c["files"].pop("val.json")))


def lose_an_image(directory):
    sorted((directory / "images").iterdir())[0].unlink()


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (lambda d: [(d / name).unlink() for name in DATA_FILES], ("annotations.json", "content")),
        (remove("README.md"), ("README.md", "file")),
        (remove("alignment.png"), ("alignment.png", "file")),
        (remove("environment.json"), ("environment.json", "file")),
        *((remove(name), (name, "file")) for name in DATA_FILES),
        *((cut(name, 100), (name, "sha256")) for name in DATA_FILES),
        (replace("README.md", "images, ", "pictures, "), "README.md"),
        (replace("README.md", "--seed 3", "--seed 4"), ("README.md", "line 7 at byte ")),
        (replace("README.md", "## Files\n", ""), ("README.md", "lines")),
        (replace("README.md", "does not name", "names"), "README.md"),
        (cut("README.md", 0), ("README.md", "lines")),
        (cut("alignment.png", 5000), ("alignment.png", "content")),
        (cut("alignment.png", -12), ("alignment.png", "content")),
        (cut("alignment.png", -1), ("alignment.png", "content")),
        (cut("alignment.png", 0), ("alignment.png", "content")),
        (flip("alignment.png", 20), ("alignment.png", "content")),
        # a checksum that decoding alone does not look at
        (flip("alignment.png", -13), ("alignment.png", "content")),
        (flip("alignment.png", 9000), ("alignment.png", "content")),
        (lambda d: (d / "alignment.png").open("ab").write(b"more"), ("alignment.png", "content")),
        (lambda d: shutil.copy(d / "README.md", d / "alignment.png"), ("alignment.png", "content")),
        (plain_picture, ("alignment.png", "content")),
        (cut("environment.json", 40), ("environment.json", "content")),
        (environment(lambda c: c.pop("command")), ("environment.json", "content")),
        (environment(lambda c: c.update(schema=2)), ("environment.json", "content")),
        (environment(lambda c: c.update(date="yesterday")), ("environment.json", "content")),
        (environment(lambda c: c["packages"].pop("lt-detection")), ("environment.json", "packages: lt-detection")),
        (environment(lambda c: c["paths"].update(pool="/data/other.json")), ("environment.json", "paths: pool")),
        (record(lambda c: c.update(seed=4)), "README.md"),
        (record(lambda c: c["options"].update(on_shortage="error")), "README.md"),
        (record(lambda c: c.update(warnings=["careful"])), ("build.json", "warnings")),
        (record(lambda c: c.pop("warnings")), ("build.json", "warnings")),
        (record(lambda c: c["rule"].update(alignment="by hand")), ("build.json", "rule: alignment")),
        (record(lambda c: c["rule"].update(images="as they come")), ("build.json", "rule: images")),
        (record(lambda c: c["rule"].update(order="random")), ("build.json", "rule: order")),
        (record(lambda c: c["rule"].update(surplus="ignore")), ("build.json", "rule: surplus")),
        (record(lambda c: c["rule"].update(crowds_count=True)), ("build.json", "rule: crowds_count")),
        (record(lambda c: c["dropped"].update(crowds=9)), "README.md"),
        (record(lambda c: c["dropped"].update(why="so")), ("build.json", "dropped: why")),
        (record(lambda c: c.update(ignored={"surplus_instances": 1})), ("build.json", "ignored: surplus_instances")),
        (record(lambda c: c.update(images_rarest_first=99)), ("build.json", "order: images_rarest_first")),
        (record(lambda c: c["inputs"]["pool"].update(name="other.json")), ("environment.json", "paths: pool")),
        (record(lambda c: c["inputs"]["pool"].update(sha256="0" * 64)), "README.md"),
        (record(lambda c: c["inputs"]["val"].update(name="other.json")), "README.md"),
        (forget_validation, ("val.json", "file")),
        (record(lambda c: c["inputs"].pop("val")), ("build.json", "files: val.json")),
        (other_validation, ("val.json", "category 90")),
        (first_cell, "categories.csv"),
        (group_as_text, ("groups.json", "content at byte ")),
        (group_of_whom, ("groups.json", "content at byte ")),
        (lose_an_image, ("images", "files")),
    ],
)
def test_what_is_changed_is_a_problem(built, tamper, problem):
    """Without the pool, too."""
    tamper(built)
    problems = found(verify_directory(built))
    file, where = problem if isinstance(problem, tuple) else (problem, "")
    assert any(f == file and w.startswith(where) for f, w in problems), problems


def note_column(directory):
    edit_row(directory / "categories.csv", 0, note="mine")
    sign_again(directory)


def long_row(directory):
    replace("repeat_factors.csv", "1.0\n", "1.0,7\n")(directory)
    sign_again(directory)


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda d: None, "val.json: that it is a copy of pool.json"),
        (lambda d: None, "build.json: inputs: names of the files (pool, val)"),
        (lambda d: (d / "notes.txt").write_text("x"), "other files: notes.txt"),
        (lambda d: (d / "old").mkdir(), "other files: old/"),
        (
            lambda d: [(d / f"{i}.txt").touch() for i in range(7)],
            "other files: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, and 2 more",
        ),
        (lambda d: (d / "two\nlines").touch(), "other files: two\\nlines"),
        (lambda d: (d / "images/more.jpg").touch(), "images: 1 other files"),
        (lambda d: next((d / "images").iterdir()).write_bytes(b"other"), "images: what the files hold"),
        (lambda d: shutil.rmtree(d / "images"), "images/"),
        (environment(lambda c: c.update(date="2020-01-01T00:00:00+00:00")), "environment.json: date"),
        (
            environment(lambda c: c.update(command=["lt-data", "--seed", "9"])),
            "environment.json: date, versions, command",
        ),
        (record(lambda c: c.update(signed="me")), "build.json: keys signed"),
        (record(lambda c: c["totals"].update(masks=7)), "build.json: keys totals: masks"),
        (record(lambda c: c["shortage"][0].update(why="so")), "build.json: keys shortage: 0: why"),
        (note_column, "categories.csv: columns note"),
        (long_row, "repeat_factors.csv: columns number 3"),
    ],
)
def test_what_cannot_be_checked_is_listed(built, tamper, words):
    tamper(built)
    report = verify_directory(built)
    assert [str(problem) for problem in report.problems] == []
    assert any(str(thing).startswith(words) for thing in report.unchecked), [str(thing) for thing in report.unchecked]
    lines = format_verify(report).splitlines()
    assert sum(line.startswith(f"not checked: {words}") for line in lines) == 1
    assert len(lines) == len(report.checked) + len(report.unchecked) + 1


@pytest.mark.parametrize("name", [*DATA_FILES, "README.md", "alignment.png", "environment.json", "build.json"])
def test_no_file_is_passed_over(built, name):
    """Every file that a build writes is spoken of when it is cut, and named in the report of a sound directory."""
    sound = verify_directory(built)
    assert any(name in line for line in sound.checked) or name == "annotations.json"
    if name != "build.json":
        cut(name, 30)(built)
        assert name in {f.file for f in verify_directory(built).problems}


def test_a_card_of_another_version_is_no_problem(built):
    """Its words may be others; that they were not compared is said."""
    replace("README.md", "## Files", "## Content")(built)
    environment(lambda c: c["packages"].update({"lt-detection": "0.0.1"}))(built)
    report = verify_directory(built)
    assert report.problems == ()
    (thing,) = (t for t in report.unchecked if t.what == "README.md")
    assert "0.0.1" in thing.why
    assert VERSION in thing.why
    environment(lambda c: c["packages"].update({"lt-detection": VERSION}))(built)
    ((file, where),) = found(verify_directory(built))
    assert file == "README.md"
    assert where.endswith("at byte 3")


def test_a_reference_that_warns(source, tmp_path):
    """The warnings of the record are those of the reference file, whatever it is called today."""
    content = json.loads(source.read_text())
    content["categories"][0]["instance_count"] = 10**6
    reference = save(content, tmp_path / "lvis.json")
    out = tmp_path / "lt"
    build_coco_lt(source, out, reference=reference, options=OPTIONS)
    assert len(json.loads((out / "build.json").read_text())["warnings"]) == 1
    renamed = reference.rename(tmp_path / "renamed.json")
    assert verify_directory(out, reference=renamed).problems == ()
    edit_json(out / "build.json", lambda c: c.update(warnings=[]))
    assert found(verify_directory(out, reference=renamed)) == [("build.json", "warnings")]
    without = verify_directory(out)
    assert without.problems == ()
    assert any("build.json: warnings" in thing.what and thing.how == "--reference FILE" for thing in without.unchecked)
    with_pool = verify_directory(out, pool=source)
    assert any(thing.what.startswith("build.json: seed") for thing in with_pool.unchecked)


@pytest.mark.parametrize("order", ["rarest-first", "random", "fewest-images"])
@pytest.mark.parametrize("surplus", ["drop", "ignore"])
def test_cards_of_all_kinds_of_builds(source, tmp_path, order, surplus):
    options = BuildOptions(scale="0.5", on_shortage="cap", order=order, surplus=surplus)
    wanted = tmp_path / "wanted of mine.csv"
    wanted.write_text("category_id,target\n1,9\n2,5\n5,3\n8,2\n90,1\n")
    build_coco_lt(source, tmp_path / "lt", targets=wanted, options=options)
    report = verify_directory(tmp_path / "lt", pool=source, reference=wanted)
    assert [str(problem) for problem in report.problems] == []
    assert "README.md: every line, rendered again" in report.checked


def test_a_file_for_a_build_that_read_none_is_refused(tmp_path):
    source = save(pool({i: [1, 2] for i in range(1, 9)}), tmp_path / "pool.json")
    build_coco_lt(source, tmp_path / "lt", reference="zipf:1")
    with pytest.raises(DataError, match="has its reference from the name 'zipf:1', .*; leave --reference out"):
        verify_directory(tmp_path / "lt", reference=source)


def test_odd_names_keep_the_card_whole(tmp_path):
    source = save(pool({i: [1, 2] for i in range(1, 9)}, names={1: "a\n\n# b|c\u202e"}), tmp_path / "po\nol.json")
    build_coco_lt(source, tmp_path / "lt", reference="zipf:1")
    lines = (tmp_path / "lt/README.md").read_text(encoding="utf-8").splitlines()
    assert r"| 1 | a\n\n# b\|c\u202e | 8 | 8 |" in lines
    assert [line for line in lines if line.startswith("# ")] == [r"# Long-tailed subset of po\nol.json"]
    assert verify_directory(tmp_path / "lt", pool=source).problems == ()


def test_a_picture_that_is_none_is_called_by_what_it_holds(built):
    (built / "alignment.png").write_text("<html>")
    (picture,) = (problem for problem in verify_directory(built).problems if problem.file == "alignment.png")
    assert picture.got == "the file holds an HTML page, as failed downloads leave; fetch the image again"
