"""Repeat factors against their definition and the figures known for LVIS v0.5."""

import csv
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.file import read_annotations
from lt_data.counts.repeat_factor_table import (
    format_repeat_factors,
    repeat_factor_table,
    threshold_advice,
    write_repeat_factors,
)
from lt_data.counts.repeat_factors import (
    ROUNDINGS,
    category_repeat_factors,
    expected_copies,
    image_repeat_factors,
    instance_aware_category_factors,
    whole_copies,
)
from lt_data.errors import DataError, OutputError
from tests.lt_data.pools import pool, save

IMAGES = st.dictionaries(
    st.integers(1, 10**6),
    st.lists(st.one_of(st.integers(1, 6), st.tuples(st.integers(1, 6), st.just("crowd"))), max_size=5),
    min_size=1,
    max_size=12,
)


@given(IMAGES, st.floats(0.001, 2))
def test_definition(tmp_path_factory, images, threshold):
    path = save(pool(images, categories=range(1, 7)), tmp_path_factory.mktemp("pool") / "a.json")
    factors = image_repeat_factors(read_annotations(path), threshold)
    held = {i: {c for c in content if not isinstance(c, tuple)} for i, content in images.items()}
    annotated = sum(bool(categories) for categories in held.values())
    share = Counter(c for categories in held.values() for c in categories)
    expected = [max([1.0, *(math.sqrt(threshold / (share[c] / annotated)) for c in held[image])]) for image in images]
    assert len(factors) == len(images)
    np.testing.assert_allclose(factors, expected, rtol=1e-12)


def test_category_without_images_has_factor_one():
    assert category_repeat_factors(np.array([0, 1, 4]), 4, 0.5).tolist() == [1.0, math.sqrt(2), 1.0]


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_threshold_must_be_positive(threshold):
    with pytest.raises(DataError, match="--threshold"):
        category_repeat_factors(np.array([1]), 1, threshold)


def test_lvis_v05_by_the_definition(shared_data):
    index = json.loads(
        (shared_data / "lvis_v0.5_category_image_index/lvis_v0.5_train_category_to_image_ids.json").read_text()
    )
    index = {int(category): entry["image_ids"] for category, entry in index.items()}
    categories = sorted(index)
    counts = np.array([len(index[c]) for c in categories])
    images = {i for c in categories for i in index[c]}
    factors = dict.fromkeys(images, 1.0)
    for category, factor in zip(categories, category_repeat_factors(counts, len(images), 0.001), strict=True):
        for image in index[category]:
            factors[image] = max(factors[image], factor)
    assert len(images) == 56_740
    assert round(sum(factors.values())) == 64_858
    assert sum(1 + math.ceil(r) if r > 1 else 1 for r in factors.values()) == 80_488


@pytest.fixture(scope="module")
def lvis_v05(shared_data, tmp_path_factory):
    """An annotation file in which every category is on the images that hold it in LVIS v0.5 train, once each."""
    index = json.loads(
        (shared_data / "lvis_v0.5_category_image_index/lvis_v0.5_train_category_to_image_ids.json").read_text()
    )
    pairs = [(int(category), image) for category, entry in index.items() for image in entry["image_ids"]]
    images = sorted({image for _, image in pairs})
    # 57,263 images are listed, 523 of them hold nothing
    images += range(10**7, 10**7 + 523)
    path = tmp_path_factory.mktemp("lvis") / "lvis_v0.5_train.json"
    path.write_text(
        '{"images":[%s],"annotations":[%s],"categories":[%s]}'
        % (
            ",".join('{"id":%d}' % image for image in images),
            ",".join('{"id":%d,"category_id":%d,"image_id":%d}' % (i, *pair) for i, pair in enumerate(pairs)),
            ",".join('{"id":%d}' % int(category) for category in index),
        )
    )
    return path


