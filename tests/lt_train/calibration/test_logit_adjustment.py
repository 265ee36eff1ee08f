"""Logit adjustment after training against its formula in float64, and against what it is one of."""

import numpy as np
import pytest

from lt_train.heads import make_head
from tests.lt_train.calibration.toy import (
    IMAGES,
    LOGITS,
    beside_background,
    scores,
    softmax,
    toy_calibration,
)


def by_definition(logits, tau, background):
    """Every class's prior becomes 1 / C."""
    prior = np.array(IMAGES) / sum(IMAGES)
    return beside_background(logits, logits[:, 1:] - tau * np.log(prior) + tau * np.log(1 / len(IMAGES)), background)


@pytest.mark.parametrize("background", ["normalise", "keep-probability"])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_the_formula(tau, background):
    logits = np.random.default_rng(1).normal(size=(50, 7)) * 4
    found = scores(toy_calibration("logit-adjustment", tau=tau, background=background), logits)
    np.testing.assert_allclose(found, by_definition(logits, tau, background), rtol=2e-5, atol=1e-7)
    if tau == 0:
        np.testing.assert_allclose(found, softmax(logits), rtol=2e-5)


def test_classes_of_equal_count_change_nothing():
    calibration = toy_calibration("logit-adjustment", make_head("softmax", instance_counts=[7] * 6))
    np.testing.assert_allclose(scores(calibration), softmax(LOGITS), rtol=1e-5)


def test_without_the_background_it_is_norcal_and_undoes_the_prior_of_balanced_softmax():
    """Among the classes only differences of the shifts matter; the toy has one instance an image."""
    adjusted = scores(toy_calibration("logit-adjustment", tau=0.6, background="keep-probability"))
    np.testing.assert_allclose(
        adjusted, scores(toy_calibration("norcal", gamma=0.6, background="keep-probability")), rtol=1e-5
    )
    trained = LOGITS + np.concatenate([[0.0], np.log(IMAGES)])
    classes = scores(toy_calibration("logit-adjustment", tau=1.0), trained)[:, 1:]
    np.testing.assert_allclose(classes / classes.sum(1, keepdims=True), softmax(LOGITS[:, 1:]), rtol=1e-5)


@pytest.mark.parametrize("by", [1e4, -1e4])
def test_large_logits(by):
    np.testing.assert_allclose(
        scores(toy_calibration("logit-adjustment"), LOGITS + by), scores(toy_calibration("logit-adjustment")), rtol=5e-3
    )


def test_a_class_without_instances_counts_as_one():
    calibration = toy_calibration("logit-adjustment", make_head("softmax", instance_counts=[0, 1, 5]))
    assert calibration.finish() == ["1 classes have no training instance: they count as having one"]
    first, second = scores(calibration, np.zeros((1, 4)))[0, 1:3]
    assert first == second
