"""Deformable convolutions: against numbers by hand, against plain ones, and in a detector."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnext101_64x4d

from lt_data.errors import DataError, RecipeError
from lt_train.detectors import build_detector, initialise_from, set_trainable
from lt_train.detectors.table import TRUNKS
from lt_train.detectors.trunks.deformable import DeformableConv2d
from lt_train.detectors.weights import PLAIN
from lt_train.heads import make_head

torch.set_num_threads(1)


def detector(trunk, **options):
    return build_detector(f"faster_rcnn_{trunk}", make_head("softmax", instance_counts=[3, 2, 5, 5, 5, 5]), **options)


def on_meta(trunk, **options):
    with torch.device("meta"):
        return detector(trunk, weights="imagenet", load_pretrained=False, **options)


def numbers(model):
    return sum(p.numel() for p in model.parameters())


def moved_centre(dy, dx):
    """A 3x3 convolution of ones whose middle tap reads elsewhere, without learning it from the input."""
    plain = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(plain.weight)
    layer = DeformableConv2d(plain)
    with torch.no_grad():
        # channels 8 and 9: down and right of the fifth tap
        layer.offset.bias[8:10] = torch.tensor([dy, dx])
    return layer


def test_taps_are_moved_down_and_right():
    image = torch.arange(25.0).view(1, 1, 5, 5)
    assert moved_centre(0, 0)(image)[0, 0, 2].tolist() == [63, 99, 108, 117, 81]
    assert moved_centre(0.5, 0.25)(image)[0, 0, 2].tolist() == [65.75, 101.75, 110.75, 119.75, 79.375]


@pytest.mark.parametrize("stride", [1, 2])
def test_offsets_of_zero_are_a_plain_convolution(stride):
    """Of groups, as ResNeXt has; its gradients too, and the offsets are learnt from the first step on."""
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, 3, stride=stride, padding=1, groups=4, bias=False)
    layer, x = DeformableConv2d(plain), torch.randn(2, 16, 9, 7)
    assert layer.weight is plain.weight
    found, wanted = layer(x), F.conv2d(x, plain.weight, stride=stride, padding=1, groups=4)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(found)
    sums = [(out * weights).sum() for out in (found, wanted)]
    gradients = [torch.autograd.grad(total, plain.weight, retain_graph=True)[0] for total in sums]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    sums[0].backward()
    assert bool(layer.offset.weight.grad.abs().sum() > 0)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0.05, atol=0.05)


def test_a_bias_has_no_place():
    with pytest.raises(ValueError, match="without bias"):
        DeformableConv2d(nn.Conv2d(4, 4, 3))


@pytest.mark.parametrize(("trunk", "blocks", "more"), [("x101_64x4d_fpn", 30, 5_143_068), ("r50_fpn", 13, None)])
def test_numbers_of_a_detector(trunk, blocks, more):
    """Of X101-64x4d the paper's 5.14 million; all of them are trained."""
    plain, model = on_meta(trunk), on_meta(trunk, dcn="c3-c5")
    assert sum(isinstance(module, DeformableConv2d) for module in model.modules()) == blocks
    added = set(model.state_dict()) - set(plain.state_dict())
    assert len(added) == 2 * blocks
    assert all(name.startswith(("backbone.body.layer2.", "backbone.body.layer3.", "backbone.body.layer4.")) and
               name.rpartition(".")[0].endswith(".conv2.offset") for name in added)  # fmt: skip
    assert more is None or numbers(model) - numbers(plain) == more
    assert added < set(set_trainable(model, "all"))
    assert not added & set(set_trainable(model, "classifier"))


def test_imagenets_weights_have_the_same_names():
    """Of the trunk everything is taken over but the offsets, which torchvision's file has not, and that is said."""
    with torch.device("meta"):
        published = resnext101_64x4d().state_dict()
    found = [initialise_from(on_meta("x101_64x4d_fpn", dcn=dcn), published) for dcn in ("none", "c3-c5")]
    taken = len([name for name in published if not name.startswith("fc.") and "num_batches" not in name])
    assert [report.loaded for report in found] == [taken, taken]
    assert found[0].reinitialised == found[1].reinitialised
    assert [report.notes for report in found] == [(), (PLAIN,)]
    with pytest.raises(DataError) as error:
        initialise_from(on_meta("r50_fpn"), published)
    assert error.value.problems == [
        "weights state dict: they are of the trunk of faster_rcnn_x101_64x4d_fpn, the recipe's model is "
        "faster_rcnn_r50_fpn; set model.name=faster_rcnn_x101_64x4d_fpn, or give weights of a faster_rcnn_r50_fpn"
    ]


def test_a_detector_starts_as_the_plain_one_and_is_saved_whole():
    """From weights of plain convolutions the same maps; its own weights have the offsets too, which others refuse."""
    generator = torch.Generator().manual_seed(0)
    plain = detector("r50_fpn", generator=generator).eval()
    model = detector("r50_fpn", dcn="c3-c5", generator=generator).eval()
    assert initialise_from(model, plain.state_dict()).notes == (PLAIN,)
    images = torch.rand(1, 3, 64, 64, generator=generator)
    maps = [model.backbone(images), plain.backbone(images)]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-3)
    sum(level.square().sum() for level in maps[0].values()).backward()
    offsets = [p for name, p in model.named_parameters() if ".offset." in name]
    assert all(bool(p.grad.abs().sum() > 0) for p in offsets)
    with torch.no_grad():
        for p in offsets:
            p -= 0.1 * p.grad / p.grad.abs().max()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert initialise_from(model, state).notes == ()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    with pytest.raises(DataError, match="they have deformable convolutions, .*set model.dcn=c3-c5, or"):
        initialise_from(plain, state)
    half = {name: value for name, value in state.items() if not name.endswith("4.0.conv2.offset.bias")}
    with pytest.raises(DataError, match=r"layer4.0.conv2.offset.bias is missing"):
        initialise_from(model, half)


def test_trunks_without_such_blocks():
    for name in ("lite0", "small"):
        with pytest.raises(RecipeError, match=r"model.dcn: got c3-c5, and model.name=faster_rcnn_\w+ has no blocks"):
            detector(name, dcn="c3-c5")
    with pytest.raises(RecipeError, match="model.dcn: got 'v2'; allowed are none, c3-c5"):
        detector("small", dcn="v2")
    assert [name for name, trunk in TRUNKS.items() if trunk.deformable] == [
        *("r50_fpn", "r101_fpn", "x101_32x8d_fpn", "x101_64x4d_fpn")
    ]
