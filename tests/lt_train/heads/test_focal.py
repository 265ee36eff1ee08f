"""Sigmoid focal loss against the formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from lt_data.errors import RecipeError
from lt_train.detectors import build_detector
from lt_train.heads import make_head
from tests.lt_train.heads.test_reweight import CAPS, COUNTS, weight_table

torch.set_num_threads(1)


def focal(logits, labels, weights, *, gamma, alpha, elements):
    """Loss and its gradient by the definition, one channel at a time, in float64."""
    regions, width = logits.shape
    scale = 1 / regions / (width if elements else 1)
    loss, gradient = 0.0, np.zeros_like(logits)
    for r in range(regions):
        for c in range(width):
            sign = 1 if labels[r] == c else -1
            q = 1 / (1 + np.exp(-sign * logits[r, c]))
            a = alpha if sign == 1 else 1 - alpha
            loss += scale * weights[labels[r]] * a * (1 - q) ** gamma * -np.log(q)
            # d/dz of (1 - q)^g * -log q, with dq/dz = q (1 - q)
            slope = gamma * (1 - q) ** gamma * q * np.log(q) - (1 - q) ** (gamma + 1)
            gradient[r, c] = sign * scale * weights[labels[r]] * a * slope
    return loss, gradient


@settings(max_examples=60)
@given(
    COUNTS,
    st.sampled_from([0.9, 0.99, 0.999, 1.0]),
    st.sampled_from(CAPS),
    st.sampled_from([None, 3.0]),
    st.sampled_from([(2.0, 0.25), (0.5, 1.0), (0.5, 0.5), (0.0, 0.25)]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_against_the_formula(counts, beta, caps, ratio, shape, elements, seed):
    """With the options that the supplement's figure 1 combines."""
    random = np.random.default_rng(seed)
    weighting = {"beta": beta, "lower": caps[0], "upper": caps[1]}
    head = make_head(
        "focal",
        instance_counts=counts,
        weighting="effective-number",
        background_ratio=ratio,
        gamma=shape[0],
        alpha=shape[1],
        normalise="elements" if elements else "regions",
        **weighting,
    )
    weights = weight_table(counts, background=1.0, ratio=ratio, **weighting)
    labels = random.integers(0, len(counts) + 1, 9)
    logits = torch.from_numpy(random.normal(size=(9, len(counts) + 1), scale=2)).float().requires_grad_()
    loss = head.loss(logits, torch.from_numpy(labels))["loss_classifier"]
    loss.backward()
    exact = logits.detach().double().numpy()
    want, gradient = focal(exact, labels, weights, gamma=shape[0], alpha=shape[1], elements=elements)
    np.testing.assert_allclose(float(loss.detach()), want, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("name", ["reweight", "focal"])
def test_every_cell_of_the_grid_is_a_recipe(name, beta, capped, counted):
    """Supplement, figure 1: beta, softmax or focal, with and without caps, background counted or of weight 1."""
    options = {"weighting": "effective-number", "beta": beta}
    options |= {} if capped else {"lower": None, "upper": None}
    options |= {"background_ratio": 3.0} if counted else {}
    counts = [1, 7, 90, 3000]
    head = make_head(name, instance_counts=counts, **options)
    caps = {"lower": 0.1, "upper": 5.0} if capped else {"lower": None, "upper": None}
    want = weight_table(counts, beta=beta, background=1.0, ratio=3.0 if counted else None, **caps)
    np.testing.assert_allclose(head.weights.numpy(), want, rtol=1e-5)


def test_equals_torchvision():
    """Its sigmoid focal loss, summed over the channels and averaged over the regions."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 6, generator=generator) * 3, torch.randint(6, (30,), generator=generator)
    ours = make_head("focal", instance_counts=[1] * 5).loss(logits, labels)["loss_classifier"]
    theirs = sigmoid_focal_loss(logits, F.one_hot(labels, 6).float(), alpha=0.25, gamma=2.0).sum() / 30
    torch.testing.assert_close(ours, theirs)


def test_without_gamma_and_alpha_it_is_half_the_binary_cross_entropy():
    logits, labels = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 4
    ours = make_head("focal", instance_counts=[1] * 3, gamma=0, alpha=0.5).loss(logits, labels)["loss_classifier"]
    wanted = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 4).float(), reduction="sum")
    torch.testing.assert_close(ours, 0.5 * wanted / 10)


def test_scores():
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make_head("focal", instance_counts=[1] * 3).scores(logits), logits.sigmoid())
    assert torch.equal(make_head("focal", instance_counts=[1] * 3, score="softmax").scores(logits), logits.softmax(1))


def test_a_fresh_classifier_starts_from_the_prior():
    head = make_head("focal", instance_counts=[1] * 3, prior=0.2)
    model = build_detector("faster_rcnn_small", head)
    bias = model.roi_heads.box_predictor.cls_score.bias
    assert bias.sigmoid().tolist() == pytest.approx([0.2] * 4)
    softmax = build_detector("faster_rcnn_small", make_head("softmax", instance_counts=[1] * 3))
    assert not softmax.roi_heads.box_predictor.cls_score.bias.any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gamma": -1}, "gamma: got -1; input should be greater than or equal to 0"),
        ({"gamma": math.nan}, "gamma: got nan"),
        ({"alpha": 1.1}, "alpha: got 1.1; input should be less than or equal to 1"),
        ({"prior": 0}, "prior: got 0; input should be greater than 0"),
        ({"normalise": "mean"}, "normalise: got 'mean'; allowed are 'regions' or 'elements'"),
        ({"score": "max"}, "score: got 'max'; allowed are 'sigmoid' or 'softmax'"),
        ({"weighting": "inverse", "upper": 0.0}, "upper: got 0.0"),
        ({"weighting": "sqrt"}, "weighting: got 'sqrt'; allowed are 'none', 'inverse' or 'effective-number'"),
        ({"beta": 7.0}, "beta: got 7.0"),
    ],
)
@pytest.mark.parametrize("counts", [[1, 2], [0, 0]])
def test_options_out_of_range(counts, options, says):
    """Also where no class has an instance, or nothing is weighted."""
    with pytest.raises(RecipeError) as error:
        make_head("focal", instance_counts=counts, **options)
    assert str(error.value).startswith("head focal: ")
    assert says in str(error.value)