def test_lvis_v05_epoch_lengths(lvis_v05):
    table = repeat_factor_table(lvis_v05, rounding="bags")
    assert (len(table.image_ids), int(table.annotated.sum())) == (57_263, 56_740)
    lengths = {rule: round(table.epoch_length(rule)) for rule in ROUNDINGS}
    assert lengths == {"none": 64_858, "stochastic": 64_858, "ceil": 70_820, "bags": 80_488}
    assert table.epoch_length() == 80_488
    assert table.epoch_length(empty_images=True) == 80_488 + 523
    assert ((table.factors > 1).sum(), (table.category_factors > 1).sum()) == (9_668, 829)
    assert table.factors.max() == pytest.approx(7.53, abs=0.005)
    assert table.advice == ()
    text = format_repeat_factors(table)
    assert "829 of 1,230 categories and 9,668 of 56,740 images with annotations are repeated" in text
    assert "523 images without annotations" in text
    assert [line.split()[:3] for line in text.splitlines() if line.endswith("<")] == [["bags", "80,488.0", "81,011.0"]]


def test_thresholds_for_lvis_v05_begin_at_its_rarest_category(lvis_v05, shared_data):
    rows = threshold_advice(read_annotations(lvis_v05))
    # one image of 56,740 is a share of 0.0000176
    assert [row.threshold for row in rows] == [2e-5, 5e-5, 1e-4, 2e-4, 5e-4]
    assert [row.categories for row in rows] == sorted(row.categories for row in rows)
    table = (shared_data / "lvis_v0.5_counts/lvis_v0.5_train_counts.csv").open(encoding="utf-8")
    on_images = [int(row["image_count"]) for row in csv.DictReader(table)]
    assert rows[0].categories == on_images.count(1)
    assert rows[-1].categories == sum(n < 5e-4 * 56_740 for n in on_images)


@given(st.lists(st.floats(1, 9), min_size=1, max_size=20))
def test_rounding_rules(factors):
    factors = np.array(factors)
    assert whole_copies(factors, "ceil").tolist() == [math.ceil(r) for r in factors]
    assert whole_copies(factors, "bags").tolist() == [1 + math.ceil(r) if r > 1 else 1 for r in factors]
    for rule in ("none", "stochastic"):
        np.testing.assert_array_equal(expected_copies(factors, rule), factors)
        with pytest.raises(DataError, match=f"--rounding: got '{rule}'"):
            whole_copies(factors, rule)
    with pytest.raises(DataError, match="allowed are none, stochastic, ceil, bags"):
        expected_copies(factors, "round")


def test_instance_aware_factors_by_hand():
    # category 1 on 1 of 4 images with 9 of 12 instances, category 2 on 4 images with 3; t = 0.6
    factors = instance_aware_category_factors(np.array([1, 4, 0]), np.array([9, 3, 0]), 4, 0.6)
    expected = [math.sqrt(0.6 / math.sqrt(1 / 4 * 9 / 12)), math.sqrt(0.6 / math.sqrt(4 / 4 * 3 / 12)), 1.0]
    np.testing.assert_allclose(factors, expected, rtol=1e-12)


@given(IMAGES, st.floats(0.001, 2), st.floats(0.01, 1))
def test_instance_aware_definition(tmp_path_factory, images, threshold, exponent):
    path = save(pool(images, categories=range(1, 7)), tmp_path_factory.mktemp("pool") / "a.json")
    factors = image_repeat_factors(read_annotations(path), threshold, instance_aware=True, exponent=exponent)
    held = {i: [c for c in content if not isinstance(c, tuple)] for i, content in images.items()}
    annotated = sum(map(bool, held.values()))
    on_images = Counter(c for content in held.values() for c in set(content))
    instances = Counter(c for content in held.values() for c in content)

    def factor(c):
        share = math.sqrt(on_images[c] / annotated * instances[c] / sum(instances.values()))
        return (threshold / share) ** exponent

    expected = [max([1.0, *map(factor, held[image])]) for image in images]
    np.testing.assert_allclose(factors, expected, rtol=1e-12)


