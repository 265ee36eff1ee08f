"""The table of detectors: what it says of a name is so, and weights are told apart by it."""

import pytest
import torch

import lt_train.detectors
from lt_train.detectors import DETECTORS, build_detector
from lt_train.detectors.table import detector_of_weights
from lt_train.heads import make_head


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_model_is_what_its_row_says(name):
    head = make_head("softmax", instance_counts=[3, 2])
    with torch.device("meta"):
        model = build_detector(name, head)
    assert model.has_masks == DETECTORS[name].masks
    assert detector_of_weights(model.state_dict().keys()) == name
    assert set(model.classifiers()) <= set(model.class_layers)
    assert all(model.get_submodule(layer) is found for layer, found in model.classifiers().items())
    assert [*model.parts("all")] == [""]


def test_weights_that_nobody_knows():
    assert detector_of_weights(["fc.weight"]) is None
    assert detector_of_weights([spec.trunk.mark for spec in DETECTORS.values()]) is None


def test_names_are_imported_when_they_are_used():
    assert all(getattr(lt_train.detectors, name) is not None for name in lt_train.detectors.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lt_train.detectors.nothing
