"""Re-weighted softmax against the formula, and the tables of the released code."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_data.counts.categories import embedded_reference
from lt_data.counts.class_weights import DEFAULT_BETA, KINDS
from lt_data.errors import RecipeError
from lt_train.heads import make_head
from lt_train.heads.sigmoid.options import FocalOptions
from lt_train.heads.softmax.options import ReweightOptions

torch.set_num_threads(1)

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=8).filter(any)
CAPS = [(0.1, 5.0), (0.01, 5.0), (None, None)]


def weight_table(counts, *, beta, lower, upper, background, ratio):
    """Weights of labels 0..C, one at a time, in float64; ``beta`` 1 stands for the inverse count."""
    rows = list(counts) if ratio is None else [round(ratio * sum(counts)), *counts]
    raw = [None if n == 0 else 1 / n if beta == 1 else (1 - beta) / (1 - beta**n) for n in rows]
    mean = np.mean([w for w in raw if w is not None])
    most = max(w for w in raw if w is not None) / mean
    weights = [(most if upper is None else upper) if w is None else w / mean for w in raw]
    weights = [max(w, lower or 0) if upper is None else min(max(w, lower or 0), upper) for w in weights]
    return np.array([background, *weights] if ratio is None else weights)


def weighted_cross_entropy(logits, labels, weights):
    """Loss and gradient: the weighted sum over the number of regions."""
    loss, gradient = 0.0, np.zeros_like(logits)
    for r, label in enumerate(labels):
        p = np.exp(logits[r] - logits[r].max())
        p /= p.sum()
        loss -= weights[label] * np.log(p[label]) / len(labels)
        gradient[r] = weights[label] * (p - np.eye(len(p))[label]) / len(labels)
    return loss, gradient


@settings(max_examples=40)
@given(
    COUNTS,
    st.sampled_from([0.9, 0.99, 0.999, 1.0]),
    st.sampled_from(CAPS),
    st.sampled_from([None, 3.0]),
    st.integers(0, 2**32),
)
def test_against_the_formula(counts, beta, caps, ratio, seed):
    random = np.random.default_rng(seed)
    options = {"beta": beta, "lower": caps[0], "upper": caps[1]}
    head = make_head(
        "reweight", instance_counts=counts, weighting="effective-number", background_ratio=ratio, **options
    )
    weights = weight_table(counts, background=1.0, ratio=ratio, **options)
    np.testing.assert_allclose(head.weights.numpy(), weights, rtol=1e-5)
    labels = random.integers(0, len(counts) + 1, 12)
    logits = torch.from_numpy(random.normal(size=(12, len(counts) + 1), scale=3)).float().requires_grad_()
    loss = head.loss(logits, torch.from_numpy(labels))["loss_classifier"]
    loss.backward()
    want, gradient = weighted_cross_entropy(logits.detach().double().numpy(), labels, weights)
    np.testing.assert_allclose(float(loss.detach()), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


def test_inverse_is_beta_one():
    one = make_head("reweight", instance_counts=[1, 20, 400], weighting="effective-number", beta=1.0)
    other = make_head("reweight", instance_counts=[1, 20, 400], weighting="inverse")
    assert torch.equal(one.weights, other.weights)


def test_the_counted_background_of_the_released_code():
    """Its table for LVIS v0.5: three times all instances, no caps, mean 0.1138821 over all 1,231 rows."""
    counts = embedded_reference("lvis-v0.5").instances
    head = make_head(
        "reweight",
        instance_counts=counts.tolist(),
        weighting="effective-number",
        background_ratio=3,
        lower=None,
        upper=None,
    )
    assert float(head.weights[0]) == pytest.approx(0.008781, abs=5e-7)
    by_count = {1: 8.78101, 2: 4.39270, 5: 1.75972, 10: 0.88206, 50: 0.17996, 100: 0.09223}
    for count, weight in by_count.items():
        assert head.weights[1:].numpy()[counts == count] == pytest.approx(weight, abs=5e-6)


def test_a_training_file_without_instances_weighs_all_alike():
    assert make_head("reweight", instance_counts=[0, 0]).weights.tolist() == [1, 1, 1]
    assert make_head("reweight", instance_counts=[0, 0], background=2.0).weights.tolist() == [2, 1, 1]
    assert make_head("reweight", instance_counts=[0, 0], background_ratio=3.0).weights.tolist() == [1, 1, 1]


def test_scores_are_the_softmax():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    head = make_head("reweight", instance_counts=[1, 2, 3])
    assert torch.equal(head.scores(logits), logits.softmax(dim=1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weighting": "sqrt"}, "head reweight: weighting: got 'sqrt'; allowed are 'inverse' or 'effective-number'"),
        ({"weighting": "none"}, "head reweight: weighting: got 'none'; allowed are 'inverse' or 'effective-number'"),
        ({"beta": 1.5}, "head reweight: beta: got 1.5; input should be less than or equal to 1"),
        ({"lower": 2.0, "upper": 1.0}, "head reweight: lower is 2, upper is 1; allowed is lower <= upper"),
        ({"background": -1.0}, "head reweight: background: got -1.0"),
        ({"background_ratio": 0.0}, "head reweight: background_ratio: got 0.0"),
        (
            {"background_ratio": 3.0, "background": 2.0},
            "head reweight: background and background_ratio exclude",
        ),
    ],
)
@pytest.mark.parametrize("counts", [[1, 2], [0, 0]])
def test_options_out_of_range(counts, options, says):
    """Also where no class has an instance, and weights change nothing."""
    with pytest.raises(RecipeError) as error:
        make_head("reweight", instance_counts=counts, **{"weighting": "effective-number", **options})
    assert says in str(error.value)


def test_weightings_and_beta_are_those_of_class_weights():
    """They are written out in the options, where importing the other module would make every command slower."""
    assert get_args(ReweightOptions.model_fields["weighting"].annotation) == KINDS
    assert get_args(FocalOptions.model_fields["weighting"].annotation) == ("none", *KINDS)
    assert ReweightOptions.model_fields["beta"].default == DEFAULT_BETA


def test_generalized_reweighting_of_disalign():
    """Weights and weighted mean of a worked example, computed apart from this code."""
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(7), indexing="ij")
    logits, labels = ((7 * rows + 3 * columns) % 11 - 5) / 4, torch.tensor([2, 1, 0, 3, 0, 0, 5, 0])
    options = {"power": 0.8, "lower": None, "upper": None}
    head = make_head("reweight", instance_counts=[3, 20, 150, 40, 8, 700], normalise="weights", **options)
    wanted = [1, 3.229481, 0.707955, 0.141240, 0.406613, 1.473525, 0.041186]
    torch.testing.assert_close(head.weights, torch.tensor(wanted), rtol=0, atol=1e-6)
    assert float(head.loss(logits, labels)["loss_classifier"]) == pytest.approx(2.025212, abs=1e-6)
    summed = make_head("reweight", instance_counts=[3, 20, 150, 40, 8, 700], **options)
    assert float(summed.loss(logits, labels)["loss_classifier"]) == pytest.approx(2.418154, abs=1e-6)