def test_a_file_of_four_images_by_hand(tmp_path):
    """Categories 1, 2, 3 are on 4, 2, 1 of 4 annotated images, with 5, 2, 9 of 16 instances."""
    path = save(pool({1: [1, 1, 2], 2: [1, 2], 3: [1, *([3] * 9)], 4: [1], 5: []}), tmp_path / "a.json")
    file, t = read_annotations(path), 0.6
    of_images, of_instances = np.array([1, 0.5, 0.25]), np.array([5, 2, 9]) / 16
    for shares, instance_aware in ((of_images, False), (np.sqrt(of_images * of_instances), True)):
        for exponent in (0.25, 0.5, 1.0):
            one, two, three = np.maximum(1, (t / shares) ** exponent)
            expected = [max(one, two), max(one, two), max(one, three), one, 1]
            found = image_repeat_factors(file, t, instance_aware=instance_aware, exponent=exponent)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    # many instances on one image: rare by images, and less so by both
    assert image_repeat_factors(file, t)[2] > image_repeat_factors(file, t, instance_aware=True)[2] > 1


@given(IMAGES, st.floats(0.001, 2))
def test_the_published_exponent_is_the_square_root_to_the_last_digit(tmp_path_factory, images, threshold):
    path = save(pool(images, categories=range(1, 7)), tmp_path_factory.mktemp("pool") / "a.json")
    plain, asked = (repeat_factor_table(path, threshold, **options) for options in ({}, {"exponent": 0.5}))
    for style in ("table", "csv", "json"):
        assert format_repeat_factors(plain, style) == format_repeat_factors(asked, style)
        assert "exponent" not in format_repeat_factors(plain, style)


def test_another_exponent_is_named(small):
    table = repeat_factor_table(small, 0.5, exponent=1)
    # category 2 is on 3 of 10 annotated images, category 3 on one
    np.testing.assert_allclose(table.category_factors, [1, 5 / 3, 5, 1])
    assert ", threshold 0.5, exponent 1\n" in format_repeat_factors(table)
    assert json.loads(format_repeat_factors(table, "json"))["exponent"] == 1
    advice = {row.threshold: row for row in threshold_advice(read_annotations(small), exponent=1)}
    assert advice[0.2].epoch_length == pytest.approx(9 + 2)


@pytest.mark.parametrize("exponent", [0, -0.5, 1.001, float("nan")])
def test_exponents_that_are_refused(small, exponent):
    counts = np.array([1])
    for compute in (
        lambda: category_repeat_factors(counts, 1, 0.1, exponent=exponent),
        lambda: instance_aware_category_factors(counts, counts, 1, 0.1, exponent=exponent),
        lambda: image_repeat_factors(read_annotations(small), exponent=exponent),
    ):
        with pytest.raises(DataError, match="--exponent: got .*; allowed is a positive number up to 1"):
            compute()


def test_factors_that_no_epoch_could_hold_are_refused(small):
    with pytest.raises(DataError, match="repeats a category 1e[+]07 times; allowed are 1,000,000, lower either"):
        repeat_factor_table(small, 1e6, exponent=1)


@pytest.fixture
def small(tmp_path):
    """Ten annotated images, all with category 1, three with 2, one with 3; a crowd of 4; an empty image."""
    images = {i: [1, *([2] * (i <= 3)), *([3, 3, 3] if i == 1 else [])] for i in range(1, 11)}
    images |= {11: [(4, "crowd")], 12: []}
    return save(pool(images, categories=[1, 2, 3, 4], names={3: "mug, \u00e9"}), tmp_path / "small.json")


def test_advice_when_the_threshold_repeats_nothing(small):
    table = repeat_factor_table(small)
    assert (table.factors == 1).all()
    rows = {row.threshold: row for row in table.advice}
    assert list(rows) == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert (rows[0.2].categories, rows[0.2].images) == (1, 1)
    assert rows[0.2].epoch_length == pytest.approx(9 + math.sqrt(2))
    # category 2 is on 3 of 10 images, one of them with the rarer category 3
    assert (rows[0.5].categories, rows[0.5].images) == (2, 3)
    assert rows[0.5].epoch_length == pytest.approx(7 + 2 * math.sqrt(5 / 3) + math.sqrt(5))
    assert (rows[2.0].categories, rows[2.0].images) == (3, 10)
    text = format_repeat_factors(table)
    assert "threshold 0.001 repeats nothing" in text
    assert len([line for line in text.splitlines() if line.split()[0:1] == ["0.2"]]) == 1
    assert "repeats nothing" not in format_repeat_factors(repeat_factor_table(small, 0.2))


