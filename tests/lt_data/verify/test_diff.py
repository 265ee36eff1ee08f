"""What differs between two files or directories: everything that was changed, and nothing else."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.build.coco_lt import build_coco_lt
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from lt_data.verify.diff import diff_datasets, format_diff
from tests.lt_data.pools import annotation, pool, save

IMAGES = {3: [1, 1, 2], 1: [1, 5], 2: [(5, "crowd")], 8: []}
NAMES = {1: "cup", 2: "mug", 5: "jar"}
NOTHING = {"only_a": (), "only_b": (), "changed": ()}


@pytest.fixture
def content():
    return copy.deepcopy(pool(IMAGES, names=NAMES))


def compared(content, change, tmp_path):
    """The difference between a file and the same file after ``change``."""
    a = save(content, tmp_path / "a.json")
    changed = copy.deepcopy(content)
    change(changed)
    return diff_datasets(a, save(changed, tmp_path / "b.json"))


def records(records):
    return {"only_a": records.only_a, "only_b": records.only_b, "changed": records.changed}


def test_white_space_and_key_order_are_no_difference(content, tmp_path):
    a = save(content, tmp_path / "a.json")
    for member in ("images", "annotations", "categories"):
        content[member] = [dict(reversed(record.items())) for record in content[member]]
    b = tmp_path / "b.json"
    b.write_text(json.dumps(dict(reversed(content.items())), indent=3))
    diff = diff_datasets(a, b)
    assert diff.identical
    assert not diff.same_bytes
    assert "identical: the same records, with other white space" in format_diff(diff)
    shutil.copy(a, tmp_path / "c.json")
    assert "identical: the same records, byte for byte" in format_diff(diff_datasets(a, tmp_path / "c.json"))


def test_added_and_removed(content, tmp_path):
    def change(c):
        del c["images"][3]
        c["images"].append({"id": 77, "file_name": "x.jpg"})
        del c["annotations"][0]
        c["annotations"].append(annotation(99, 77, 5))

    diff = compared(content, change, tmp_path)
    assert records(diff.images) == {**NOTHING, "only_a": (8,), "only_b": (77,)}
    assert records(diff.annotations) == {**NOTHING, "only_a": (1,), "only_b": (99,)}
    assert [(c.key, c.name, c.a, c.b) for c in diff.instances] == [(1, "cup", 3, 2), (5, "jar", 1, 2)]
    assert records(diff.categories) == NOTHING
    text = format_diff(diff)
    assert "images only in A: 1 (ids 8)" in text
    assert "annotations only in B: 1 (ids 99)" in text
    assert "  1 cup: 3 -> 2" in text


@pytest.mark.parametrize(
    ("change", "what", "expected"),
    [
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, 5]), "annotations", (3, ("bbox",))),
        (lambda c: c["annotations"][2].pop("area"), "annotations", (3, ("area",))),
        (lambda c: c["annotations"][5].update(iscrowd=0), "annotations", (6, ("iscrowd",))),
        (lambda c: c["images"][1].update(width=9, flickr="u"), "images", (1, ("width", "flickr"))),
        (lambda c: c["categories"][1].update(supercategory="s"), "categories", (2, ("supercategory",))),
    ],
)
def test_changed_records_name_their_fields(content, tmp_path, change, what, expected):
    diff = compared(content, change, tmp_path)
    assert records(getattr(diff, what)) == {**NOTHING, "changed": (expected,)}
    assert not diff.identical
    others = {"images", "annotations", "categories"} - {what}
    assert all(getattr(diff, other).identical for other in others)
    assert f"{what} changed: 1 ({expected[0]}: {', '.join(expected[1])})" in format_diff(diff)


def test_categories(content, tmp_path):
    def change(c):
        c["categories"][0]["name"] = "beaker"
        c["categories"][2]["id"] = 6
        for record in c["annotations"]:
            record["category_id"] = {5: 6}.get(record["category_id"], record["category_id"])

    diff = compared(content, change, tmp_path)
    assert records(diff.categories) == {"only_a": (5,), "only_b": (6,), "changed": ((1, ("name",)),)}
    assert [(c.key, c.a, c.b) for c in diff.renamed] == [(1, "cup", "beaker")]
    assert [(c.key, c.a, c.b) for c in diff.instances] == [(5, 1, 0), (6, 0, 1)]
    assert "  1 cup: cup -> beaker" in format_diff(diff)


def test_order_and_other_members(content, tmp_path):
    def change(c):
        c["annotations"].reverse()
        c["info"]["description"] = "another"
        c["licenses"] = []

    diff = compared(content, change, tmp_path)
    assert diff.order == ("annotations",)
    assert diff.members == ("info", "licenses")
    assert diff.annotations.identical
    assert not diff.identical


def test_groups_of_plain_files(tmp_path):
    a = save(pool({1: [1] * 9}, names=NAMES), tmp_path / "a.json")
    b = save(pool({1: [1] * 10}, names=NAMES), tmp_path / "b.json")
    diff = diff_datasets(a, b)
    assert [(c.key, c.a, c.b) for c in diff.groups] == [(1, "(0, 10)", "[10, 100)")]
    assert diff.annotations.only_b == (10,)


def test_long_lists_are_shortened_in_text_only(tmp_path):
    a = save(pool({i: [1] for i in range(1, 30)}), tmp_path / "a.json")
    b = save(pool({i: [1] for i in range(10, 30)}), tmp_path / "b.json")
    diff = diff_datasets(a, b)
    assert "images only in A: 9 (ids 1, 2, 3, 4, 5, and 4 more)" in format_diff(diff)
    content = json.loads(format_diff(diff, "json"))
    assert content["images"]["only_a"] == list(range(1, 10))
    assert content["identical"] is False


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), max_size=12), st.integers(0, 3))
def test_a_file_is_identical_to_itself_and_differences_mirror(tmp_path_factory, pairs, dropped):
    folder = tmp_path_factory.mktemp("diff")
    content = pool({image: [c for i, c in pairs if i == image] for image in range(1, 10)}, categories=[1, 2, 3])
    a = save(content, folder / "a.json")
    assert diff_datasets(a, a).identical
    content["annotations"] = content["annotations"][dropped:]
    b = save(content, folder / "b.json")
    there, back = diff_datasets(a, b), diff_datasets(b, a)
    assert there.identical == (dropped == 0 or not pairs)
    assert there.annotations.only_a == back.annotations.only_b == tuple(range(1, min(dropped, len(pairs)) + 1))
    assert [(c.key, c.a, c.b) for c in there.instances] == [(c.key, c.b, c.a) for c in back.instances]


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    source = save(pool({i: [1, 1, 2, (3, "crowd"), 3] for i in range(1, 30)}, names={1: "cup"}), folder / "pool.json")
    options = BuildOptions(scale="0.001", on_shortage="cap", edges=(5, 20))
    for name, chosen in {"a": options, "again": options, "other": replace(options, seed=1, threshold=0.5)}.items():
        build_coco_lt(source, folder / name, options=chosen)
    return folder


def test_the_same_build_twice_is_identical(directories):
    diff = diff_datasets(directories / "a", directories / "again")
    assert diff.identical
    assert diff.same_bytes


def test_another_build(directories):
    diff = diff_datasets(directories / "a", directories / "other")
    assert [(c.key, c.a, c.b) for c in diff.settings] == [("options.threshold", 0.001, 0.5), ("seed", 0, 1)]
    assert diff.images.only_a
    assert diff.images.only_b
    assert diff.instances == ()
    assert diff.files[-1] == "repeat_factors.csv"
    text = format_diff(diff)
    assert "  seed: 0 -> 1" in text
    assert "files that differ: " in text


def test_a_directory_and_its_file(directories):
    assert diff_datasets(directories / "a", directories / "a" / "annotations.json").identical


def test_an_edited_table_and_an_edited_record_are_seen(directories, tmp_path):
    edited = shutil.copytree(directories / "a", tmp_path / "edited")
    factors = edited / "repeat_factors.csv"
    factors.write_text(factors.read_text().replace("1.0", "2.0", 1))
    groups = json.loads((edited / "groups.json").read_text())
    moved = groups["groups"][0]["category_ids"].pop()
    groups["groups"][2]["category_ids"].append(moved)
    (edited / "groups.json").write_text(json.dumps(groups))
    diff = diff_datasets(directories / "a", edited)
    assert not diff.identical
    assert diff.files == ("groups.json", "repeat_factors.csv")
    assert [(c.key, c.a, c.b) for c in diff.groups] == [(moved, "(0, 5)", "[20, ~)")]
    (edited / "build.json").write_text("[]")
    with pytest.raises(DataError, match=r"build\.json: cannot be read"):
        diff_datasets(directories / "a", edited)


def test_missing_inputs(tmp_path, content):
    a = save(content, tmp_path / "a.json")
    with pytest.raises(DataError, match=r"nothing\.json: cannot be read"):
        diff_datasets(a, tmp_path / "nothing.json")
    with pytest.raises(DataError, match=r"no annotations\.json in it"):
        diff_datasets(a, tmp_path)


def test_a_record_with_broken_text_is_one_line(tmp_path, content):
    a = save(content, tmp_path / "a.json")
    b = tmp_path / "b.json"
    b.write_bytes(a.read_bytes().replace(b'"segmentation": [[', b'"segmentation": ["\xff", [', 1))
    with pytest.raises(DataError, match=r"record with id 1: cannot be compared"):
        diff_datasets(a, b)
