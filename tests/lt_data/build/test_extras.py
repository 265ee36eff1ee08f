"""Surplus, orders, validation file, images, data card, packed inputs."""

import gzip
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build
from lt_data.build.result import Extras, totals
from lt_data.counts.categories import count_categories
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError, OutputError
from lt_data.verify.verify import verify_directory
from tests.lt_data.pools import as_lvis_05, pool, save

IMAGES = st.dictionaries(
    st.integers(1, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=2, max_size=25
)


def small():
    return pool({i: [1, 1, 1, 2, (1, "crowd")] + [3] * (i % 2) for i in range(1, 21)})


@pytest.fixture
def path(tmp_path):
    return save(small(), tmp_path / "pool.json")


@given(IMAGES, st.integers(0, 5))
def test_every_order_meets_the_same_targets(tmp_path_factory, images, seed):
    path = save(pool(images, categories=[1, 2, 3, 4]), tmp_path_factory.mktemp("pool") / "a.json")
    builds = [
        build_coco_lt(path, None, reference="exp:8", options=BuildOptions(seed, on_shortage="cap", order=order))
        for order in ("rarest-first", "random", "fewest-images")
    ]
    published = builds[0]
    for build in builds:
        assert build.selection.instances.tolist() == published.selection.instances.tolist()
        assert build.images_rarest_first == totals(published)["images"]
        index = build.pool.image_index()[build.selection.annotations]
        assert set(index.tolist()) == set(np.flatnonzero(build.selection.images).tolist())


def test_fewest_images_finds_the_image_that_holds_everything(tmp_path):
    images = {i: [1] for i in range(1, 9)} | {i: [2] for i in range(20, 24)} | {99: [1] * 8 + [2] * 2}
    path = save(pool(images), tmp_path / "a.json")
    (tmp_path / "t.csv").write_text("category_id,target\n1,8\n2,2\n")
    options = BuildOptions(order="fewest-images")
    build = build_coco_lt(path, None, targets=tmp_path / "t.csv", options=options)
    assert build.pool.image_ids[build.selection.images].tolist() == [99]
    assert "images fewer than rarest-first" in format_build(build)


def test_surplus_ignore_keeps_every_object_of_a_taken_image(path, tmp_path):
    options = BuildOptions(surplus="ignore", scale="0.0005", on_shortage="cap")
    build = build_coco_lt(path, tmp_path / "lt", options=options)
    dropped = build_coco_lt(path, tmp_path / "dropped", options=BuildOptions(scale="0.0005", on_shortage="cap"))
    assert (build.selection.annotations == dropped.selection.annotations).all()
    written = read_annotations(tmp_path / "lt/annotations.json")
    source = {a["id"]: a for a in json.loads(path.read_text())["annotations"]}
    content = json.loads((tmp_path / "lt/annotations.json").read_text())
    taken = set(written.image_ids.tolist())
    assert {a["id"] for a in content["annotations"]} == {i for i, a in source.items() if a["image_id"] in taken}
    changed = [a for a in content["annotations"] if a != source[a["id"]]]
    assert changed
    assert all(a == {**source[a["id"]], "iscrowd": 1} and list(a) == list(source[a["id"]]) for a in changed)
    assert count_categories(written).instances.tolist() == build.selection.instances.tolist()
    record = json.loads((tmp_path / "lt/build.json").read_text())
    assert record["ignored"]["surplus_instances"] == len(changed)
    assert record["ignored"]["crowds"] == len(taken)
    assert record["dropped"]["surplus_instances"] == 0
    for name in ("groups.json", "repeat_factors.csv", "categories.csv"):
        assert (tmp_path / "lt" / name).read_bytes() == (tmp_path / "dropped" / name).read_bytes()


def test_kept_instances_stay_verbatim_beside_ignored_ones(path, tmp_path):
    options = BuildOptions(surplus="ignore", scale="0.0005", on_shortage="cap")
    build_coco_lt(path, tmp_path / "lt", options=options)
    source = path.read_bytes()
    file = read_annotations(tmp_path / "lt/annotations.json")
    for record, crowd in zip(file.annotation_records, file.crowd, strict=True):
        assert crowd or bytes(record) in source


def test_validation_file_is_checked_copied_and_recorded(path, tmp_path):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    val = save(pool({500: [1, 2, 3]}), tmp_path / "val2017.json")
    build_coco_lt(path, tmp_path / "lt", options=options, extras=Extras(val=val))
    assert (tmp_path / "lt/val.json").read_bytes() == val.read_bytes()
    assert json.loads((tmp_path / "lt/build.json").read_text())["inputs"]["val"]["name"] == "val2017.json"
    other = save(pool({500: [1, 2, 4]}), tmp_path / "other.json")
    with pytest.raises(DataError, match=r"2 categories differ from .* \(id \d 'category \d' is not listed here"):
        build_coco_lt(path, tmp_path / "no", options=options, extras=Extras(val=other))
    assert not (tmp_path / "no").exists()


def test_pool_and_validation_may_be_dataset_directories(path, tmp_path):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    plain = build_coco_lt(path, tmp_path / "lt", options=options)
    (tmp_path / "pool").mkdir()
    path.rename(tmp_path / "pool/annotations.json")
    again = build_coco_lt(tmp_path / "pool", None, extras=Extras(val=tmp_path / "pool"), options=options)
    assert again.pool.sha256 == plain.pool.sha256 == again.val.sha256
    assert again.selection.annotations.tolist() == plain.selection.annotations.tolist()
    with pytest.raises(DataError, match=r"no annotations\.json in it"):
        build_coco_lt(tmp_path, None, options=options)
    with pytest.raises(OutputError, match="holds the input"):
        build_coco_lt(tmp_path / "lt", tmp_path / "lt", options=options, force=True)


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_put_beside(path, tmp_path, copy):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(1, 21):
        (folder / f"{i:012d}.jpg").write_bytes(b"image %d" % i)
    options = BuildOptions(scale="0.0002", on_shortage="cap")
    build = build_coco_lt(path, tmp_path / "lt", options=options, extras=Extras(images=folder, copy_images=copy))
    put = sorted((tmp_path / "lt/images").iterdir())
    taken = sorted(build.pool.image_ids[build.selection.images].tolist())
    assert [p.name for p in put] == [f"{i:012d}.jpg" for i in taken]
    assert [p.read_bytes() for p in put] == [b"image %d" % i for i in taken]
    assert all(os.path.islink(p) != copy for p in put)


def test_missing_images_are_listed_before_anything_is_written(path, tmp_path):
    (tmp_path / "images").mkdir()
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    with pytest.raises(DataError, match="images are missing"):
        build_coco_lt(path, tmp_path / "lt", options=options, extras=Extras(images=tmp_path / "images"))
    assert not (tmp_path / "lt").exists()


def test_file_names_that_leave_the_folder_are_refused(tmp_path):
    content = small()
    for image in content["images"]:
        image["file_name"] = "../" + image["file_name"]
    path = save(content, tmp_path / "pool.json")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="refused"):
        build_coco_lt(
            path,
            tmp_path / "lt",
            options=BuildOptions(scale="0.0005", on_shortage="cap"),
            extras=Extras(images=tmp_path / "images"),
        )


