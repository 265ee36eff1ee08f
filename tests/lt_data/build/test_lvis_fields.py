"""A subset of an LVIS pool says of itself what it holds; all other bytes are the pool's."""

import json

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build
from lt_data.checks.check import check_file
from lt_data.counts.categories import count_categories
from lt_data.counts.group_stats import group_stats
from lt_data.dataset.options import BuildOptions
from lt_data.verify.verify import verify_directory
from tests.lt_data.pools import pool, save

FIELDS = ("frequency", "image_count", "instance_count")
# a law that takes part of every category
HALF = BuildOptions(scale="0.5", edges=(5, 20))


def lvis_pool(seed=0):
    """Counts as LVIS has them, and lists of categories in every image."""
    rng = np.random.default_rng(seed)
    content = pool({i: rng.choice([1, 1, 1, 1, 2, 2, 3], 4).tolist() for i in range(1, 61)})
    for image in content["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[3] if image["id"] % 5 == 0 else [])
    for category in content["categories"]:
        own = [a for a in content["annotations"] if a["category_id"] == category["id"]]
        images = len({a["image_id"] for a in own})
        category.update(frequency="c" if images > 10 else "r", image_count=images, instance_count=len(own))
    return content


@pytest.fixture
def source(tmp_path):
    return save(lvis_pool(), tmp_path / "lvis.json")


@pytest.mark.parametrize("surplus", ["drop", "ignore"])
def test_categories_say_what_the_subset_holds(source, tmp_path, surplus):
    options = BuildOptions(scale="0.1", edges=(5, 20), surplus=surplus)
    build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=options)
    file = read_annotations(tmp_path / "lt/annotations.json")
    counts = count_categories(file)
    written = json.loads((tmp_path / "lt/annotations.json").read_text())["categories"]
    assert [c["instance_count"] for c in written] == counts.instances.tolist()
    assert [c["image_count"] for c in written] == counts.images.tolist()
    assert [c["frequency"] for c in written] == ["r" if n <= 10 else "c" for n in counts.images.tolist()]
    assert {c["frequency"] for c in lvis_pool()["categories"]} != {c["frequency"] for c in written}
    assert not {"LT210", "LT211"} & {f.code for f in check_file(tmp_path / "lt").findings}
    assert group_stats(tmp_path / "lt", by="frequency").groups[0].categories == sum(n <= 10 for n in counts.images)


def test_images_list_the_categories_of_which_they_lost_instances(source, tmp_path):
    build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=HALF)
    written = json.loads((tmp_path / "lt/annotations.json").read_text())
    kept = {a["id"] for a in written["annotations"]}
    before = {image["id"]: image for image in lvis_pool()["images"]}
    lost = {i: set() for i in before}
    for record in lvis_pool()["annotations"]:
        if record["id"] not in kept:
            lost[record["image_id"]].add(record["category_id"])
    assert any(lost[image["id"]] for image in written["images"])
    for image in written["images"]:
        old = before[image["id"]]["not_exhaustive_category_ids"]
        assert image["not_exhaustive_category_ids"] == [*old, *sorted(lost[image["id"]] - set(old))]
        assert {**image, "not_exhaustive_category_ids": old} == before[image["id"]]


def test_all_other_bytes_are_the_pools(source, tmp_path):
    build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=HALF)
    bytes_of_pool = source.read_bytes()
    file, whole = read_annotations(tmp_path / "lt/annotations.json"), read_annotations(source)
    assert list(file.members) == list(whole.members)
    assert all(bytes(record) in bytes_of_pool for record in file.annotation_records)
    assert bytes(file.members["info"]) == bytes(whole.members["info"])

    def without_numbers(member):
        categories = json.loads(bytes(member))
        return [{k: v for k, v in c.items() if k not in FIELDS} for c in categories], [list(c) for c in categories]

    assert without_numbers(file.members["categories"]) == without_numbers(whole.members["categories"])


def test_the_record_and_the_summary_say_so(source, tmp_path):
    build = build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=HALF)
    record = json.loads((tmp_path / "lt/build.json").read_text())["rewritten"]
    assert record["category_fields"] == list(FIELDS)
    assert record["not_exhaustive_images"] == len(build.rewritten.images) > 0
    assert "frequency, image_count, instance_count" in format_build(build)
    assert f"{len(build.rewritten.images)} images that lost surplus" in format_build(build)
    assert "rewritten" in (tmp_path / "lt/README.md").read_text()


def test_a_pool_without_these_fields_keeps_every_byte(small_pool, tmp_path):
    build = build_coco_lt(small_pool, tmp_path / "lt", options=BuildOptions(scale="0.001", on_shortage="cap"))
    assert (build.rewritten.fields, build.rewritten.edits, build.rewritten.images) == ((), (), {})
    assert "rewritten" not in json.loads((tmp_path / "lt/build.json").read_text())


def test_fields_of_other_types_and_lists_that_are_none(tmp_path):
    content = lvis_pool()
    content["categories"][0].update(instance_count="96", frequency=None)
    del content["categories"][1]["image_count"]
    for image in content["images"]:
        image["not_exhaustive_category_ids"] = None if image["id"] % 2 else "none"
    build_coco_lt(save(content, tmp_path / "a.json"), tmp_path / "lt", reference="exp:4", options=HALF)
    file = read_annotations(tmp_path / "lt/annotations.json")
    written = json.loads((tmp_path / "lt/annotations.json").read_text())
    first, second, _ = written["categories"]
    assert first["instance_count"] == count_categories(file).instances[0]
    assert first["frequency"] is None
    assert "image_count" not in second
    assert {image["not_exhaustive_category_ids"] for image in written["images"]} <= {None, "none"}


@pytest.mark.parametrize("surplus", ["drop", "ignore"])
def test_such_a_directory_verifies_and_every_change_is_found(source, tmp_path, surplus):
    options = BuildOptions(scale="0.5", edges=(5, 20), surplus=surplus)
    build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=options)
    assert verify_directory(tmp_path / "lt").problems == ()
    assert verify_directory(tmp_path / "lt", pool=source).problems == ()
    path = tmp_path / "lt/annotations.json"
    text = path.read_text()
    images = json.loads(text)["images"]
    changed = next(i for i in images if len(i["not_exhaustive_category_ids"]) == 1 and i["id"] % 5)
    wrong = json.dumps({**changed, "not_exhaustive_category_ids": []})
    path.write_text(text.replace(json.dumps(changed), wrong))
    where = [problem.where for problem in verify_directory(tmp_path / "lt", pool=source).problems]
    assert any(place.startswith(f"image {changed['id']} ") for place in where)
    path.write_text(text.replace('"image_count": ', '"image_count": 1', 1))
    where = [problem.where for problem in verify_directory(tmp_path / "lt").problems]
    assert any(place.startswith("categories at byte ") for place in where)


def test_a_directory_of_before_is_held_to_the_pools_bytes(source, tmp_path):
    build_coco_lt(source, tmp_path / "lt", reference="exp:4", options=HALF)
    record = json.loads((tmp_path / "lt/build.json").read_text())
    del record["rewritten"]
    save(record, tmp_path / "lt/build.json")
    where = [problem.where for problem in verify_directory(tmp_path / "lt", pool=source).problems]
    assert any(place.startswith("member 'categories'") for place in where)
