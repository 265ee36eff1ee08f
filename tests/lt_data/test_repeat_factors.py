"""Repeat factors against their definition and the figures known for LVIS v0.5."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import pool, save

from lt_data.annotations import read_annotations
from lt_data.errors import DataError
from lt_data.repeat_factors import category_repeat_factors, image_repeat_factors

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


def test_lvis_v05_expected_epoch_length(shared_data):
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
