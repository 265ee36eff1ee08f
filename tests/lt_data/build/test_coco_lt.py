"""Whole builds: the official size from the embedded counts, and every file of the dataset directory."""

import csv
import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Extras, totals
from lt_data.counts.categories import coco_2017_counts, count_categories
from lt_data.counts.group_stats import group_stats
from lt_data.counts.repeat_factors import image_repeat_factors
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from tests.lt_data.pools import SMALL, pool, save
from tests.lt_data.told import Told

COLUMNS = [
    *("category_id", "name", "rank", "pool_instances", "pool_images", "reference_rank", "reference_instances"),
    *("target", "instances", "images", "group"),
]
BYTES = ("annotations.json", "categories.csv", "groups.json", "repeat_factors.csv", "build.json")


@pytest.fixture(scope="module")
def coco_size_pool(tmp_path_factory):
    """118,287 images with the real number of instances of each COCO category."""
    rng = np.random.default_rng(0)
    counts = coco_2017_counts()
    category = np.repeat(counts.category_ids, counts.instances)
    image = rng.integers(1, 118_288, len(category))
    order = rng.permutation(len(category))
    records = [
        '{"id":%d,"image_id":%d,"category_id":%d,"iscrowd":0,"bbox":[1,2,3,4],"area":12}' % row
        for row in zip(range(1, len(order) + 1), image[order].tolist(), category[order].tolist(), strict=True)
    ]
    categories = [{"id": int(i), "name": n} for i, n in zip(counts.category_ids, counts.names, strict=True)]
    path = tmp_path_factory.mktemp("coco") / "instances_train2017.json"
    path.write_text(
        '{"images":[%s],"annotations":[%s],"categories":%s}'
        % (",".join('{"id":%d}' % i for i in range(1, 118_288)), ",".join(records), json.dumps(categories))
    )
    return path


def test_coco_lt_from_the_embedded_counts(coco_size_pool, tmp_path):
    build = build_coco_lt(coco_size_pool, tmp_path / "coco_lt")
    assert totals(build)["instances"] == 64_504
    assert [len(g.category_ids) for g in build.groups] == [19, 29, 20, 12]
    written = count_categories(read_annotations(tmp_path / "coco_lt/annotations.json"))
    targets = np.empty(80, np.int64)
    targets[build.alignment.order] = build.alignment.targets
    np.testing.assert_array_equal(written.instances, targets)
    stats = group_stats(tmp_path / "coco_lt")
    assert (stats.categories, stats.instances) == (80, 64_504)
    assert [g.categories for g in stats.groups] == [19, 29, 20, 12]
    assert stats.images == stats.images_with_annotations == totals(build)["images"]


def test_same_inputs_give_the_same_bytes(small_pool, tmp_path):
    build_coco_lt(small_pool, tmp_path / "a", options=SMALL)
    build_coco_lt(small_pool, tmp_path / "b" / "deeper", options=SMALL)
    for name in BYTES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b/deeper" / name).read_bytes()
        assert str(tmp_path) not in (tmp_path / "a" / name).read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {*BYTES, "environment.json", "alignment.png", "README.md"}


def test_another_seed_takes_other_images(small_pool, tmp_path):
    images = [
        build_coco_lt(
            small_pool, None, options=BuildOptions(seed, "0.001", on_shortage="cap")
        ).selection.images.tolist()
        for seed in (0, 1)
    ]
    assert images[0] != images[1]


