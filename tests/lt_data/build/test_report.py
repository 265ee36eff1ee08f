"""What a build says of itself: what takes no rank, what cannot change anything, what is short."""

import csv
import json

import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build, remarks
from lt_data.build.shortage import SHOWN, ShortageError, shortage_json
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from lt_data.verify.verify import verify_directory
from tests.lt_data.pools import pool, save

CAP = BuildOptions(on_shortage="cap", edges=(5, 20))


def tail(*, root=False):
    """100, 50 and 20 instances; with ``root`` also the category that groups them, which has none."""
    images = {i: [1, *([2] if i <= 50 else []), *([3] if i <= 20 else [])] for i in range(1, 101)}
    return pool(images, categories=[0, 1, 2, 3] if root else None, names={0: "goods"})


def rows(folder):
    with (folder / "categories.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("options", [BuildOptions(edges=(5, 20)), CAP], ids=["error", "cap"])
def test_a_category_without_an_instance_takes_no_rank(tmp_path, options):
    source = save(tail(root=True), tmp_path / "pool.json")
    build = build_coco_lt(source, tmp_path / "lt", reference="exp:10", options=options)
    got = {row["category_id"]: (row["rank"], row["reference_rank"], row["target"]) for row in rows(tmp_path / "lt")}
    assert got == {"1": ("1", "1", "100"), "2": ("2", "2", "31"), "3": ("3", "3", "10"), "0": ("", "", "0")}
    assert remarks(build) == [
        "pool.json: categories without an instance, which take no rank: 1 (0 'goods'); they stay in the list"
    ]
    assert len(json.loads((tmp_path / "lt/annotations.json").read_text())["categories"]) == 4
    assert verify_directory(tmp_path / "lt", pool=source).problems == ()


def test_the_curve_is_that_of_the_pool_without_it(tmp_path):
    options = BuildOptions(edges=(5, 20))
    built = [
        build_coco_lt(save(tail(root=root), tmp_path / f"{root}.json"), None, reference="exp:10", options=options)
        for root in (False, True)
    ]
    assert built[0].alignment.targets.tolist() == built[1].alignment.targets.tolist()[:3]
    assert built[0].selection.images.tolist() == built[1].selection.images.tolist()


def test_explicit_targets_of_a_category_without_instances_are_short(tmp_path):
    source = save(tail(root=True), tmp_path / "pool.json")
    (tmp_path / "t.csv").write_text("category_id,target\n0,5\n1,10\n2,5\n3,2\n")
    with pytest.raises(ShortageError) as error:
        build_coco_lt(source, None, targets=tmp_path / "t.csv")
    fix, line = error.value.problems
    assert "categories without instances need a target of 0, or another pool" in fix
    assert "category 0 'goods': target 5, the pool has none; no scale helps" in line
    build_coco_lt(source, tmp_path / "lt", targets=tmp_path / "t.csv", options=CAP)
    assert rows(tmp_path / "lt")[-1]["rank"] == ""
    assert verify_directory(tmp_path / "lt", pool=source, reference=tmp_path / "t.csv").problems == ()


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ({1: [], 2: []}, "no category has an instance; give a pool"),
        ({1: [(1, "crowd")], 2: [(1, "crowd")]}, r"no category has an instance \(2 annotations are crowds, .*CVAT"),
    ],
)
def test_a_build_without_any_instance_is_refused(tmp_path, images, says):
    source = save(pool(images, categories=[1, 2]), tmp_path / "pool.json")
    with pytest.raises(DataError, match=says):
        build_coco_lt(source, tmp_path / "lt", reference="exp:10", options=CAP)
    assert not (tmp_path / "lt").exists()


def test_targets_that_take_nothing_are_refused(tmp_path):
    source = save(tail(), tmp_path / "pool.json")
    (tmp_path / "t.csv").write_text("category_id,target\n1,0\n2,0\n3,0\n")
    with pytest.raises(DataError, match=r"--targets t\.csv: every category that has instances .* has target 0"):
        build_coco_lt(source, tmp_path / "lt", targets=tmp_path / "t.csv")
    assert not (tmp_path / "lt").exists()


def test_a_reference_shorter_than_the_pool_is_said(tmp_path):
    source = save(tail(), tmp_path / "pool.json")
    (tmp_path / "one.csv").write_text("instances\n12\n")
    build = build_coco_lt(source, None, reference=tmp_path / "one.csv")
    (line,) = remarks(build)
    assert line.startswith("one.csv: 1 counts for the 3 categories of pool.json; they are repeated")
    (tmp_path / "three.csv").write_text("instances\n12\n5\n2\n")
    assert remarks(build_coco_lt(source, None, reference=tmp_path / "three.csv")) == []


@pytest.mark.parametrize("law", ["zipf:0", "exp:1", "zipf:0.1"])
def test_a_law_whose_cap_changes_nothing_is_said(tmp_path, law):
    source = save(tail(), tmp_path / "pool.json")
    build = build_coco_lt(source, None, reference=law, options=CAP)
    assert build.selection.instances.tolist() == [100, 50, 20]
    (line,) = remarks(build)
    assert line.startswith(f"reference {law}: every target is at or above what pool.json has")
    assert remarks(build_coco_lt(source, None, reference="exp:10", options=CAP)) == []


def many(count):
    return pool({i: list(range(1, count + 1)) for i in range(1, 3)})


def test_ten_categories_that_are_short_and_the_fix_first(tmp_path):
    source = save(many(30), tmp_path / "pool.json")
    (tmp_path / "t.csv").write_text("category_id,target\n" + "".join(f"{i},9\n" for i in range(1, 31)))
    with pytest.raises(ShortageError) as error:
        build_coco_lt(source, None, targets=tmp_path / "t.csv")
    lines = error.value.problems
    assert "short of instances in 30 of 30 categories; fix: the largest --scale that works is" in lines[0]
    assert len(lines) == 1 + SHOWN + 1
    assert lines[-1].endswith("and 20 more categories; --format json lists all")
    content = json.loads(shortage_json(error.value))
    assert [row["category_id"] for row in content["shortage"]] == list(range(1, 31))
    assert content["shortage"][0] == {
        "category_id": 1,
        "name": "category 1",
        "rank": 1,
        "target": 9,
        "available": 2,
    }
    build_coco_lt(
        source, None, targets=tmp_path / "t.csv", options=BuildOptions(scale=f"{content['largest_scale']:.6f}")
    )


def test_json_has_everything(tmp_path):
    source = save(tail(root=True), tmp_path / "pool.json")
    build = build_coco_lt(source, None, reference="zipf:0", options=CAP)
    content = json.loads(format_build(build, "json"))
    assert content["totals"] == {"images": 100, "instances": 170, "categories": 4}
    assert [row["category_id"] for row in content["shortage"]] == [2, 3]
    assert content["without_instances"] == [{"category_id": 0, "name": "goods"}]
    assert len(content["warnings"]) == 2
    assert [group["instances"] for group in content["groups"]] == [0, 0, 170]
