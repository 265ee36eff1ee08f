"""The dataset directory on disk: what is replaced, what is refused, and what an interruption leaves."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Extras
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError, OutputError
from lt_data.files.writing import replacing_directory
from tests.lt_data.pools import SMALL, pool, save
from tests.lt_data.told import Told


def test_output_is_never_overwritten_unasked(small_pool, tmp_path):
    out = tmp_path / "lt"
    build_coco_lt(small_pool, out, options=SMALL)
    before = (out / "build.json").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        build_coco_lt(small_pool, out, options=SMALL)
    other = BuildOptions(1, "0.001", on_shortage="cap")
    build_coco_lt(small_pool, out, options=other, force=True)
    assert (out / "build.json").read_bytes() != before
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="notes.txt.*never replaced"):
        build_coco_lt(small_pool, out, options=other, force=True)
    assert (out / "notes.txt").read_text() == "mine"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="never replaced"):
        build_coco_lt(small_pool, mine, options=SMALL, force=True)
    assert (mine / "thesis.tex").read_text() == "years of work"
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(OutputError, match="is a link"):
        build_coco_lt(small_pool, tmp_path / "link", options=SMALL, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "lt", "mine"]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


OTHER = BuildOptions(1, "0.001", on_shortage="cap")


@pytest.fixture
def built(small_pool, tmp_path):
    """A dataset directory with linked images."""
    folder = tmp_path / "pool images"
    folder.mkdir()
    for image in json.loads(small_pool.read_text(encoding="utf-8"))["images"]:
        (folder / image["file_name"]).write_bytes(b"image")
    build_coco_lt(small_pool, tmp_path / "lt", options=SMALL, extras=Extras(images=folder))
    return tmp_path / "lt"


def add_image(out):
    (out / "images/mine.jpg").write_bytes(b"mine")


def add_folder(out):
    (out / "images/mine").mkdir()


def add_linked_folder(out):
    (out / "images/elsewhere").symlink_to(out.parent)


def picture_becomes_folder(out):
    (out / "alignment.png").unlink()
    (out / "alignment.png").mkdir()
    (out / "alignment.png/mine.txt").write_text("mine")


def images_becomes_file(out):
    shutil.rmtree(out / "images")
    (out / "images").write_text("mine")


def card_becomes_link(out):
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(out / "build.json")


def edit_categories(out):
    with (out / "categories.csv").open("a") as file:
        file.write("mine\n")


def edit_annotations(out):
    (out / "annotations.json").write_text('{"mine": true}')


def add_val(out):
    (out / "val.json").write_text("{}")


def lose_record(out):
    (out / "build.json").write_text("[]")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (add_image, r"no build wrote \(images/mine\.jpg\)"),
        (add_folder, r"no build wrote \(images/mine, a folder\)"),
        (add_linked_folder, r"no build wrote \(images/elsewhere\)"),
        (picture_becomes_folder, r"no build wrote \(alignment\.png, a folder\)"),
        (images_becomes_file, r"no build wrote \(images\)"),
        (card_becomes_link, r"no build wrote \(README\.md, a link\)"),
        (edit_categories, r"categories\.csv changed since the build"),
        (edit_annotations, r"annotations\.json changed since the build"),
        (add_val, r"val\.json changed since the build"),
        (lose_record, r"build\.json, which says what the build wrote, cannot be read"),
    ],
)
def test_force_replaces_only_what_a_build_wrote(small_pool, built, change, says):
    change(built)
    before = contents(built)
    with pytest.raises(OutputError, match=says) as error:
        build_coco_lt(small_pool, built, options=OTHER, force=True)
    assert len(error.value.problems) == 1
    assert contents(built) == before
    assert sorted(p.name for p in built.parent.iterdir()) == ["lt", "pool images"]


def test_force_names_three_files_at_most(small_pool, built):
    for i in range(5):
        (built / f"images/mine{i}").touch()
    with pytest.raises(OutputError, match=r"\(images/mine0; images/mine1; images/mine2\)"):
        build_coco_lt(small_pool, built, options=OTHER, force=True)


def test_images_are_refused_where_nothing_says_which_are_the_builds(small_pool, built):
    (built / "annotations.json").write_bytes(b"{")
    record = json.loads((built / "build.json").read_text())
    record["files"]["annotations.json"] = hashlib.sha256(b"{").hexdigest()
    (built / "build.json").write_text(json.dumps(record))
    with pytest.raises(OutputError, match=r"no build wrote \(images/0"):
        build_coco_lt(small_pool, built, options=OTHER, force=True)


def test_force_replaces_a_build_with_images_in_folders(tmp_path):
    content = pool({i: [1, 2] for i in range(1, 9)})
    for image in content["images"]:
        image["file_name"] = f"./deep//er/{image['id']}.jpg"
        (tmp_path / "images/deep/er").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"images/deep/er/{image['id']}.jpg").write_bytes(b"image")
    path = save(content, tmp_path / "pool.json")
    extras = Extras(images=str(tmp_path / "images"), copy_images=True)
    for seed in (0, 1):
        options = BuildOptions(seed, "0.0001", on_shortage="cap")
        build = build_coco_lt(str(path), str(tmp_path / "lt"), options=options, extras=extras, force=True)
    put = sorted(p.name for p in (tmp_path / "lt/images/deep/er").iterdir())
    assert put == [f"{i}.jpg" for i in build.pool.image_ids[build.selection.images].tolist()]


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_that_appears_during_the_build_stays(small_pool, tmp_path, force):
    out = tmp_path / "lt"

    def appear(line):
        if line.startswith("drawing"):
            out.mkdir()
            (out / "thesis.tex").write_text("years of work")

    with pytest.raises(OutputError, match="thesis.tex"):
        build_coco_lt(small_pool, out, options=SMALL, force=force, progress=Told(appear))
    assert contents(out) == {"thesis.tex": b"years of work"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_build_that_appears_during_the_build_stays_without_force(small_pool, tmp_path):
    out = tmp_path / "lt"

    def appear(line):
        if line.startswith("drawing"):
            build_coco_lt(small_pool, out, options=SMALL)

    with pytest.raises(OutputError, match="exists; choose another --out, or replace it with --force"):
        build_coco_lt(small_pool, out, options=OTHER, progress=Told(appear))
    assert json.loads((out / "build.json").read_text())["seed"] == 0
    assert list(tmp_path.iterdir()) == [out]


def test_content_that_comes_after_the_last_look_stays(tmp_path):
    out = tmp_path / "out"

    def appear():
        out.mkdir()
        (out / "mine").touch()

    with pytest.raises(OutputError, match="nothing was changed"), replacing_directory(out, force=False, check=appear):
        pass
    assert [p.name for p in out.iterdir()] == ["mine"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_directory_is_filled(small_pool, tmp_path):
    (tmp_path / "lt").mkdir()
    build_coco_lt(small_pool, tmp_path / "lt", options=SMALL)
    assert (tmp_path / "lt/build.json").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["lt"]


def as_a_user_without_rights(path, ignore_errors):
    """``rmtree`` as the system lets somebody but root: nothing goes from a folder that is read-only."""
    folders = [Path(path), *(p for p in Path(path).rglob("*") if p.is_dir() and not p.is_symlink())]
    assert ignore_errors
    if all(folder.stat().st_mode & 0o200 for folder in folders if folder.exists()):
        REMOVE(path, ignore_errors=True)


REMOVE = shutil.rmtree


def test_force_over_a_read_only_directory_leaves_no_copy(small_pool, built, monkeypatch):
    monkeypatch.setattr("lt_data.files.leftovers.shutil.rmtree", as_a_user_without_rights)
    (built / "images").chmod(0o555)
    built.chmod(0o555)
    build_coco_lt(small_pool, built, options=OTHER, force=True)
    assert json.loads((built / "build.json").read_text())["seed"] == 1
    assert sorted(p.name for p in built.parent.iterdir()) == ["lt", "pool images"]


def test_a_copy_that_cannot_be_removed_is_named(small_pool, built, monkeypatch):
    monkeypatch.setattr("lt_data.files.leftovers.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(OutputError, match=r"is written, but what it replaces cannot be removed; remove .*-lt yourself"):
        build_coco_lt(small_pool, built, options=OTHER, force=True)
    assert json.loads((built / "build.json").read_text())["seed"] == 1


def test_an_interrupt_while_directories_change_places_loses_neither(small_pool, tmp_path, monkeypatch):
    out = tmp_path / "lt"
    build_coco_lt(small_pool, out, options=SMALL)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    replace, moves = os.replace, 0

    def interrupt(source, target):
        nonlocal moves
        moves += os.path.isdir(source)
        # away, in, back again
        if moves == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("lt_data.files.writing.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_coco_lt(small_pool, out, options=BuildOptions(1, "0.001", on_shortage="cap"), force=True)
    assert moves == 3
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_failing_step_leaves_nothing(small_pool, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DataError("no disk")

    monkeypatch.setattr("lt_data.build.write.image_repeat_factors", fail)
    with pytest.raises(DataError, match="no disk"):
        build_coco_lt(small_pool, tmp_path / "lt", options=SMALL)
    assert list(tmp_path.iterdir()) == []