def test_categories_csv(small_pool, tmp_path):
    build_coco_lt(small_pool, tmp_path / "lt", options=SMALL)
    rows = list(csv.DictReader((tmp_path / "lt/categories.csv").open(encoding="utf-8", newline="")))
    assert list(rows[0]) == COLUMNS
    pool_counts = count_categories(read_annotations(small_pool))
    subset = count_categories(read_annotations(tmp_path / "lt/annotations.json"))
    by_id = {int(row["category_id"]): row for row in rows}
    for i, category_id in enumerate(pool_counts.category_ids.tolist()):
        row = by_id[category_id]
        assert int(row["pool_instances"]) == pool_counts.instances[i]
        assert int(row["pool_images"]) == pool_counts.images[i]
        assert int(row["instances"]) == subset.instances[i] == min(int(row["target"]), pool_counts.instances[i])
        assert int(row["images"]) == subset.images[i]
        assert row["name"] == pool_counts.names[i]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", ""]
    assert [row["reference_rank"] for row in rows] == [*(str(i * 1229 // 3 + 1) for i in range(4)), ""]
    assert [rows[-1][key] for key in ("category_id", "reference_instances", "target")] == ["8", "0", "0"]
    assert int(rows[0]["reference_instances"]) == 26148


def test_build_json_and_repeat_factors(small_pool, tmp_path):
    out = tmp_path / "lt"
    build_coco_lt(small_pool, out, options=SMALL)
    record = json.loads((out / "build.json").read_text(encoding="utf-8"))
    file = read_annotations(out / "annotations.json")
    content = json.loads(small_pool.read_text(encoding="utf-8"))
    inside = [a for a in content["annotations"] if a["image_id"] in set(file.image_ids.tolist())]
    assert record["inputs"]["pool"] == {
        "name": "pool.json",
        "sha256": hashlib.sha256(small_pool.read_bytes()).hexdigest(),
    }
    assert record["totals"] == {"images": len(file.image_ids), "instances": len(file.annotation_ids), "categories": 5}
    crowds = sum(a["iscrowd"] for a in inside)
    assert crowds > 0
    assert record["dropped"]["crowds"] == crowds
    assert record["dropped"]["surplus_instances"] == len(inside) - crowds - len(file.annotation_ids) > 0
    # category 8 has no instance: it takes no rank, so it has no target that could be missed
    assert record["shortage"] == []
    for name, digest in record["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    rows = list(csv.reader((out / "repeat_factors.csv").open()))[1:]
    assert [int(r[0]) for r in rows] == file.image_ids.tolist()
    assert [float(r[1]) for r in rows] == image_repeat_factors(file, 0.001).tolist()


def test_records_keep_their_bytes(small_pool, tmp_path):
    build_coco_lt(small_pool, tmp_path / "lt", options=SMALL)
    source = small_pool.read_bytes()
    file = read_annotations(tmp_path / "lt/annotations.json")
    places = [source.index(bytes(record)) for record in file.annotation_records]
    assert places == sorted(places)
    for member in ("info", "categories"):
        assert bytes(file.members[member]) in source


def test_shortage_lists_every_category_and_the_largest_scale(small_pool):
    with pytest.raises(DataError) as error:
        build_coco_lt(small_pool, None)
    problems = error.value.problems
    assert len(problems) == 1 + len(error.value.short)
    assert not any("category 8 " in p for p in problems)
    scale = problems[0].split("works is ")[1].split(";")[0]
    assert 0 < Fraction(scale) < 1
    assert float(scale) == error.value.largest_scale
    # a category without an instance makes no scale fail
    build_coco_lt(small_pool, None, options=BuildOptions(scale=scale))


def test_advised_scale_works_and_the_next_fails(tmp_path):
    path = save(pool({i: [1, 1, 2] for i in range(1, 40)}), tmp_path / "pool.json")
    with pytest.raises(DataError, match="largest --scale that works is") as error:
        build_coco_lt(path, None)
    scale = error.value.problems[0].split("works is ")[1].split(";")[0]
    build_coco_lt(path, None, options=BuildOptions(scale=scale))
    with pytest.raises(DataError, match="target"):
        build_coco_lt(path, None, options=BuildOptions(scale=str(float(scale) + 1e-6)))


def test_where_no_scale_is_small_enough_the_advice_is_to_cap(tmp_path):
    path = save(pool({1: [1, 1, 2]}), tmp_path / "pool.json")
    (tmp_path / "t.csv").write_text("category_id,target\n1,2500000\n2,1\n")
    with pytest.raises(DataError) as error:
        build_coco_lt(path, None, targets=tmp_path / "t.csv", options=BuildOptions(scale="0.5"))
    assert "largest --scale that works is 0.000001;" in error.value.problems[0]
    (tmp_path / "t.csv").write_text("category_id,target\n1,3000000\n2,1\n")
    with pytest.raises(DataError) as error:
        build_coco_lt(path, None, targets=tmp_path / "t.csv")
    assert error.value.problems[0].endswith(
        "fix: no --scale from 0.000001 on works; --on-shortage cap takes what there is and records it"
    )


def test_steps_are_reported(small_pool, tmp_path):
    told = Told()
    build_coco_lt(small_pool, tmp_path / "lt", options=SMALL, progress=told)
    assert [step.split()[0] for step in told.steps] == ["reading", "choosing", "writing", "drawing"]


def test_small_inputs_are_checked_before_the_pool_is_read(small_pool, tmp_path):
    (tmp_path / "t.csv").write_text("category_id;target\n1;3\n")
    for arguments in (
        {"targets": tmp_path / "t.csv"},
        {"targets": tmp_path},
        {"targets": "nowhere"},
        {"reference": tmp_path / "t.csv"},
        {"extras": Extras(images=tmp_path / "nowhere")},
    ):
        told = Told()
        with pytest.raises(DataError) as error:
            build_coco_lt(small_pool, None, options=SMALL, progress=told, **arguments)
        assert told.steps == []
        assert len(error.value.problems) == 1
    with pytest.raises(DataError, match="cannot be read"):
        build_coco_lt(small_pool, None, options=SMALL, progress=told, extras=Extras(val=tmp_path / "v.json"))
    assert told.steps == [f"reading {tmp_path / 'v.json'}"]


def test_reference_from_a_file_counts_annotations_not_fields(small_pool, tmp_path):
    content = pool({1: [1, 1, 1, 2], 2: [2, 3]}, categories=[1, 2, 3, 4])
    content["categories"][0]["instance_count"] = 99
    build = build_coco_lt(small_pool, None, reference=save(content, tmp_path / "lvis.json"), options=SMALL)
    assert build.reference.instances.tolist() == [3, 2, 1]
    assert "instance_count" in build.warnings[0]
    assert "field 99, counted 3" in build.warnings[0]


@pytest.mark.parametrize("scale", ["0", "1.5", "-1", "abc", "nan", "1e400", "1e-9999999"])
def test_bad_scale(small_pool, scale):
    with pytest.raises(DataError, match="--scale"):
        build_coco_lt(small_pool, None, options=BuildOptions(scale=scale))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": "randm"}, "--order: got 'randm'; allowed are rarest-first, random, fewest-images"),
        ({"surplus": "keep"}, "--surplus: got 'keep'; allowed are drop, ignore"),
        ({"on_shortage": None}, "--on-shortage: got None; allowed are error, cap"),
        ({"seed": "0"}, "--seed: got '0'; allowed is a whole number"),
        ({"seed": 1.5}, "--seed: got 1.5"),
        ({"seed": True}, "--seed: got True"),
        ({"scale": 0.1}, "--scale: got 0.1; allowed is decimal text"),
        ({"edges": "10"}, "--groups: got '10'; allowed is whole numbers"),
        ({"edges": (1.5,)}, "--groups: got (1.5,)"),
        ({"threshold": "x"}, "--threshold: got 'x'; allowed is a number"),
    ],
)
def test_options_of_another_type_or_word(options, says):
    with pytest.raises(DataError) as error:
        build_coco_lt("nowhere.json", None, options=BuildOptions(**options))
    (problem,) = error.value.problems
    assert problem.startswith(says)


def test_every_wrong_option_has_a_line():
    with pytest.raises(DataError) as error:
        build_coco_lt("nowhere.json", None, options=BuildOptions(seed=None, order="x"))
    assert len(error.value.problems) == 2


def test_names_as_paths_and_paths_as_text(small_pool):
    build = build_coco_lt(str(small_pool), None, reference=Path("lvis-v1"), options=SMALL)
    assert build.reference.name == "lvis-v1"
    with pytest.raises(DataError, match="--targets simcal: "):
        build_coco_lt(small_pool, None, targets=Path("simcal"), options=SMALL)
    for empty in ({"reference": ""}, {"targets": ""}):
        with pytest.raises(DataError, match="is empty; give a name or a file"):
            build_coco_lt(small_pool, None, options=SMALL, **empty)