def test_an_output_that_holds_an_input_is_refused(path, tmp_path):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    build_coco_lt(path, tmp_path / "lt", options=options)
    before = (tmp_path / "lt/annotations.json").read_bytes()
    with pytest.raises(OutputError, match="holds the input"):
        build_coco_lt(tmp_path / "lt/annotations.json", tmp_path / "lt", options=options, force=True)
    extras = Extras(images=tmp_path / "lt")
    with pytest.raises(OutputError, match="holds the input"):
        build_coco_lt(path, tmp_path / "lt", options=options, extras=extras, force=True)
    assert (tmp_path / "lt/annotations.json").read_bytes() == before


def test_two_images_of_one_file_cannot_be_put_beside(tmp_path):
    content = small()
    for image in content["images"]:
        image["file_name"] = "same.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images/same.jpg").touch()
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    source = save(content, tmp_path / "pool.json")
    with pytest.raises(DataError, match="occur more than once"):
        build_coco_lt(source, tmp_path / "lt", options=options, extras=Extras(images=tmp_path / "images"))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({1: "same.jpg", 2: "./same.jpg"}, "1 image file names occur more than once .'same.jpg'."),
        ({1: "a/b.jpg", 2: "a//./b.jpg"}, "1 image file names occur more than once .'a/b.jpg'."),
        ({1: "", 2: ""}, "2 images have no file_name"),
    ],
)
def test_file_names_that_mean_the_same_or_nothing(tmp_path, names, says):
    content = pool({1: [1], 2: [2]})
    for image in content["images"]:
        image["file_name"] = names[image["id"]]
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/same.jpg").touch()
    (tmp_path / "images/a/b.jpg").touch()
    options = BuildOptions(scale="0.0001", on_shortage="cap")
    source = save(content, tmp_path / "pool.json")
    with pytest.raises(DataError, match=says) as error:
        build_coco_lt(source, tmp_path / "lt", options=options, extras=Extras(images=tmp_path / "images"))
    assert len(error.value.problems) == 1
    assert not (tmp_path / "lt").exists()


