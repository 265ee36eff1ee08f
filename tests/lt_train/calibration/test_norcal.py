"""NorCal against published numbers, its formula in float64, and logits that no exponential can hold."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.calibration import make_calibration
from lt_train.heads import make_head
from tests.lt_train.calibration.toy import (
    IMAGES,
    LOGITS,
    background_last,
    beside_background,
    scores,
    softmax,
    toy_calibration,
    toy_head,
)

GOLDEN = {
    0: [0.252257, 0.171088, 0.108119, 0.032340, 0.179819, 0.026023, 0.230354],
    2: [0.280662, 0.190353, 0.007690, 0.035981, 0.200068, 0.028953, 0.256293],
}
KEPT = [0.315548, 0.214013, 0.135246, 0.040453, 0.224935, 0.032552, 0.037253]


@pytest.mark.parametrize("row", GOLDEN)
@pytest.mark.parametrize("mode", ["exps", "probs"])
def test_known_scores(row, mode):
    found = scores(toy_calibration("norcal", gamma=0.6, mode=mode))
    np.testing.assert_allclose(background_last(found[row]), GOLDEN[row], atol=6e-7)


def test_known_scores_with_the_background_kept():
    found = scores(toy_calibration("norcal", gamma=0.6, background="keep-probability"))
    np.testing.assert_allclose(background_last(found[0]), KEPT, atol=6e-7)
    np.testing.assert_allclose(found[:, 0], softmax(LOGITS)[:, 0], rtol=1e-6)


def by_definition(logits, gamma, mode, background):
    """What is divided is divided, then all are brought to the sum 1."""
    divisor = np.array(IMAGES, float) ** gamma
    if mode == "logits":
        return beside_background(logits, logits[:, 1:] / divisor, background)
    parts = np.exp(logits) if mode == "exps" else softmax(logits)
    classes = parts[:, 1:] / divisor
    if background == "normalise":
        return np.concatenate([parts[:, :1], classes], 1) / (parts[:, :1] + classes.sum(1, keepdims=True))
    kept = softmax(logits)[:, :1]
    return np.concatenate([kept, (1 - kept) * classes / classes.sum(1, keepdims=True)], 1)


@pytest.mark.parametrize("background", ["normalise", "keep-probability"])
@pytest.mark.parametrize("mode", ["exps", "probs", "logits"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.5])
def test_the_formula(gamma, mode, background):
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 4
    found = scores(toy_calibration("norcal", gamma=gamma, mode=mode, background=background), logits)
    np.testing.assert_allclose(found, by_definition(logits, gamma, mode, background), rtol=2e-5, atol=1e-7)
    if gamma == 0:
        np.testing.assert_allclose(found, softmax(logits), rtol=2e-5)


@pytest.mark.parametrize("background", ["normalise", "keep-probability"])
@pytest.mark.parametrize("mode", ["exps", "probs", "logits"])
@pytest.mark.parametrize("by", [200.0, 1e4, -1e4])
def test_large_logits(by, mode, background):
    """An exponential of more than 88 is infinite in float32; the same added to all logits changes nothing."""
    calibration = toy_calibration("norcal", gamma=0.6, mode=mode, background=background)
    found = scores(calibration, LOGITS + by)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    if mode != "logits":
        np.testing.assert_allclose(found, scores(calibration), rtol=5e-3)


def test_a_sure_background_leaves_the_classes_in_their_order():
    """1 - p is 0 in float32 where p is nearly 1; what the classes share is not."""
    logits = np.array([[30.0, 1, 2, 3, 4, 5, 6]])
    found = scores(toy_calibration("norcal", gamma=0.6, background="keep-probability"), logits)
    np.testing.assert_allclose(found, by_definition(logits, 0.6, "exps", "keep-probability"), rtol=1e-2)
    assert (found[:, 1:] > 0).all()


def test_a_class_without_images_counts_as_one():
    counts = [0, 1, 5]
    calibration = toy_calibration(
        "norcal", make_head("softmax", instance_counts=counts, image_counts=counts, num_images=9)
    )
    assert calibration.finish() == ["1 classes have no training image: they count as having one"]
    first, second = scores(calibration, np.zeros((1, 4)))[0, 1:3]
    assert first == second


def test_what_it_does_not_fit():
    with pytest.raises(RecipeError) as error:
        toy_calibration("norcal", make_head("softmax", instance_counts=[1, 2]))
    assert error.value.problems == [
        "calibration norcal: image_counts are missing; it goes by the training images that hold a class, so give "
        "make_head(..., image_counts=[...])"
    ]


@pytest.mark.parametrize("method", ["norcal", "logit-adjustment", "logn", "fracal"])
def test_heads_that_are_refused(method):
    """Groups by all of them; sigmoids by all but fracal; a softmax is taken, whatever trained the layer."""
    with pytest.raises(RecipeError) as error:
        toy_calibration(method, toy_head("bags"))
    sigmoid = ", or a sigmoid for each class, such as focal" if method == "fracal" else ""
    assert error.value.problems == [
        f"calibration {method}: needs a head whose scores are one softmax over the background and all classes, such as "
        f"softmax or reweight{sigmoid}; this one is BagsHead; ncm works with every head"
    ]
    for head in ("softmax", "reweight"):
        toy_calibration(method, toy_head(head))
    toy_calibration(method, toy_head("focal", score="softmax"))
    if method != "fracal":
        with pytest.raises(RecipeError, match="this one is FocalHead"):
            toy_calibration(method, toy_head("focal"))


def test_it_is_made_without_a_trained_classifier():
    with torch.device("meta"):
        layer = torch.nn.Linear(2, 7)
    made = make_calibration("norcal", head=toy_head(), classifier=layer, feature_sizes={})
    assert not made.log_images.is_meta
