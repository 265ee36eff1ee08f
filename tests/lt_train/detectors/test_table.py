"""Names of detectors: what the tables say of one is so, and weights are told apart by them."""

import pytest
import torch
from torchvision.models import get_model_weights

import lt_train.detectors
from lt_data.errors import RecipeError
from lt_train.detectors import DETECTORS, build_detector, set_trainable
from lt_train.detectors.table import (
    FAMILIES,
    TRUNKS,
    detector_of_weights,
    family_of_weights,
    named_detector,
    trunk_of_weights,
)
from lt_train.heads import make_head

# numbers of a trunk without its classifier, weights and biases of batch norms among them
BODIES = {
    "r50_fpn": 23_508_032,
    "r101_fpn": 42_500_160,
    "x101_32x8d_fpn": 86_742_336,
    "x101_64x4d_fpn": 81_406_272,
}
PYRAMID, BOX_HEAD = 3_344_384, 13_895_680


def on_meta(name, **options):
    with torch.device("meta"):
        return build_detector(name, make_head("softmax", instance_counts=[3, 2]), **options)


def numbers(module):
    return sum(p.numel() for p in module.parameters())


# every family on the ResNet-50 and every trunk below a Faster R-CNN
CROSSED = [
    pytest.param(name, marks=() if name.startswith("faster_rcnn_") or name.endswith("_r50_fpn") else pytest.mark.slow)
    for name in DETECTORS
]


@pytest.mark.parametrize("name", CROSSED)
def test_a_model_is_what_its_name_says(name):
    model = on_meta(name)
    assert model.has_masks == DETECTORS[name].masks
    assert detector_of_weights(model.state_dict()) == name
    assert set(model.classifiers()) <= set(model.class_layers)
    assert all(model.get_submodule(layer) is found for layer, found in model.classifiers().items())
    assert [*model.parts("all")] == [""]
    assert len(model.roi_heads.of_stages) == named_detector(name).family.stages


@pytest.mark.parametrize("trunk", BODIES)
def test_sizes_of_the_resnets(trunk):
    """Torchvision's classifiers have as many numbers and those of their last layer."""
    model = on_meta(f"faster_rcnn_{trunk}", weights="imagenet", load_pretrained=False)
    assert numbers(model.backbone.body) == BODIES[trunk]
    assert numbers(model.backbone.fpn) == PYRAMID
    assert numbers(model.roi_heads.box_head) == BOX_HEAD
    published = get_model_weights(TRUNKS[trunk].body).IMAGENET1K_V1
    assert published.meta["num_params"] == BODIES[trunk] + 2048 * 1000 + 1000
    trained = {name for name in set_trainable(model, "all") if name.startswith("backbone.")}
    assert not any(name.startswith(TRUNKS[trunk].frozen) for name in trained)
    if trunk == "x101_64x4d_fpn":
        # the affine of layers 2 to 4 among them: torchvision's frozen batch norm has it as buffers
        counts = {name: p.numel() for name, p in model.named_parameters()}
        assert sum(counts[name] for name in trained) == 84_150_272 + 197_632
        norms = [name for name in trained if ".bn" in name or ".downsample.1." in name]
        assert sum(counts[name] for name in norms) == 197_632


def test_weights_that_nobody_knows():
    model = on_meta("faster_rcnn_small")
    assert detector_of_weights({"fc.weight": torch.zeros(1)}) is None
    marks = {trunk.mark: torch.empty(trunk.mark_shape, device="meta") for trunk in TRUNKS.values()}
    assert trunk_of_weights(marks) is None
    assert detector_of_weights(model.state_dict() | marks) is None
    assert family_of_weights(model.state_dict() | marks) == "faster_rcnn"


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("mask_rcnn_r50", "mask_rcnn_r50_fpn"),
        ("Faster-RCNN-X101-64x4d-FPN", "faster_rcnn_x101_64x4d_fpn"),
        ("mask_rcnn", "mask_rcnn_small"),
        ("yolo", None),
        ("", None),
    ],
)
def test_a_name_that_is_none(name, close):
    with pytest.raises(RecipeError) as error:
        named_detector(name)
    (line,) = error.value.problems
    allowed = f"allowed are a detector ({', '.join(FAMILIES)}), _ and a trunk ({', '.join(TRUNKS)}), as in "
    assert line.startswith(f"model.name: got {name!r}; {allowed}")
    assert line.partition("; did you mean ")[2] == (f"'{close}'?" if close else "")


def test_names_are_imported_when_they_are_used():
    assert all(getattr(lt_train.detectors, name) is not None for name in lt_train.detectors.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lt_train.detectors.nothing
