"""Images shared by pairs of categories: counted right, and readable at 40."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from lt_data.annotations.file import parse_annotations
from lt_data.counts.categories import count_categories
from lt_data.pictures.co_occurrence import CoOccurrence, co_occurrence, co_occurrence_figure
from tests.lt_data.pools import pool


def parsed(content):
    return parse_annotations(json.dumps(content).encode(), "pool.json")


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn_places(figure, chosen):
    """Places of some texts on the drawn figure, in pixels, without the lines that lead to them."""
    figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in chosen]


def overlapping(places):
    return [(a, b) for i, a in enumerate(places) for b in places[:i] if a.overlaps(b)]


images_of = st.dictionaries(
    st.integers(1, 30),
    st.lists(st.sampled_from([2, 3, 5, 8]) | st.tuples(st.sampled_from([2, 3, 5, 8]), st.just("crowd")), max_size=5),
    min_size=1,
    max_size=10,
)


def test_cells_hold_the_share_of_the_row():
    images = {10: [1, 1, 3], 11: [1, (3, "crowd")], 12: [1, 3, 4], 13: [4, 1], 14: []}
    file = parsed(pool(images, categories=[1, 3, 4, 9], names={1: "cat", 3: "dog", 4: "coin", 9: "owl"}))
    pairs = co_occurrence(file, count_categories(file))
    figure = co_occurrence_figure(pairs, categories=4, title="t")
    cells = {
        (round(t.get_position()[1] - 0.5), round(t.get_position()[0] - 0.5)): t.get_text() for t in figure.axes[0].texts
    }
    # cat 10 11 12 13, dog 10 12, coin 12 13
    assert cells == {(0, 1): "50", (0, 2): "50", (1, 0): "100", (1, 2): "50", (2, 0): "100", (2, 1): "50"}
    assert "dog  2" in texts(figure)
    assert "t: images shared by pairs of the 3 categories with most images, of 4" in texts(figure)


def test_small_shares_have_labels_of_their_own():
    images = {i: [1] if i % 2 else [2] for i in range(1, 401)} | {401: [1, 2]}
    file = parsed(pool(images))
    figure = co_occurrence_figure(co_occurrence(file, count_categories(file)), categories=2, title="t")
    figure.draw_without_rendering()
    bar = figure.axes[1]
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert len(labels) >= 4
    assert len(set(labels)) == len(labels)
    assert [float(label.rstrip("%")) for label in labels] == pytest.approx([100 * t for t in bar.get_yticks()])
    # 1 of 200 is half a percent and not nothing
    shared = CoOccurrence(np.array([1, 2]), ("a", "b"), np.array([200, 200]), np.array([[200, 1], [1, 200]]))
    drawn = co_occurrence_figure(shared, categories=2, title="t")
    assert [text.get_text() for text in drawn.axes[0].texts] == ["<1", "<1"]


def test_forty_categories_fit_into_the_matrix():
    ids = list(range(1, 61))
    file = parsed(pool({i: ids[: 61 - i] for i in ids}, names={i: f"a_rather_long_name_number_{i}" for i in ids}))
    pairs = co_occurrence(file, count_categories(file))
    assert pairs.category_ids.tolist() == ids[:40]
    figure = co_occurrence_figure(pairs, categories=60, title="t")
    axes = figure.axes[0]
    places = drawn_places(figure, [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts[:200]])
    assert len(places) == 280
    assert overlapping(places) == []


images_of = st.dictionaries(
    st.integers(1, 30),
    st.lists(st.sampled_from([2, 3, 5, 8]) | st.tuples(st.sampled_from([2, 3, 5, 8]), st.just("crowd")), max_size=5),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60)
@given(images_of, st.integers(1, 4))
def test_shared_images_equal_a_count_by_hand(images, most):
    file = parsed(pool(images, categories=[8, 5, 3, 2]))
    pairs = co_occurrence(file, count_categories(file), most)
    holders = {c: {i for i, content in images.items() if c in content} for c in (2, 3, 5, 8)}
    order = sorted((c for c in holders if holders[c]), key=lambda c: (-len(holders[c]), c))[:most]
    assert pairs.category_ids.tolist() == order
    assert pairs.names == tuple(f"category {c}" for c in order)
    assert pairs.images.tolist() == [len(holders[c]) for c in order]
    expected = [[len(holders[a] & holders[b]) for b in order] for a in order]
    assert pairs.shared.tolist() == expected
