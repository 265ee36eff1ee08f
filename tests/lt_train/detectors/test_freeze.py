"""Which weights are trained, and which statistics a batch norm uses."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from lt_data.errors import RecipeError
from lt_train.detectors import build_detector, set_trainable
from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d
from tests.lt_train.detectors.scenes import COUNTS, any_head, batch, small

torch.set_num_threads(1)

BOX_HEAD = [f"roi_heads.box_head.{layer}.{part}" for layer in ("fc6", "fc7") for part in ("weight", "bias")]
CLASSIFIER = [f"roi_heads.box_predictor.cls_score.{part}" for part in ("weight", "bias")]
REGRESSOR = [f"roi_heads.box_predictor.bbox_pred.{part}" for part in ("weight", "bias")]


def on_meta(weights, counts=COUNTS, head="softmax"):
    """A ResNet-50 model without memory."""
    made = any_head(head, counts)
    with torch.device("meta"):
        return build_detector("mask_rcnn_r50_fpn", made, weights=weights, load_pretrained=False)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("head", BOX_HEAD + CLASSIFIER),
        ("head+reg", BOX_HEAD + CLASSIFIER + REGRESSOR),
        ("classifier", CLASSIFIER),
        ("none", []),
    ],
)
def test_parts(part, names):
    model = small()
    assert set_trainable(model, part) == names
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names


def test_all_of_a_pretrained_resnet():
    """All but conv1, bn1 and layer1; the affine of the other batch norms is trained."""
    model = on_meta("coco")
    names = set(set_trainable(model, "all"))
    frozen = {name for name, _ in model.named_parameters()} - names
    prefixes = ("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
    assert {"backbone.body.layer2.0.bn1.weight", "backbone.body.layer4.2.bn3.bias"} < names
    assert any(name.startswith("backbone.body.layer1.0.bn1") for name in frozen)


@pytest.mark.parametrize("make", [lambda: on_meta("none"), small])
def test_all_without_pretrained_weights_is_everything(make):
    model = make()
    set_trainable(model, "classifier")
    assert set_trainable(model, "all") == [name for name, _ in model.named_parameters()]


def test_classifier_of_bags_on_lvis(shared_data):
    """The released code trains 1236 * 1024 + 1236 numbers in stage 2."""
    lines = (shared_data / "lvis_v0.5_counts" / "lvis_v0.5_train_counts.csv").read_text().splitlines()[1:]
    model = on_meta("coco", [int(line.split(",")[-1]) for line in lines], "bags")
    set_trainable(model, "classifier")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1236 * 1024 + 1236 == 1_266_900


def test_unknown_part():
    with pytest.raises(RecipeError, match=r"allowed are all, head, head\+reg, classifier, scale, calibrated, none"):
        set_trainable(small(), "backbone")


@pytest.mark.parametrize("part", ["all", "head", "classifier"])
def test_statistics_change_only_when_all_is_trained(part):
    model = small()
    set_trainable(model, part)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert any(k.endswith("running_mean") for k in before)
    losses = model(*batch([1, 2]))
    sum(losses.values()).backward()
    moved = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert bool(moved) == (part == "all")
    assert all("running_" in k or "num_batches" in k for k in moved)


def test_norms_of_the_models():
    pretrained, fresh = on_meta("imagenet"), on_meta("none")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in pretrained.modules())
    assert sum(isinstance(m, StoredStatsBatchNorm2d) for m in pretrained.modules()) == 53
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fresh.modules()) == 53


@pytest.mark.parametrize("source", [nn.BatchNorm2d, FrozenBatchNorm2d, StoredStatsBatchNorm2d])
def test_stored_statistics_norm(source):
    """Takes the state of every kind of batch norm and equals torchvision's frozen one, in training mode too."""
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.rand(5, generator=generator) + 0.1 for key in ("weight", "bias", "running_mean", "running_var")}
    if source is nn.BatchNorm2d:
        state["num_batches_tracked"] = torch.tensor(7)
    norm, frozen = StoredStatsBatchNorm2d(5), FrozenBatchNorm2d(5)
    norm.load_state_dict(state)
    frozen.load_state_dict(dict(state))
    assert set(norm.state_dict()) == set(frozen.state_dict())
    x = torch.randn(2, 5, 4, 4, generator=generator)
    norm.train()
    torch.testing.assert_close(norm(x), frozen(x))
    norm(x).sum().backward()
    assert float(norm.weight.grad.abs().sum()) > 0
    assert torch.equal(norm.running_mean, state["running_mean"])
