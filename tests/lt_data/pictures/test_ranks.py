"""Counts over ranks: bands with their numbers, names that fit from 1 to 1,230 categories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from lt_data.counts.categories import embedded_reference
from lt_data.groups import group_bounds
from lt_data.pictures.dataset import FREQUENCY_BANDS
from lt_data.pictures.ranks import Band, band_index, named_ranks, rank_counts, ranks_figure, spread


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def rank_figure(values, bands, names=None):
    ids = np.arange(1, len(values) + 1)
    names = names or [f"category_number_{i}" for i in ids]
    return ranks_figure(rank_counts(np.array(values), ids, names), bands, title="t", unit="instances")


def group_bands(*edges):
    return [Band(*bound) for bound in group_bounds(edges)]


def drawn_places(figure, chosen):
    """Places of some texts on the drawn figure, in pixels, without the lines that lead to them."""
    figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in chosen]


def overlapping(places):
    return [(a, b) for i, a in enumerate(places) for b in places[:i] if a.overlaps(b)]


@pytest.mark.parametrize(
    ("count", "edges"),
    [
        (1, (2, 3, 4)),
        (24, (10, 100, 1000)),
        (80, (5, 10, 50, 100, 500, 1000, 5000)),
        pytest.param(80, tuple(range(1, 20)), marks=pytest.mark.slow),
        (101, (2, 3, 4)),
        pytest.param(1230, (10, 100, 1000), marks=pytest.mark.slow),
        (1230, (5, 10, 50, 100, 500, 1000, 5000)),
    ],
)
def test_labels_stay_apart_and_inside_the_picture(count, edges):
    values = embedded_reference("lvis-v0.5").instances[:count]
    figure = rank_figure(values, group_bands(*edges), ["a_rather_long_name_(of_a_thing)"] * count)
    (axes,) = figure.axes
    names = drawn_places(figure, axes.get_xticklabels())
    beside = drawn_places(figure, [text for text in axes.texts if "categor" in text.get_text()])
    assert len(beside) == len(edges) + 1
    assert overlapping(names) == []
    assert overlapping(beside) == []
    width, height = figure.bbox.size
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in [*names, *beside])
    # the points keep most of the height
    assert axes.get_window_extent().height > 0.5 * height


def test_bands_name_their_categories_and_shares_and_empty_ones_too():
    found = texts(rank_figure([2000, 100, 99, 10, 9, 0], group_bands(10, 100, 1000, 5000)))
    for line in (
        "(0, 10)\n2 categories\n0.4% of instances",
        "[10, 100)\n2 categories\n4.9% of instances",
        "[100, 1000)\n1 category\n4.5% of instances",
        "[1000, 5000)\n1 category\n90.2% of instances",
        "[5000, ~)\n0 categories\n0.0% of instances",
        "2,000",
        "0",
    ):
        assert line in found


def test_a_count_on_an_edge_is_drawn_within_its_band():
    values, bands = np.array([101, 100, 11, 10, 1, 0]), list(FREQUENCY_BANDS)
    assert band_index(values, bands).tolist() == [2, 1, 1, 0, 0, 0]
    (axes,) = rank_figure(values, bands).axes
    lines = sorted(float(line.get_ydata()[0]) for line in axes.get_lines())
    assert lines == [10.5, 100.5]


def test_ranks_are_by_count_then_by_id():
    ranked = rank_counts(np.array([3, 9, 3]), np.array([7, 8, 2]), ["a", "b", "c"])
    assert ranked.names == ("b", "c", "a")
    assert ranked.values.tolist() == [9, 3, 3]
    assert ranked.category_ids.tolist() == [8, 2, 7]


@given(st.integers(1, 100_000))
def test_named_ranks_hold_both_ends_and_are_few(count):
    ranks = named_ranks(count)
    assert ranks[0] == 1
    assert ranks[-1] == count
    assert np.all(np.diff(ranks) > 0)
    assert len(ranks) == count if count <= 100 else len(ranks) <= 66


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).map(sorted), st.floats(0.001, 0.2))
def test_spread_keeps_order_distance_and_room(places, gap):
    moved = spread(places, gap)
    least = min(gap, 1 / len(places))
    assert np.all(np.diff(moved) >= least - 1e-9)
    assert moved[-1] <= 1 - least / 2 + 1e-9
    if len(places) == 1 or np.diff(places).min() >= gap:
        np.testing.assert_allclose(moved, np.minimum(places, 1 - gap / 2 - gap * np.arange(len(places))[::-1]))
