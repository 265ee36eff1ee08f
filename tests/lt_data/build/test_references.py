"""Where targets come from: names, files, CSVs, laws, explicit targets."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.references import law, load_reference, load_targets
from lt_data.counts.categories import coco_2017_counts, count_categories
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from tests.lt_data.pools import pool, save


@pytest.fixture
def path(tmp_path):
    images = {i: [1, 1, 2, (3, "crowd")] + [3] * (i % 3 == 0) for i in range(1, 31)}
    return save(pool(images, names={2: "two, too"}), tmp_path / "pool.json")


def test_zipf_and_exponential_laws():
    assert law("zipf:1", 1000, 5).instances.tolist() == [1000, 500, 333, 250, 200]
    assert law("zipf:0", 7, 3).instances.tolist() == [7, 7, 7]
    # CIFAR-LT: 500 * 100 ** (-i / 9)
    assert law("exp:100", 500, 10).instances.tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    assert law("exp:100", 50, 1).instances.tolist() == [50]


@given(st.floats(1, 1e4), st.integers(1, 10**6), st.integers(2, 60))
def test_exponential_law_runs_from_the_largest_count_down(imbalance, largest, categories):
    counts = law(f"exp:{imbalance}", largest, categories).instances
    assert counts[0] == largest
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] == max(1, int(largest / imbalance)) or abs(counts[-1] - largest / imbalance) < 1.001
    exact = largest * imbalance ** (-np.arange(categories) / (categories - 1))
    assert (np.abs(counts - np.maximum(1, exact)) < 1.001).all()


@pytest.mark.parametrize("text", ["zipf:", "zipf:x", "zipf:-1", "exp:0.5", "exp:nan", "exp:1e99", "zipf:1e9"])
def test_laws_with_bad_numbers(text):
    with pytest.raises(DataError, match="--reference: got"):
        load_reference(text, 100, 5)


def test_csv_of_counts(tmp_path):
    table = tmp_path / "counts.csv"
    table.write_text("name,instances\na,3\nb,0\nc,70\n")
    reference, warnings = load_reference(table, 1, 1)
    assert reference.instances.tolist() == [70, 3]
    assert reference.name == "counts.csv"
    assert warnings == ()
    for content, says in (
        ("a,b\n1,2\n", "found the columns 'a', 'b'; needed are instance counts in a column 'instances'"),
        ("name;instances\na;3\n", "found the columns 'name;instances'; .* the separator must be a comma"),
        ("", "found the columns .none."),
        ("count\nx\n", "line 2, count"),
        ("count\n0\n", "every"),
    ):
        table.write_text(content)
        with pytest.raises(DataError, match=says):
            load_reference(table, 1, 1)


def test_a_dataset_directory_is_a_reference(path, tmp_path):
    build_coco_lt(path, tmp_path / "lt", reference="exp:10")
    reference, _ = load_reference(tmp_path / "lt", 1, 1)
    assert reference.instances.tolist() == [60, 18, 6]
    assert reference.name == "annotations.json"
    with pytest.raises(DataError, match="no annotations.json in it; give a dataset directory"):
        load_reference(str(tmp_path), 1, 1)


def test_unknown_reference_lists_what_is_allowed():
    with pytest.raises(DataError, match="lvis-v0.5, lvis-v1, zipf:ALPHA, exp:IMBALANCE"):
        load_reference("lvis-v9", 1, 1)


def test_a_law_in_a_build(path):
    build = build_coco_lt(path, None, reference="exp:10")
    assert build.alignment.targets.tolist() == [60, 18, 6]


def test_simcal_targets_are_those_of_the_other_coco_lt():
    targets = load_targets("simcal", coco_2017_counts())
    assert targets.instances.sum() == 666_493
    assert len(targets.instances) == 80
    assert targets.count_crowds


def test_counted_crowds_and_ignored_regions_exclude_each_other(tmp_path):
    counts = coco_2017_counts()
    content = pool({1: counts.category_ids.tolist()})
    options = BuildOptions(surplus="ignore", on_shortage="cap")
    with pytest.raises(DataError, match="use --surplus drop"):
        build_coco_lt(save(content, tmp_path / "a.json"), None, targets="simcal", options=options)


def test_simcal_needs_the_coco_categories(path):
    with pytest.raises(DataError, match="categories are not in the pool"):
        build_coco_lt(path, None, targets="simcal")


def test_targets_by_id_or_name(path, tmp_path):
    counts = count_categories(read_annotations(path))
    table = tmp_path / "targets.csv"
    table.write_text("category_id,target\n3,2\n1,40\n2,0\n")
    assert load_targets(table, counts).instances.tolist() == [40, 0, 2]
    build = build_coco_lt(path, None, targets=table)
    assert build.selection.instances.tolist() == [40, 0, 2]
    table.write_text('name,target\n"two, too",4\ncategory 1,1\ncategory 3,1\n')
    assert load_targets(table, counts).instances.tolist() == [1, 4, 1]
    half = build_coco_lt(path, None, targets=table, options=BuildOptions(scale="0.5"))
    assert half.selection.instances.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("category_id,target\n1,2\n", "no target for 2 pool categories"),
        ("category_id,target\n1,2\n2,2\n3,1\n99,1\n", "1 categories are not in the pool .99"),
        ("category_id,target\n1,2\n1,2\n", "occurs twice"),
        ("category_id,target\n1,-2\n", "line 2, target: got '-2'"),
        ("id,target\n1,2\n", "found the columns 'id', 'target'; needed are the columns 'target' and 'category_id'"),
        ("name\ttarget\na\t2\n", r"found the columns 'name\\ttarget'; .* the separator must be a comma"),
        ("category_id,target\n", "no target for 3 pool categories"),
        ("", "found the columns .none."),
    ],
)
def test_bad_targets(path, tmp_path, content, says):
    table = tmp_path / "targets.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=says):
        build_coco_lt(path, None, targets=table)


def test_a_name_that_two_categories_share_needs_an_id(tmp_path):
    source = save(pool({1: [1, 2, 3]}, names={1: "crate", 2: "crate"}), tmp_path / "pool.json")
    table = tmp_path / "targets.csv"
    table.write_text("name,target\ncrate,2\ncategory 3,1\n")
    with pytest.raises(DataError) as error:
        build_coco_lt(source, None, targets=table)
    (line,) = error.value.problems
    assert "2 pool categories are called 'crate' (ids 1, 2); use the column category_id instead of name" in line
    table.write_text("category_id,target\n1,1\n2,1\n3,1\n")
    assert build_coco_lt(source, None, targets=table).selection.instances.tolist() == [1, 1, 1]


def test_a_table_in_another_encoding_is_to_be_saved_as_utf_8(path, tmp_path):
    table = tmp_path / "targets.csv"
    table.write_bytes("name,target\nCaf\u00e9,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 \(.*\); save it as UTF-8"):
        build_coco_lt(path, None, targets=table)


def test_targets_that_do_not_exist(path):
    with pytest.raises(DataError, match="allowed are simcal, or a CSV"):
        build_coco_lt(path, None, targets="nowhere")


def test_explicit_targets_have_no_reference_rank(path, tmp_path):
    table = tmp_path / "targets.csv"
    table.write_text("category_id,target\n3,2\n1,40\n2,7\n")
    build_coco_lt(path, tmp_path / "lt", targets=table)
    rows = (tmp_path / "lt/categories.csv").read_text().splitlines()
    assert rows[1] == '1,category 1,1,60,30,,40,40,40,20,"[10, 100)"'
    record = json.loads((tmp_path / "lt/build.json").read_text())
    assert record["inputs"]["targets"]["name"] == "targets.csv"
    assert "reference" not in record["inputs"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("category_id,target\n1,26,148\n", "line 2: 3 cells, but the header has 2; "),
        ("category_id,target,target\n1,2,3\n", "line 1: more than one column is called 'target'; keep one"),
        ("category_id,target\n1,2\n\n\n2\n", "line 5, target: is missing"),
        ("target,name\n3\n", "line 2, name: is missing"),
        (f"category_id,target\n1,{10**30}\n", "got '1000000000000000000000000000000'; .* from 0 to 2.53"),
        (f"category_id,target\n{'9' * 5000},1\n", r"got '9{40}\.\.\.' \(5,000 characters\); .* from -2.53 to 2.53"),
        (f"name,target\n{'n' * 5000},1\n", r"\('n{40}\.\.\.' \(5,000 characters\)\)"),
        (
            "category_id,name,target\n1,category 1,2\n2,category 3,2\n3,,1\n",
            r"targets.csv: 1 names are not the pool's \(line 3: id 2 is 'category 3', in the pool 'two, too'\); mend",
        ),
        ("category_id,name,target\n1,a,2\n2,a,2\n3,a,1\n", "3 names .*line 2: .*; line 3: .*; line 4: "),
    ],
)
def test_tables_that_would_be_misread(path, tmp_path, content, says):
    table = tmp_path / "targets.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=says) as error:
        load_targets(table, count_categories(read_annotations(path)))
    assert all(len(line) < 400 for line in error.value.problems)


def test_names_beside_ids_may_be_left_out(path, tmp_path):
    table = tmp_path / "targets.csv"
    table.write_text('category_id,name,target,note,,\n1,category 1,2,,,\n2,"two, too",4,,,\n3,,1\n')
    assert load_targets(table, count_categories(read_annotations(path))).instances.tolist() == [2, 4, 1]


def test_pipes_are_no_tables(tmp_path):
    os.mkfifo(tmp_path / "counts.csv")
    with pytest.raises(DataError, match="is not a plain file; save it first"):
        load_reference(tmp_path / "counts.csv", 1, 1)