def test_advice_counts_instances_where_asked(small):
    # category 3 holds 3 of 16 instances on 1 of 10 images: sqrt(0.1 * 3/16) = 0.137; category 2: sqrt(0.3 * 3/16)
    rows = threshold_advice(read_annotations(small), instance_aware=True)
    assert [row.threshold for row in rows] == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert [row.categories for row in rows] == [1, 2, 3, 3, 3]


def test_no_advice_without_instances(tmp_path):
    path = save(pool({1: [], 2: [(1, "crowd")]}, categories=[1]), tmp_path / "empty.json")
    table = repeat_factor_table(path, rounding="ceil")
    assert table.advice == ()
    assert (table.epoch_length(), table.epoch_length(empty_images=True)) == (0, 2)
    format_repeat_factors(table)


def test_written_file_and_text_agree(small, tmp_path):
    table = repeat_factor_table(small, 0.5)
    out = tmp_path / "factors.csv"
    write_repeat_factors(out, table)
    rows = list(csv.DictReader(out.open(encoding="utf-8", newline="")))
    assert [int(row["image_id"]) for row in rows] == list(range(1, 13))
    assert [float(row["repeat_factor"]) for row in rows] == table.factors.tolist()
    assert out.read_text(encoding="utf-8") == format_repeat_factors(table, "csv") + "\n"
    content = json.loads(format_repeat_factors(table, "json"))
    assert content["epoch_length"]["bags"] == 7 + 2 * 3 + 4
    assert content["epoch_length_with_empty_images"]["ceil"] == 7 + 2 * 2 + 3 + 2
    assert [row["name"] for row in content["categories"]][2] == "mug, \u00e9"
    assert [row["repeat_factor"] for row in content["categories"]] == table.category_factors.tolist()


def test_whole_copies_are_written_as_whole_numbers(small, tmp_path):
    write_repeat_factors(tmp_path / "bags.csv", repeat_factor_table(small, 0.5, rounding="bags"))
    assert (tmp_path / "bags.csv").read_text().splitlines()[1:5] == ["1,4", "2,3", "3,3", "4,1"]


def test_a_file_is_replaced_only_when_asked_and_never_half(small, tmp_path, monkeypatch):
    table, out = repeat_factor_table(small, 0.5), tmp_path / "out" / "factors.csv"
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(OutputError, match="use --force"):
        write_repeat_factors(out, table)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match="No space left on device"):
            write_repeat_factors(out, table, force=True)
    assert out.read_text() == "mine"
    write_repeat_factors(out, table, force=True)
    assert out.read_text().startswith("image_id,repeat_factor\n")
    assert [p.name for p in out.parent.iterdir()] == ["factors.csv"]
    with pytest.raises(OutputError, match="choose another file"):
        write_repeat_factors(tmp_path, table, force=True)
    with pytest.raises(OutputError, match="cannot be written"):
        write_repeat_factors(tmp_path / "nowhere" / "factors.csv", table)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rounding": "floor"}, "--rounding"), ({"threshold": 0}, "--threshold"), ({"exponent": 2}, "--exponent")],
)
def test_options_are_checked_before_the_file_is_read(tmp_path, options, words):
    with pytest.raises(DataError, match=words):
        repeat_factor_table(tmp_path / "missing.json", **options)


def test_paths_may_be_text(small, tmp_path):
    write_repeat_factors(str(tmp_path / "factors.csv"), repeat_factor_table(str(small), 0.5))
    assert (tmp_path / "factors.csv").read_text().startswith("image_id,repeat_factor\n")
