"""ResNet-18 and MobileNetV3-Large: as torchvision makes them, with files under torchvision's names made here."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from lt_data.errors import DataError, RecipeError
from lt_train.detectors import build_detector, published, set_trainable
from lt_train.detectors.table import TRUNKS, detector_of_weights
from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d
from lt_train.heads import make_head

torch.set_num_threads(1)

R18, MOBILENET = "resnet18-f37072fd.pth", "mobilenet_v3_large-8738ca79.pth"
COCO = "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"
ANEW = {"roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"}


def with_statistics(model):
    """Batch norms that have seen something: with little variance, so that their eps counts."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.copy_(torch.logspace(-4, 0, len(module.running_var)))
            module.running_mean.copy_(torch.randn(len(module.running_mean), generator=generator) * 0.01)
            module.weight.data.copy_(module.running_var.sqrt())
    return model.eval()


@pytest.fixture(scope="module")
def stock():
    """Torchvision's models with made-up weights."""
    torch.manual_seed(0)
    return {
        R18: with_statistics(torchvision.models.resnet18(weights=None)),
        MOBILENET: with_statistics(torchvision.models.mobilenet_v3_large(weights=None)),
        COCO: with_statistics(
            fasterrcnn_mobilenet_v3_large_fpn(
                weights=None, weights_backbone=None, num_classes=91, min_size=128, max_size=128
            )
        ),
    }


@pytest.fixture
def asked(monkeypatch, stock, tmp_path):
    """Serves them as files where a download would be checked, and records what was asked for."""
    urls = []

    def serve(url):
        urls.append(url)
        path = tmp_path / url.rpartition("/")[2]
        # torchvision published them without the counts of batches
        state = {key: value for key, value in stock[path.name].state_dict().items() if "num_batches" not in key}
        torch.save(state, path)
        return path

    monkeypatch.setattr(published, "published_file", serve)
    return urls


def built(name, weights, **options):
    head = make_head("softmax", instance_counts=[5] * 90)
    return build_detector(name, head, weights=weights, min_size=(128,), max_size=128, **options)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mask_rcnn_r18_fpn", R18),
        ("faster_rcnn_r18_fpn", R18),
        ("mask_rcnn_mobilenet_v3_large_fpn", MOBILENET),
        ("faster_rcnn_mobilenet_v3_large_fpn", MOBILENET),
    ],
)
def test_imagenet_weights_are_those_of_the_classifier(name, file, asked, stock):
    """The maps that the pyramid takes equal those inside torchvision's classifier, whatever eps its norms have."""
    model = built(name, "imagenet").eval()
    assert asked == [f"https://download.pytorch.org/models/{file}"]
    assert not any(layer.startswith("backbone.body") for layer in model.load_report.reinitialised)
    assert {m.eps for m in model.modules() if isinstance(m, StoredStatsBatchNorm2d)} == {1e-5}
    image, theirs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)), {}
    parts = ("layer1", "layer2", "layer3", "layer4") if file == R18 else ("features.13", "features.16")
    for part in parts:
        stock[file].get_submodule(part).register_forward_hook(lambda _, __, out, part=part: theirs.update({part: out}))
    with torch.no_grad():
        stock[file](image)
        ours = model.backbone.body(image)
    for found, wanted in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    trained = {part for part in set_trainable(model, "all") if part.startswith("backbone.body.")}
    frozen = model.frozen
    assert frozen == TRUNKS[name.partition("rcnn_")[2]].frozen
    assert trained
    assert not any(part.startswith(frozen) for part in trained)


def test_coco_weights_detect_what_torchvisions_detector_does(asked, stock):
    model = built("faster_rcnn_mobilenet_v3_large_fpn", "coco", score_threshold=0.011, num_detections=50).eval()
    assert asked == [f"https://download.pytorch.org/models/{COCO}"]
    assert model.load_report.reinitialised == ()
    theirs = stock[COCO]
    theirs.roi_heads.score_thresh, theirs.roi_heads.detections_per_img = 0.011, 50
    images = [torch.rand(3, 128, 96, generator=torch.Generator().manual_seed(2))]
    with torch.no_grad():
        (found,), (wanted,) = model(images), theirs(images)
    assert len(wanted["boxes"]) > 10
    for key in ("boxes", "scores", "labels"):
        torch.testing.assert_close(found[key], wanted[key])
    # of other classes the box layers start anew, although there are as many
    named = [(number, f"class {number}") for number in range(1, 91)]
    assert (
        set(built("faster_rcnn_mobilenet_v3_large_fpn", "coco", own_categories=named).load_report.reinitialised) == ANEW
    )


def test_a_checkpoint_of_torchvisions_script_keeps_the_eps_of_its_own(asked, stock, tmp_path):
    """Its ResNets start from COCO weights with eps 0, its MobileNet does not."""
    torch.save({"model": stock[COCO].state_dict(), "args": {"weights": "COCO_V1"}}, tmp_path / "model.pth")
    model = built("faster_rcnn_mobilenet_v3_large_fpn", tmp_path / "model.pth")
    key = "backbone.body.4.block.0.1.weight"
    assert torch.equal(model.state_dict()[key], stock[COCO].state_dict()[key])
    assert model.load_report.notes == ()


def test_what_there_is_not(asked, stock, tmp_path):
    with pytest.raises(
        RecipeError, match="'coco' exists for .*faster_rcnn_mobilenet_v3_large_fpn; allowed are none, imag"
    ):
        built("mask_rcnn_mobilenet_v3_large_fpn", "coco")
    with pytest.raises(RecipeError, match="model.name=mask_rcnn_r18_fpn has no blocks of three convolutions"):
        built("mask_rcnn_r18_fpn", "none", dcn="c3-c5")
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / "small.pth")
    with pytest.raises(DataError, match="has no place in the model"):
        built("faster_rcnn_mobilenet_v3_large_fpn", tmp_path / "small.pth")
    torch.save(stock[R18].state_dict(), tmp_path / "r18.pth")
    with pytest.raises(DataError, match="they are of the trunk of faster_rcnn_r18_fpn"):
        built("faster_rcnn_r50_fpn", tmp_path / "r18.pth")
    assert asked == []


@pytest.mark.parametrize(("trunk", "numbers"), [("r18_fpn", 11_176_512), ("mobilenet_v3_large_fpn", 2_971_952)])
def test_sizes(trunk, numbers):
    """Those of torchvision's classifiers without their last layers."""
    with torch.device("meta"):
        model = built(f"faster_rcnn_{trunk}", "none")
    assert sum(p.numel() for p in model.backbone.body.parameters()) == numbers
    assert detector_of_weights(model.state_dict()) == f"faster_rcnn_{trunk}"