@pytest.mark.parametrize("copy", [False, True])
def test_images_that_lead_into_the_output_are_refused(path, tmp_path, copy):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    (tmp_path / "images").mkdir()
    for i in range(1, 21):
        (tmp_path / f"images/{i:012d}.jpg").write_bytes(b"image")
    build_coco_lt(path, tmp_path / "lt", options=options, extras=Extras(images=tmp_path / "images", copy_images=True))
    inside = {p.name for p in (tmp_path / "lt/images").iterdir()}
    for image in (tmp_path / "images").iterdir():
        source = tmp_path / ("lt/images" if image.name in inside else "images")
        (tmp_path / image.name).symlink_to(source / image.name)
    extras = Extras(images=tmp_path, copy_images=copy)
    with pytest.raises(OutputError, match=f"holds {len(inside)} of the images of --images") as error:
        build_coco_lt(path, tmp_path / "lt", options=options, extras=extras, force=True)
    assert len(error.value.problems) == 1
    assert {p.name for p in (tmp_path / "lt/images").iterdir()} == inside
    build_coco_lt(path, tmp_path / "other", options=options, extras=extras)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_image_folder_are_not_followed(path, tmp_path, copy, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    for i in range(1, 21):
        (outside / f"{i:012d}.jpg").write_bytes(b"private")
    images = tmp_path / "images"
    images.mkdir()
    if kind == "folder":
        (images / "val2017").symlink_to(outside)
    else:
        for file in outside.iterdir():
            (images / file.name).symlink_to(file)
    extras = Extras(images=images, copy_images=copy)
    with pytest.raises(DataError, match="lead out of the folder by a link .* give the folder that holds the files"):
        build_coco_lt(path, tmp_path / "lt", options=BuildOptions(scale="0.0002", on_shortage="cap"), extras=extras)
    assert not (tmp_path / "lt").exists()


def test_links_within_the_image_folder_and_to_it_are_followed(path, tmp_path):
    (tmp_path / "all/files").mkdir(parents=True)
    for i in range(1, 21):
        (tmp_path / f"all/files/{i}").write_bytes(b"image")
        (tmp_path / f"all/{i:012d}.jpg").symlink_to(f"files/{i}")
    (tmp_path / "images").symlink_to("all")
    extras = Extras(images=tmp_path / "images", copy_images=True)
    build_coco_lt(path, tmp_path / "lt", options=BuildOptions(scale="0.0002", on_shortage="cap"), extras=extras)
    assert all(file.read_bytes() == b"image" for file in (tmp_path / "lt/images").iterdir())


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"info": {"url": "http://cocodataset.org"}}, "COCO and LVIS annotations are CC BY 4.0"),
        ({"info": {"url": "http://mscoco.org"}}, "COCO and LVIS annotations are CC BY 4.0"),
        ({"info": {"url": "www.lvisdataset.org"}}, "COCO and LVIS annotations are CC BY 4.0"),
        ({"info": {"url": "http://cocodataset.org.example"}, "licenses": [{"id": 1}]}, "which the member `licenses` l"),
        ({"info": {"url": 7}, "licenses": []}, "which the file does not name"),
        ({"info": "COCO", "licenses": None}, "which the file does not name"),
        ({"info": {"url": "http://[", "description": "COCO 2017"}}, "which the file does not name"),
    ],
)
def test_the_card_claims_the_licence_of_coco_for_files_of_coco_only(tmp_path, members, says):
    path = save(small() | members, tmp_path / "pool.json")
    out = tmp_path / "lt"
    build_coco_lt(path, out, options=BuildOptions(scale="0.0005", on_shortage="cap"))
    card = (out / "README.md").read_text()
    assert says in card
    assert ("CC BY" in card) == ("CC BY" in says)
    assert verify_directory(out).problems == ()


