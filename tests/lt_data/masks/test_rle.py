import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from lt_data.masks.measure import BROKEN, WRONG_SUM, MaskColumns, RunLengths, measure_masks
from lt_data.masks.rle import areas_of, decode_runs, fills, runs_of


def encoded(mask):
    return rle.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def test_areas_and_sizes_of_random_masks():
    """More than one chunk, with long runs, full and empty masks among them."""
    rng = np.random.default_rng(0)
    masks = [rng.random(rng.integers(1, 50, 2)) < rng.random() for _ in range(1300)]
    masks = [np.kron(mask, np.ones((40, 40))) if i % 9 == 0 else mask for i, mask in enumerate(masks)]
    masks += [np.zeros((3, 4)), np.ones((3, 4)), np.ones((1, 1))]
    areas = areas_of([encoded(mask) for mask in masks])
    np.testing.assert_array_equal(areas.inside, [mask.sum() for mask in masks])
    np.testing.assert_array_equal(areas.pixels, [mask.size for mask in masks])


def test_a_run_of_500_million_pixels():
    mask = rle.frPyObjects({"size": [30000, 17000], "counts": [0, 510_000_000]}, 30000, 17000)
    assert [column.tolist() for column in areas_of([mask["counts"].decode()])] == [[510_000_000], [510_000_000]]


def test_unreadable_texts_do_not_touch_their_neighbours():
    good = encoded(np.eye(7))
    bad = ["", "é", "P", good + "P", good[:-1] + "~", "/" + good, "oooooooo0", " ", "\x00"]
    texts = [text for other in bad for text in (other, good)]
    areas = areas_of(texts)
    assert areas.pixels[::2].tolist() == [-1] * len(bad)
    assert areas.pixels[1::2].tolist() == [49] * len(bad)
    assert areas.inside[1::2].tolist() == [7] * len(bad)


def test_nothing():
    assert areas_of([]).inside.tolist() == []
    assert areas_of([""]).pixels.tolist() == [-1]


@settings(max_examples=80)
@given(st.lists(st.lists(st.integers(0, 70000), min_size=1, max_size=12), min_size=1, max_size=6))
def test_any_runs(lists):
    """Against COCO's own encoder."""
    texts = [
        rle.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"].decode() for runs in lists
    ]
    areas = areas_of(texts)
    assert areas.pixels.tolist() == [sum(runs) for runs in lists]
    assert areas.inside.tolist() == [sum(runs[1::2]) for runs in lists]


@pytest.mark.parametrize("runs", [[10, 5, -3], [-1], [4, -4, 4]])
def test_negative_runs(runs):
    """COCO's encoder writes any differences; these are written by hand: 10, 5, -3 as they stand."""
    text = "".join(chr(48 + (run & 31)) if -16 <= run < 16 else "" for run in runs)
    assert areas_of([text]).pixels.tolist() == [-1]


@settings(max_examples=80)
@given(st.lists(st.lists(st.integers(0, 70000), min_size=1, max_size=12), min_size=1, max_size=6))
def test_places_of_any_runs(lists):
    texts = [rle.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"] for runs in lists]
    got = runs_of(texts)
    assert len(got.bounds) == len(lists) + 1
    for number, runs in enumerate(lists):
        ends = np.cumsum(runs)
        wanted = [[end - run, end] for end, run in list(zip(ends.tolist(), runs, strict=True))[1::2] if run]
        part = slice(*got.bounds[number : number + 2])
        assert np.stack([got.start[part], got.end[part]], 1).tolist() == wanted


def test_runs_of_no_mask():
    assert [column.tolist() for column in runs_of([])] == [[], [], [0]]


def decoded_one_by_one(text):
    """The runs as COCO's own ``rleFrString`` reads them, or None for a text that is no run lengths."""
    numbers, value, place = [], 0, 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or place == 7:
            return None
        value |= (code & 31) << (5 * place)
        place += 1
        if not code & 32:
            value -= (1 << (5 * place)) if code & 16 else 0
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, place = 0, 0
    return None if place or any(number < 0 for number in numbers) else numbers


def measured(texts, height, width):
    columns = MaskColumns.empty(len(texts))
    measure_masks([RunLengths((height, width), text) for text in texts], columns)
    return columns


def test_a_number_with_zeros_before_it():
    """No encoder writes 3 as seven characters, but COCO's decoder reads it, and so does everything here."""
    text = "SPPPPP06"
    assert rle.area({"size": [3, 3], "counts": text.encode()}) == 6
    assert [column.tolist() for column in areas_of([text])] == [[6], [9]]
    assert fills(text, 9)
    assert [column.tolist() for column in runs_of([text.encode()])] == [[3], [9], [0, 1]]
    columns = measured([text], 3, 3)
    assert (columns.faults[0], columns.areas[0]) == (0, 6)


def test_a_run_of_35_bits_is_read_and_one_of_40_is_not():
    assert decode_runs([b"PPPPPP?"]).lengths.tolist() == [15 * 2**30]
    assert decode_runs([b"PPPPPPP0"]).broken.tolist() == [True]


def any_text():
    """Mostly characters of run lengths, so that many texts can be read; and foreign ones."""
    numbers = st.integers(0, 31).map(lambda code: chr(48 + code))
    characters = st.integers(32, 63).map(lambda code: chr(48 + code))
    number = st.tuples(st.text(characters, max_size=7), numbers).map("".join)
    return st.lists(number, max_size=6).map("".join) | st.text(max_size=8)


@settings(max_examples=120)
@given(st.lists(any_text(), max_size=6), st.integers(1, 9), st.integers(1, 9))
def test_all_that_read_run_lengths_agree(texts, height, width):
    wanted = [decoded_one_by_one(text) for text in texts]
    decoded = decode_runs([text.encode("utf-8", "replace") for text in texts])
    assert decoded.broken.tolist() == [runs is None for runs in wanted]
    parts = [decoded.lengths[a:b].tolist() for a, b in zip(decoded.bounds[:-1], decoded.bounds[1:], strict=True)]
    assert parts == [runs or [] for runs in wanted]
    areas = areas_of(texts)
    assert areas.pixels.tolist() == [sum(runs) if runs else -1 for runs in wanted]
    assert areas.inside.tolist() == [sum(runs[1::2]) if runs else 0 for runs in wanted]
    columns = measured(texts, height, width)
    for text, runs, faults in zip(texts, wanted, columns.faults.tolist(), strict=True):
        filled = runs is not None and sum(runs) == height * width
        assert fills(text, height * width) == filled
        assert bool(faults & BROKEN) == (runs is None)
        assert bool(faults & (BROKEN | WRONG_SUM)) == (not filled)
