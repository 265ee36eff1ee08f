"""Groups out of a file: any partition of the categories, and one line for each kind of mistake."""

import json

import pytest

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.counts.categories import count_categories
from lt_data.counts.group_file import load_groups
from lt_data.counts.group_stats import format_stats, group_stats, write_groups
from lt_data.dataset.directory import read_groups
from lt_data.errors import DataError, OutputError
from lt_data.groups import Group, names_are_bounds
from lt_data.pictures.dataset import plot_dataset
from tests.lt_data.pools import SMALL, pool, save


@pytest.fixture
def file(tmp_path):
    """Four categories with 3, 1, 1 and 0 instances."""
    content = pool({7: [1, 1, 5], 8: [1, 9], 9: []}, categories=[1, 5, 9, 12], names={12: "unseen"})
    return read_annotations(save(content, tmp_path / "train.json"))


@pytest.fixture
def load(file, tmp_path):
    """Reads groups, given as the content of a file, for the annotations."""

    def load(content, **options):
        path = tmp_path / "groups.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load_groups(path, count_categories(file), **options)

    return load


def groups(*rows, **more):
    return {"schema": 1, "groups": [{"name": name, "category_ids": ids} for name, ids in rows], **more}


def test_any_partition_is_taken(load):
    found = load(groups(("vehicles", [9, 1]), ("none", []), ("the rest", [5, 12]), edges=None))
    assert found.groups == (
        Group("vehicles", None, None, (1, 9)),
        Group("none", None, None, ()),
        Group("the rest", None, None, (5, 12)),
    )
    assert (found.edges, found.moved) == (None, "")


def test_ids_as_other_programs_write_them(load):
    assert [g.category_ids for g in load(groups(("a", ["1", 5.0]), ("b", [9, 12]))).groups] == [(1, 5), (9, 12)]


def test_counts_outside_the_bounds_are_named_and_edges_of_others_are_none(load):
    content = groups(("(0, 2)", [1, 5, 12]), ("[2, ~)", [9]), edges=[2])
    content["groups"][0].update(lower=0, upper=2)
    content["groups"][1].update(lower=2, upper=None)
    found = load(content)
    assert found.edges == (2,)
    assert found.moved.endswith(
        "groups.json: 2 categories have an instance count outside the bounds of the group in the file "
        "(1 'category 1' has 3 in (0, 2), 9 'category 9' has 1 in [2, ~)); the groups are used as they are in the file"
    )
    # three groups cannot be those of one edge
    content["groups"].append({"name": "more", "category_ids": []})
    assert load(content).edges is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (groups(("a", [1, 5, 9])), ["1 category is in no group (12 'unseen'); add each to one group"]),
        (groups(("a", [1, 5, 9, 12, 4, 3])), ["lists 2 categories that the annotations do not have (ids 3, 4)"]),
        (groups(("a", [1, 5, 9]), ("b", [9, 12])), ["lists 1 category more than once (9 in a, b)"]),
        (groups(("a", [1, 1, 5, 9, 12])), ["lists 1 category more than once (1 in a)"]),
        (groups(("a", [1, 5]), ("a", [9, 12])), ["more than one group is called 'a'"]),
        (groups(("", [1, 5, 9, 12])), ["a group is called ''"]),
        (groups(("a\nb", [1, 5, 9, 12])), ["a group is called 'a\\nb'"]),
        (
            groups(("a", [1, 2])),
            ["lists 1 category that", "3 categories are in"],
        ),
        (groups(("a", [1, 5.5])), ["not a groups file (Expected `int`"]),
        (groups(("a", [True])), ["not a groups file (Expected `int`"]),
        (groups(("a", [1, 5, 9, 12]), edges=[5, 2]), ["ascending order, for example 2,5, or null"]),
        (groups(), ["not a groups file"]),
        ({"schema": 1}, ["not a groups file"]),
        ({"schema": 2}, ["schema is 2"]),
        ([], ["not a JSON object"]),
        ("{", ["cannot be read"]),
    ],
)
def test_what_is_no_partition_is_refused_in_one_line_each(load, content, says):
    with pytest.raises(DataError) as error:
        load(content)
    assert len(error.value.problems) == len(says)
    for line, text in zip(error.value.problems, says, strict=True):
        assert text in line
        assert "groups.json: " in line


