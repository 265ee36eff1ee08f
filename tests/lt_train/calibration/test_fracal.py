"""FRACAL and the fractal dimension against known numbers and their formulas in float64."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.calibration.fractal_dimension import fractal_dimensions
from lt_train.heads import make_head
from tests.lt_train.calibration.toy import (
    IMAGES,
    LOGITS,
    NUM_IMAGES,
    background_last,
    beside_background,
    scores,
    softmax,
    toy_calibration,
    toy_head,
)

DIMENSIONS = [1, 1.2, 1.6, 1.4, 1, 1.9]
RARITY = [1.744727, 0.920819, 0.045757, 0.619789, 1.318759, -0.623249]
GOLDEN = {
    0: [0.327088, 0.210962, 0.104716, 0.032863, 0.274310, 0.023070, 0.026991],
    2: [0.362634, 0.233888, 0.007422, 0.036434, 0.304121, 0.025577, 0.029924],
}
SIGMOID = [0.310336, 0.441554, 0.523140, 0.108752, 0.347970, 0.250463]
CENTRES = np.array([[((7 * k % 20) + 0.5) / 20, ((3 * k % 20) + 0.5) / 20] for k in range(20)])


def with_dimensions(head=None, **options):
    calibration = toy_calibration("fracal", head, **options)
    calibration.dimensions.copy_(torch.tensor(DIMENSIONS))
    return calibration


@pytest.mark.parametrize("row", GOLDEN)
def test_known_scores_of_a_softmax(row):
    calibration = with_dimensions()
    np.testing.assert_allclose(calibration.rarity.numpy(), RARITY, atol=6e-7)
    np.testing.assert_allclose(background_last(scores(calibration)[row]), GOLDEN[row], atol=6e-7)


def test_known_scores_of_sigmoids():
    head = toy_head("focal")
    found = scores(with_dimensions(head))
    np.testing.assert_allclose(found[0, 1:], SIGMOID, atol=6e-7)
    # the column of the background is the head's
    np.testing.assert_array_equal(found[:, 0], head.scores(torch.from_numpy(LOGITS))[:, 0].double().numpy())


@pytest.mark.parametrize("background", ["normalise", "keep-probability"])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 3.0])
def test_the_formula_for_a_softmax(power, background):
    """The background has w = 0 and D = 1; the powers divide probabilities, which are normalised again."""
    logits = np.random.default_rng(2).normal(size=(50, 7)) * 4
    rarity = np.log10(NUM_IMAGES / np.array(IMAGES)) - np.log10(6)
    wide = softmax(np.concatenate([logits[:, :1], logits[:, 1:] + rarity], 1))
    wide[:, 1:] /= np.array(DIMENSIONS) ** power
    want = wide / wide.sum(axis=1, keepdims=True)
    if background == "keep-probability":
        want = beside_background(logits, np.log(wide[:, 1:]), background)
    found = scores(with_dimensions(power=power, background=background), logits)
    np.testing.assert_allclose(found, want, rtol=3e-5, atol=1e-7)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_formula_for_sigmoids(power):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    logits = np.random.default_rng(3).normal(size=(50, 7)) * 4
    powers = np.array(DIMENSIONS) ** power
    shift = np.log10(NUM_IMAGES / np.array(IMAGES)) - np.log10(6) - np.log10(powers / powers.sum()) - np.log10(6)
    found = scores(with_dimensions(toy_head("focal"), power=power), logits)
    np.testing.assert_allclose(found[:, 1:], sigmoid(logits[:, 1:]) * sigmoid(logits[:, 1:] + shift), rtol=3e-5)


def test_rare_classes_take_from_the_background():
    """That is what it does otherwise than NorCal; the background can be kept from losing."""
    kept = scores(with_dimensions(background="keep-probability"))
    assert (scores(with_dimensions())[:, 0] < softmax(LOGITS)[:, 0]).all()
    np.testing.assert_allclose(kept[:, 0], softmax(LOGITS)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(kept.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("by", [1e4, -1e4])
def test_large_logits(by):
    np.testing.assert_allclose(scores(with_dimensions(), LOGITS + by), scores(with_dimensions()), rtol=5e-3)
    assert np.isfinite(scores(with_dimensions(toy_head("focal")), LOGITS + by)).all()


@pytest.mark.parametrize(
    ("centres", "counts", "want"),
    [
        (CENTRES, [1, 4, 9, 12], 1.842978),
        (CENTRES[:9], [1, 4, 7], 1.795877),
        # the slope is 0.308139
        (0.5 + 0.2 * CENTRES, [1, 1, 3, 1], 1),
        (CENTRES[:3], [1], 1),
    ],
)
def test_known_dimensions(centres, counts, want):
    """Among boxes of other classes; the known counts of occupied cells give the known slope."""
    labels = np.full(len(centres), 2)
    mixed = np.concatenate([np.full((50, 2), 0.3), centres])
    found = fractal_dimensions(mixed, np.concatenate([np.full(50, 1), labels]), 3)
    np.testing.assert_allclose(found, [1, want, 1], atol=6e-7)
    cells = [len({(int(x * k), int(y * k)) for x, y in centres}) for k in range(1, len(counts) + 1)]
    assert cells[:3] == counts[:3]
    if want > 1:
        assert cells == counts
        slope = np.polyfit(np.log(np.arange(1, len(counts) + 1)), np.log(counts), 1)[0]
        assert slope == pytest.approx(want, abs=6e-7)


@pytest.mark.parametrize("boxes", [4, 17, 300, 5000])
def test_dimensions_by_definition(boxes):
    """One class at a time, grids up to 64, least squares by another way."""
    centres = np.random.default_rng(boxes).random((boxes, 2)) ** 2
    sides = [k for k in range(1, 65) if k * k <= boxes]
    cells = [len({(int(x * k), int(y * k)) for x, y in centres}) for k in sides]
    want = max(1.0, np.polyfit(np.log(sides), np.log(cells), 1)[0])
    assert fractal_dimensions(centres, np.ones(boxes, int), 1)[0] == pytest.approx(want, rel=1e-9)


def test_edges_of_the_image_belong_to_the_last_cell():
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    assert fractal_dimensions(corners, np.ones(4, int), 1)[0] == pytest.approx(2)
    assert fractal_dimensions(np.zeros((0, 2)), np.zeros(0, int), 2).tolist() == [1, 1]


def test_boxes_are_taken_in_any_order():
    labels = np.arange(20) % 2 + 1
    one, two = toy_calibration("fracal"), toy_calibration("fracal")
    one.fit_boxes(torch.from_numpy(CENTRES), torch.from_numpy(labels))
    two.fit_boxes(torch.from_numpy(CENTRES[::-1].copy()), torch.from_numpy(labels[::-1].copy()))
    assert torch.equal(one.dimensions, two.dimensions)
    assert one.finish()[0].endswith("4 classes at 1")


@pytest.mark.parametrize(
    ("head", "options", "says"),
    [
        (
            lambda: make_head("softmax", instance_counts=[1], image_counts=[1]),
            {},
            "num_images is missing; it goes by the share of images that hold a class, so give "
            "make_head(..., num_images=N)",
        ),
        (
            lambda: toy_head("focal"),
            {"background": "keep-probability"},
            "background: got 'keep-probability'; FocalHead has sigmoids, which take nothing from the background, so "
            "leave it out",
        ),
    ],
)
def test_what_it_does_not_fit(head, options, says):
    with pytest.raises(RecipeError) as error:
        toy_calibration("fracal", head(), **options)
    assert error.value.problems == [f"calibration fracal: {says}"]