def test_paths_that_are_not_utf_8_are_refused_before_the_build(path, tmp_path):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    odd = tmp_path / os.fsdecode(b"odd\xff")
    says = r"odd\\xff: the path is not UTF-8, so environment.json cannot name it"
    with pytest.raises(OutputError, match=says):
        build_coco_lt(path, odd, options=options)
    odd.symlink_to(path)
    with pytest.raises(OutputError, match=says):
        build_coco_lt(odd, tmp_path / "lt", options=options)
    assert not (tmp_path / "lt").exists()
    build_coco_lt(odd, None, options=options)


def test_data_card(path, tmp_path):
    build_coco_lt(path, tmp_path / "lt", options=BuildOptions(3, "0.0005", on_shortage="cap"))
    card = (tmp_path / "lt/README.md").read_text()
    assert "lt-data build-coco-lt --coco pool.json --out OUT --reference lvis-v0.5 --seed 3 --scale 0.0005" in card
    assert "| group | categories | instances |" in card
    assert "under its licences, which the file does not name: ask whoever made it." in card
    assert str(tmp_path) not in card


def test_packed_files_give_the_same_dataset(path, tmp_path):
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(path, "folder/pool.json")
    plain = build_coco_lt(path, tmp_path / "plain", options=options)
    for name in ("packed.json.gz", "packed.zip"):
        packed = build_coco_lt(tmp_path / name, tmp_path / f"lt-{name}", options=options)
        assert packed.pool.sha256 == plain.pool.sha256
        for file in ("annotations.json", "categories.csv", "groups.json", "repeat_factors.csv"):
            assert (tmp_path / f"lt-{name}" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_packed_files_that_are_broken(path, tmp_path):
    packed = gzip.compress(path.read_bytes())
    (tmp_path / "half.json.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "no.json.gz").write_bytes(b"not gzip")
    (tmp_path / "no.zip").write_bytes(b"not zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    for name, says in (("half.json.gz", "whole"), ("no.json.gz", "whole"), ("no.zip", "whole"), ("two.zip", "2 files")):
        with pytest.raises(DataError, match=says):
            read_annotations(tmp_path / name)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(path, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lt_data.build.write.write_subset", full)
    out = tmp_path / "deep" / "lt"
    with pytest.raises(OutputError, match="No space left on device"):
        build_coco_lt(path, out, options=BuildOptions(scale="0.0005", on_shortage="cap"))
    assert list((tmp_path / "deep").iterdir()) == []


def test_ctrl_c_leaves_nothing(path, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lt_data.build.write.image_repeat_factors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_coco_lt(path, tmp_path / "deep/lt", options=BuildOptions(scale="0.0005", on_shortage="cap"))
    assert list((tmp_path / "deep").iterdir()) == []


def test_images_of_lvis_05_are_put_beside_under_their_file_names(tmp_path):
    content, folder = small(), tmp_path / "images"
    folder.mkdir()
    for image in content["images"]:
        (folder / image["file_name"]).write_bytes(b"%d" % image["id"])
    path = save(as_lvis_05(content, folder), tmp_path / "pool.json")
    options = BuildOptions(scale="0.0005", on_shortage="cap")
    build = build_coco_lt(path, tmp_path / "lt", options=options, extras=Extras(images=folder))
    assert len(build.image_notes) == 1
    assert "were found by the path in their coco_url" in build.image_notes[0]
    written = json.loads((tmp_path / "lt/annotations.json").read_text())["images"]
    assert written
    for image in written:
        assert (tmp_path / "lt/images" / image["file_name"]).read_bytes() == b"%d" % image["id"]
    record = json.loads((tmp_path / "lt/build.json").read_text())
    assert not any("coco_url" in line for line in record["warnings"])
