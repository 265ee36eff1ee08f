"""Classifiers by name."""

import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.classifiers import make_classifier
from lt_train.detectors import build_detector
from lt_train.heads import make_head

torch.set_num_threads(1)


def test_an_unknown_classifier_names_the_argument():
    """Recipes have no key for it, so the message must not name one."""
    with pytest.raises(RecipeError) as error:
        build_detector("mask_rcnn_small", make_head("softmax", instance_counts=[5, 50]), classifier="cosine")
    assert error.value.problems == ["argument classifier: got 'cosine'; allowed are linear"]


def test_initial_values_come_from_the_generator_alone():
    before = torch.get_rng_state()
    made = [make_classifier("linear", 8, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0].weight, made[1].weight)
    assert not torch.equal(made[0].weight, made[2].weight)
    assert made[0].weight.shape == (3, 8)
    assert made[0].bias.tolist() == [0, 0, 0]