def test_written_groups_belong_to_their_file(file, load, tmp_path):
    stats = group_stats(file.path, (2,))
    write_groups(tmp_path / "written.json", stats)
    text = (tmp_path / "written.json").read_text()
    assert json.loads(text) == {
        "schema": 1,
        "annotations": {"name": "train.json", "sha256": file.sha256},
        "edges": [2],
        "groups": [
            {"name": "(0, 2)", "lower": 0, "upper": 2, "category_ids": [5, 9, 12]},
            {"name": "[2, ~)", "lower": 2, "upper": None, "category_ids": [1]},
        ],
    }
    assert load(text, sha256=file.sha256).groups == stats.members
    with pytest.raises(DataError, match="made for train.json with sha256"):
        load(text, sha256="0" * 64)
    with pytest.raises(OutputError, match="--force"):
        write_groups(tmp_path / "written.json", stats)


@pytest.mark.parametrize(("by", "names"), [("images", ["(0, 2)", "[2, ~)"]), ("frequency", None)])
def test_bounds_of_anything_but_instances_are_not_written(file, tmp_path, by, names):
    write_groups(tmp_path / "written.json", group_stats(file.path, (2,) if names else None, by=by))
    content = json.loads((tmp_path / "written.json").read_text())
    assert content["edges"] is None
    assert [g["name"] for g in content["groups"]] == (names or ["rare", "common", "frequent"])
    assert all(g["lower"] is None and g["upper"] is None for g in content["groups"])


def test_categories_without_instances_are_counted_in_the_table(file):
    lines = format_stats(group_stats(file.path, (1, 2))).splitlines()
    assert "1 without training instances: 1 in (0, 1)" in lines
    assert "without" not in format_stats(group_stats(file.path, (2,)), "json")


def test_a_directory_shows_the_groups_of_its_file(tmp_path):
    source = save(pool({i: [1, 1, 2] if i % 2 else [1, 5] for i in range(1, 13)}), tmp_path / "pool.json")
    build_coco_lt(source, tmp_path / "lt", options=SMALL)
    path = tmp_path / "lt" / "groups.json"
    before = group_stats(tmp_path / "lt")
    path.write_text(json.dumps(groups(("mine", [1, 5]), ("yours", [2]), edges=None)))
    stats = group_stats(tmp_path / "lt")
    assert [(g.name, g.lower, g.upper, g.categories) for g in stats.groups] == [
        ("mine", None, None, 2),
        ("yours", None, None, 1),
    ]
    assert sum(g.instances for g in stats.groups) == before.instances
    assert format_stats(stats, "csv").splitlines()[1].startswith("mine,,,2,")
    assert read_groups(tmp_path / "lt") == (None, stats.members)
    # bounds that are asked for make groups of their own
    assert group_stats(tmp_path / "lt", (2, 5)).groups == before.groups
    drawn = {kind: plot_dataset(tmp_path / "lt", kind, tmp_path / kind).files[1] for kind in ("groups", "counts")}
    assert "mine" in drawn["groups"].read_text(encoding="utf-8")
    assert "no bounds make the groups of groups.json" in drawn["counts"].read_text(encoding="utf-8")
    path.write_text(json.dumps(groups(("mine", [5, 1]))))
    with pytest.raises(DataError, match="1 category is in no group"):
        group_stats(tmp_path / "lt")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["(0, 10)", "[10, 100)", "[100, 1000)", "[1000, ~)"], True),
        (["(0, 10)", "[10, ~)"], True),
        (["a", "b", "c", "d"], False),
        (["(0, 10)", "[20, ~)"], False),
        (["[10, ~)", "(0, 10)"], False),
        (["[0, 10)"], False),
        ([], False),
    ],
)
def test_names_that_bounds_make(names, expected):
    assert names_are_bounds(names) == expected
