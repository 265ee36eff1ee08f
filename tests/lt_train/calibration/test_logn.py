"""LogN against its formula in float64."""

import numpy as np
import pytest
import torch

from lt_data.errors import DataError
from tests.lt_train.calibration.toy import LABELS, LOGITS, beside_background, scores, softmax, toy_calibration

RANDOM = np.random.default_rng(4)
TRAINED = (RANDOM.normal(size=(300, 7)) * [1, 1, 2, 3, 0.5, 1, 1] - [0, 8, 6, 5, 4, 7, 2]).astype(np.float32)


def fitted(logits, parts=1, labels=None, **options):
    calibration = toy_calibration("logn", **options)
    labels = np.zeros(len(logits), int) if labels is None else labels
    for rows in np.array_split(np.arange(len(logits)), parts):
        calibration.fit(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]))
    return calibration


@pytest.mark.parametrize("background", ["normalise", "keep-probability"])
@pytest.mark.parametrize("parts", [1, 7])
def test_the_formula(parts, background):
    """The smallest mean is added again, so that all classes have it; the background has mean 0 and deviation 1."""
    seen = TRAINED[:, 1:].astype(float)
    mean, deviation = seen.mean(0), seen.std(0, ddof=1)
    want = beside_background(LOGITS, (LOGITS[:, 1:] - (mean - mean.min())) / deviation, background)
    found = scores(fitted(TRAINED, parts, background=background))
    np.testing.assert_allclose(found, want, rtol=2e-5)


def test_the_classes_have_one_mean_and_variance_afterwards():
    calibration = fitted(TRAINED)
    after = calibration.changed(torch.from_numpy(TRAINED[:, 1:])).double().numpy()
    deviation = TRAINED[:, 1:].std(0, ddof=1)
    np.testing.assert_allclose(after.std(0, ddof=1), 1, rtol=1e-5)
    np.testing.assert_allclose(after.mean(0) * deviation, TRAINED[:, 1:].astype(float).mean(0).min(), rtol=1e-5)


def test_all_regions_count_alike():
    """Background, too: most regions are, and a class's logit is low there."""
    calibration, again = fitted(LOGITS, labels=np.array(LABELS)), fitted(LOGITS)
    assert torch.equal(calibration.sums, again.sums)
    assert int(calibration.seen) == 8
    assert calibration.finish()[0].startswith("logits of 8 regions; their means are ")


def test_sums_of_two_processes_are_those_of_one():
    whole, parts = fitted(TRAINED), [fitted(TRAINED[rank::2]) for rank in range(2)]
    for mine, both in zip(whole.counted(), zip(*(part.counted() for part in parts), strict=True), strict=True):
        torch.testing.assert_close(sum(both), mine)


def test_a_logit_that_is_the_same_everywhere_is_not_divided():
    """Rounding would else be taken for a deviation, and a tiny one at that."""
    logits = TRAINED.copy()
    logits[:, 3] = -7.3
    calibration = fitted(logits)
    assert "1 classes have the same logit everywhere: it is not divided" in calibration.finish()
    assert calibration.statistics()[1][2] == 1
    assert np.isfinite(scores(calibration, LOGITS * 1e4)).all()


def test_nothing_seen_is_an_error():
    calibration = toy_calibration("logn")
    calibration.fit(torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="calibration logn: 0 regions were seen; give a training set with objects"):
        calibration.finish()
    # before it is fitted it changes nothing
    np.testing.assert_allclose(scores(calibration), softmax(LOGITS), rtol=1e-6)


def test_another_classifier_begins_anew():
    calibration = fitted(TRAINED)
    calibration.attach(torch.nn.Linear(2, 7))
    assert not calibration.sums.any()
    assert int(calibration.seen) == 0
