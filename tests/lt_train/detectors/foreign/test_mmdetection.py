"""Weights of mmdetection 1, 2 and 3: names, shapes, order of the rows, anchors, pixels; what is refused."""

import random
import re

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

from lt_data.errors import DataError
from lt_train.detectors import build_detector, initialise_from, load_weights
from lt_train.detectors.foreign.mmdetection import from_mmdetection, names, with_centred_anchors
from lt_train.detectors.foreign.mmdetection_config import trained_as
from lt_train.detectors.foreign.names import CLASSIFIER, MASK_LOGITS, REGRESSOR, RPN_BOXES
from lt_train.heads import make_head
from tests.lt_train.detectors.foreign.made import (
    FIRST,
    LAST,
    as_mmdetection,
    assert_same_detections,
    mmdetection_shapes,
    r50,
    weights_of,
)
from tests.lt_train.detectors.scenes import small

torch.set_num_threads(1)

# as the versions write it: the whole file below its path; a printed one
V1 = """/home/somebody/configs/mask_rcnn_r50_fpn_1x.py
# model settings
model = dict(
    type='MaskRCNN',
    pretrained='torchvision://resnet50',
    backbone=dict(type='ResNet', depth=50, num_stages=4, frozen_stages=1, style='pytorch'),
    rpn_head=dict(
        type='RPNHead', anchor_scales=[8], anchor_ratios=[0.5, 1.0, 2.0], anchor_strides=[4, 8, 16, 32, 64],
        target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
    bbox_head=dict(type='SharedFCBBoxHead', num_fcs=2, num_classes=7, target_stds=[0.1, 0.1, 0.2, 0.2]))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Normalize', **img_norm_cfg)]
"""
V2 = """model = dict(
    type='MaskRCNN',
    backbone=dict(type='ResNet', depth=50, style='pytorch', init_cfg=dict(type='Normal', mean=0, std=0.01)),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        bbox_head=dict(bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]), loss_cls=dict(use_sigmoid=False))))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
"""
V3 = V2.partition("img_norm_cfg")[0].replace(
    "type='MaskRCNN',",
    "type='MaskRCNN', data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], "
    "std=[58.395, 57.12, 57.375], bgr_to_rgb=True),",
)
CLASSES = ("cup", "dog", "jar", "hat", "fig", "map")
NAMED = [(10 * i, name) for i, name in enumerate(CLASSES, 1)]


@pytest.fixture(scope="module")
def source():
    return r50(0)


@pytest.fixture(scope="module")
def target():
    return r50(1)


def refusal(state, meta=None):
    with pytest.raises(DataError) as error:
        from_mmdetection(state, meta, where="a.pth")
    assert all(line.startswith("weights a.pth: ") and "\n" not in line for line in error.value.problems)
    return error.value.problems


def shift_of_anchors():
    """What version 1's bias gets added, [12]."""
    return with_centred_anchors({f"{RPN_BOXES}.bias": torch.zeros(12)})[f"{RPN_BOXES}.bias"]


def on_meta(name, **options):
    head = make_head("softmax", instance_counts=[5] * 6)
    with torch.device("meta"):
        return build_detector(name, head, weights="coco", load_pretrained=False, **options)


def zeros(shapes):
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


# --- names and shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("first", [FIRST, LAST])
def test_every_name_has_a_place_and_every_weight_a_name(target, first, masks):
    shapes = mmdetection_shapes(6, first=first, masks=masks)
    table = names(masks=masks, first=first)
    assert table.keys() == shapes.keys()
    own = weights_of(target, masks=masks)
    assert sorted(table.values()) == sorted(key for key in own if not key.endswith("num_batches_tracked"))
    found = from_mmdetection(zeros(shapes), None, where="a.pth").state
    assert {key: value.shape for key, value in found.items()} == {key: own[key].shape for key in found}
    assert sum(value.numel() for value in found.values()) == sum(own[key].numel() for key in table.values())


TRUNKS = {
    "r101_fpn": {"third": 23},
    "x101_32x8d_fpn": {"third": 23, "wider": 4, "groups": 32},
    "x101_64x4d_fpn": {"third": 23, "wider": 4, "groups": 64},
}


# each trunk once; both versions, with masks and without, are read of a ResNet-50 above
LARGER = [
    pytest.param(trunk, first, masks, marks=() if (first, masks) == wanted else pytest.mark.slow)
    for trunk, wanted in zip(TRUNKS, [(LAST, False), (FIRST, True), (LAST, True)], strict=True)
    for first in (FIRST, LAST)
    for masks in (True, False)
]


@pytest.mark.parametrize(("trunk", "first", "masks"), LARGER)
def test_larger_trunks(trunk, first, masks):
    """Every weight of the model is filled, whatever the version; those of another trunk are one line."""
    name = f"{'mask' if masks else 'faster'}_rcnn_{trunk}"
    own = on_meta(name).state_dict()
    state = zeros(mmdetection_shapes(6, first=first, masks=masks, **TRUNKS[trunk]))
    config = (V1 if first else V2).replace("'ResNet'", "'ResNeXt'" if trunk.startswith("x") else "'ResNet'")
    found = from_mmdetection(state, {"config": config}, where="a.pth").state
    counted = {key for key in own if not key.endswith("num_batches_tracked") and not key.startswith("roi_heads.head.")}
    assert {key: value.shape for key, value in found.items()} == {key: own[key].shape for key in counted}
    with pytest.raises(DataError) as error:
        initialise_from(on_meta("mask_rcnn_r50_fpn"), found)
    (line,) = error.value.problems
    assert f"({name}), the recipe's model is mask_rcnn_r50_fpn; set model.name={name}, or" in line


@pytest.mark.parametrize("first", [FIRST, LAST])
def test_deformable_convolutions(first):
    """Their offsets lie beside the convolution in version 1, and in it later; only such a model takes them."""
    state = zeros(mmdetection_shapes(6, first=first, masks=False, **TRUNKS["x101_64x4d_fpn"]))
    for stage, (width, blocks) in {2: (512, 4), 3: (1024, 23), 4: (2048, 3)}.items():
        for block in range(blocks):
            layer = f"backbone.layer{stage}.{block}.conv2{'_offset' if first else '.conv_offset'}"
            state |= zeros({f"{layer}.weight": (18, width, 3, 3), f"{layer}.bias": (18,)})
    text = (V1 if first else V2).replace("'ResNet'", "'ResNeXt', dcn=dict(type='DCN', deform_groups=1)")
    found = from_mmdetection(state, {"config": text}, where="a.pth").state
    own = on_meta("faster_rcnn_x101_64x4d_fpn", dcn="c3-c5").state_dict()
    counted = {key for key in own if not key.endswith("num_batches_tracked") and not key.startswith("roi_heads.head.")}
    assert {key: value.shape for key, value in found.items()} == {key: own[key].shape for key in counted}
    with pytest.raises(DataError, match="set model.dcn=c3-c5, or give weights without"):
        initialise_from(on_meta("faster_rcnn_x101_64x4d_fpn"), found)
    (line,) = refusal(state, {"config": text.replace("'DCN'", "'DCNv2'")})
    assert "model.backbone.dcn.type='DCNv2'; allowed is 'DCN', since this model has deformable convolutions of" in line
    first_stage = f"backbone.layer1.0.conv2{'_offset' if first else '.conv_offset'}.weight"
    assert first_stage in refusal(state | {first_stage: torch.zeros(1)})[0]


def test_the_shapes_of_these_tests_are_those_of_torchvisions_files():
    """Of 90 classes, without batch norms; mmdetection counts 41.53 million that are trained, for 80 classes."""

    def numbers(shapes, but):
        return sum(torch.Size(shape).numel() for key, shape in shapes.items() if not re.search(but, key))

    for weights, masks in ((FasterRCNN_ResNet50_FPN_Weights, False), (MaskRCNN_ResNet50_FPN_Weights, True)):
        shapes = mmdetection_shapes(90, first=FIRST, masks=masks)
        assert numbers(shapes, r"\.(bn\d|downsample\.1)\.") == weights.COCO_V1.meta["num_params"]
    shapes = mmdetection_shapes(80, first=LAST, masks=False)
    assert numbers(shapes, r"running_|backbone\.(conv1|bn1|layer1)\.") == 41_527_712


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "meta"),
    [
        (FIRST, {"mmdet_version": "1.0rc0", "config": V1, "CLASSES": CLASSES}),
        (LAST, {"mmdet_version": "2.28.2", "config": V2, "CLASSES": CLASSES, "hook_msgs": {}}),
        (LAST, {"mmengine_version": "0.10", "cfg": V3, "dataset_meta": {"classes": CLASSES, "palette": [(1, 2, 3)]}}),
    ],
)
def test_a_checkpoint_gives_the_same_detections(tmp_path, source, target, first, meta):
    state = as_mmdetection(weights_of(source), first=first)
    if first:
        # the bias that gives ours exactly, which is 0 at first
        assert not source.rpn.head.bbox_pred.bias.any()
        state["rpn_head.rpn_reg.bias"] = -with_centred_anchors({f"{RPN_BOXES}.bias": torch.zeros(12)})[
            f"{RPN_BOXES}.bias"
        ]
    path = tmp_path / "epoch_12.pth"
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    report = load_weights(target, path, own_categories=NAMED)
    assert report.reinitialised == ()
    assert report.loaded == len(mmdetection_shapes(6, first=first, masks=True))
    assert [("half a cell" in note) for note in report.notes] == [True] * (not first)
    assert_same_detections(source, target)
    theirs = state["bbox_head.fc_cls.weight" if first else "roi_head.bbox_head.fc_cls.weight"]
    assert torch.equal(target.state_dict()[f"{CLASSIFIER}.weight"][0], theirs[0 if first else -1])


def test_a_box_model_of_other_classes_keeps_the_rest(tmp_path, target):
    """Trunk, pyramid, proposals and box head are taken; what depends on the classes is made anew and says why."""
    own = r50(2, masks=False, head="bags")
    theirs = r50(3, masks=False, counts=[5] * 3)
    torch.save({"state_dict": as_mmdetection(weights_of(theirs), first=LAST)}, tmp_path / "a.pth")
    fresh = own.state_dict()[f"{CLASSIFIER}.weight"].clone()
    report = load_weights(own, tmp_path / "a.pth", own_categories=NAMED)
    assert report.reinitialised == (CLASSIFIER, REGRESSOR)
    assert report.reasons[1] == "it has 16 rows, 28 are needed"
    state = own.state_dict()
    assert torch.equal(state["roi_heads.box_head.fc7.weight"], theirs.state_dict()["roi_heads.box_head.fc7.weight"])
    assert torch.equal(state[f"{CLASSIFIER}.weight"], fresh)
    assert "without a whole configuration" in report.notes[0]
    with pytest.raises(DataError, match=r"a.pth: they are of a Faster R-CNN .*set model.name=faster_rcnn_r50_fpn"):
        load_weights(target, tmp_path / "a.pth")
    with pytest.raises(DataError, match="set model.name=faster_rcnn_r50_fpn"):
        load_weights(small("faster_rcnn_small"), tmp_path / "a.pth")


def test_classes_of_other_names_start_anew(tmp_path, source, target):
    meta = {"config": V2, "CLASSES": (*CLASSES[:5], "cap")}
    torch.save({"meta": meta, "state_dict": as_mmdetection(weights_of(source), first=LAST)}, tmp_path / "a.pth")
    report = load_weights(target, tmp_path / "a.pth", own_categories=NAMED)
    assert report.reinitialised == (CLASSIFIER, REGRESSOR, MASK_LOGITS)
    assert set(report.reasons) == {"the categories are others: label 6 was 'cap', is id 60 'map'"}


@pytest.mark.parametrize("level", range(5))
def test_anchors_of_version_1_predict_the_same_boxes(level):
    """Its anchors as version 1 makes them, in pixels that are included, and its decoding; ours with another bias."""
    stride = 4 * 2**level
    generator = torch.Generator().manual_seed(level)
    deltas = 0.3 * torch.randn(3, 4, generator=generator)
    ratios = torch.tensor([0.5, 1.0, 2.0])
    wide, high = stride * 8 / ratios.sqrt(), stride * 8 * ratios.sqrt()
    centre = (stride - 1) / 2 + 3 * stride
    x, y = centre + deltas[:, 0] * wide, centre + deltas[:, 1] * high
    w, h = wide * deltas[:, 2].exp(), high * deltas[:, 3].exp()
    # the last pixel is included: one more to the right and below
    there = torch.stack([x - (w - 1) / 2, y - (h - 1) / 2, x + (w - 1) / 2 + 1, y + (h - 1) / 2 + 1], dim=1)
    bias = shift_of_anchors().view(3, 4)
    anchors = AnchorGenerator(((stride * 8,),), ((0.5, 1.0, 2.0),)).cell_anchors[0] + 3 * stride
    here = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(deltas + bias, anchors)
    # torchvision rounds the corners of its anchors to whole pixels
    assert (here - there).abs().max() < 2.5
    without = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(deltas, anchors)
    assert ((without - there).mean(dim=0) + stride / 2).abs().max() < 2.5


def test_pixels_in_another_order_are_put_into_the_first_convolution(source):
    """Blue first and without a deviation: the first layer sees the same picture as there."""
    state = as_mmdetection(weights_of(source), first=LAST)
    config = V2.replace("[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True",
                        "[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False")  # fmt: skip
    moved = from_mmdetection(state, {"config": config}, where="a.pth").state["backbone.body.conv1.weight"]
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    theirs = 255 * image.flip(1) - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ours = (image - mean[:, None, None]) / std[:, None, None]
    there = F.conv2d(theirs, state["backbone.conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(F.conv2d(ours, moved, stride=2, padding=3), there, rtol=1e-4, atol=1e-3)


def test_anchors_of_version_1_in_version_2(source):
    """Its configurations for weights of version 1 keep the anchors, and pool as ours does."""
    config = V2.replace("'AnchorGenerator'", "'LegacyAnchorGenerator', center_offset=0.5")
    pooling = "bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', aligned=False))"
    config = config.replace("roi_head=dict(", f"roi_head=dict({pooling}, ")
    state = as_mmdetection(weights_of(source), first=LAST)
    found = from_mmdetection(state, {"config": config}, where="a.pth")
    assert found.notes == ()
    moved = found.state[f"{RPN_BOXES}.bias"] - state["rpn_head.rpn_reg.bias"]
    assert moved[4:8].tolist() == [1 / 16, 1 / 16, 0, 0]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "style='pytorch'",
            "style='caffe'",
            "model.backbone.style='caffe'; allowed is 'pytorch', since this model has its strides",
        ),
        (
            "scales=[8]",
            "scales=[4]",
            "anchor_generator.scales=[4]; allowed is [8], since",
        ),
        ("ratios=[0.5, 1.0, 2.0]", "ratios=[1.0]", "anchor_generator.ratios=[1.0]"),
        ("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]", "target_stds=[0.05, 0.05, 0.1, 0.1]"),
        ("'AnchorGenerator'", "'AnchorGenerator', center_offset=0.5", "center_offset=0.5"),
        ("'AnchorGenerator'", "'YOLOAnchorGenerator'", "anchor_generator.type='YOLOAnchorGenerator'"),
        ("use_sigmoid=False", "use_sigmoid=True", "loss_cls.use_sigmoid=True"),
        ("mean=[123.675, 116.28, 103.53]", "mean=[0, 0, 0]", "its input is R, G, B less [0.0, 0.0, 0.0]"),
        ("to_rgb=True", "to_rgb=False", "its input is B, G, R less [123.675"),
        ("std=[58.395, 57.12, 57.375]", "std=[0, 1, 1]", "std [0, 1, 1]; needed are three numbers"),
        ("std=[58.395, 57.12, 57.375]", "std=1e9999", "needed are three numbers"),
    ],
)
def test_what_shapes_cannot_show_is_read_from_the_configuration(old, new, says):
    assert old in V2
    state = zeros(mmdetection_shapes(6, first=LAST, masks=True))
    (line,) = refusal(state, {"config": V2.replace(old, new)})
    assert says in line
    from_mmdetection(state, {"config": V2}, where="a.pth")


def test_version_1_says_it_in_other_words():
    state = zeros(mmdetection_shapes(6, first=FIRST, masks=True))
    (line,) = refusal(state, {"config": V1.replace("anchor_scales=[8]", "anchor_scales=[4]")})
    assert "model.rpn_head.anchor_scales=[4]" in line


def test_several_statistics_are_no_statistics():
    config = V2 + "teacher = dict(data=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False))\n"
    (line,) = refusal(zeros(mmdetection_shapes(6, first=LAST, masks=False)), {"config": config})
    assert "names 2 statistics of pixels" in line


def test_caffes_trunk_is_known_without_a_configuration(source):
    state = as_mmdetection(weights_of(source), first=LAST)
    state["backbone.bn1.running_mean"] = torch.zeros(64)
    state["backbone.bn1.running_var"] = torch.ones(64)
    from_mmdetection(state, None, where="a.pth")
    state["backbone.bn1.weight"] = torch.full((64,), 0.3)
    (line,) = refusal(state)
    assert "as the ResNet-50 of caffe (MSRA) has" in line
    from_mmdetection(state, {"config": V2}, where="a.pth")


def test_missing_and_other_weights_are_named():
    state = zeros(mmdetection_shapes(6, first=LAST, masks=True))
    deeper = {f"backbone.layer3.{i}.conv1.weight": torch.zeros(1) for i in range(6, 22)}
    lines = refusal(state | deeper)
    assert [line.split()[2] for line in lines] == [*list(deeper)[:3], "and"]
    assert "and 13 more" in lines[3]
    del state["roi_head.bbox_head.shared_fcs.1.bias"]
    (line,) = refusal(state)
    assert line.startswith("weights a.pth: roi_head.bbox_head.shared_fcs.1.bias is missing; needed is")
    other = {key.replace("bbox_head.", "grid_head."): value for key, value in state.items()}
    (line,) = refusal(other)
    assert "of another detector" in line


@pytest.mark.parametrize(
    ("layer", "rows", "says"),
    [
        ("fc_reg", 4, "bbox_pred.weight (its name here) has 4 rows, 24 are needed beside a classifier of 6 classes"),
        ("fc_cls", 8, "bbox_pred.weight (its name here) has 24 rows, 28 are needed"),
        ("fc_reg", 28, "has 28 rows, 24 are needed"),
    ],
)
def test_rows_that_stand_for_other_things(layer, rows, says):
    """Boxes for all classes at once; Seesaw's second background; version 1's rows under version 2's names."""
    shapes = mmdetection_shapes(6, first=LAST, masks=False)
    for part in ("weight", "bias"):
        key = f"roi_head.bbox_head.{layer}.{part}"
        shapes[key] = (rows, *shapes[key][1:])
    assert says in refusal(zeros(shapes))[0]


def test_a_wrong_shape_is_one_line_a_weight(tmp_path, source, target):
    state = as_mmdetection(weights_of(source), first=LAST)
    state["rpn_head.rpn_cls.weight"] = torch.zeros(6, 256, 1, 1)
    state["backbone.conv1.weight"] = torch.zeros(64)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(DataError) as error:
        load_weights(target, tmp_path / "a.pth")
    names = [line.split()[2] for line in error.value.problems]
    assert names == ["backbone.body.conv1.weight", "rpn.head.cls_logits.weight"]
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("text", [V1, V2, V3])
def test_damaged_configurations_are_lines_or_unknown(text):
    """Some characters are others: what is left is read, refused in lines, or counts as no configuration."""
    draw, lines = random.Random(0), []
    for _ in range(300):
        letters = list(text)
        for _ in range(draw.randint(1, 4)):
            letters[draw.randrange(len(letters))] = draw.choice("()[]{},.='\\0a1-*\n")
        try:
            trained_as({"config": "".join(letters)}, where="a.pth")
        except DataError as error:
            lines += error.problems
    assert lines
    assert all(len(line) < 400 and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    "meta",
    [
        *(None, 3, "x", [1], {}, {"config": 3}, {"config": b"model"}, {"config": ""}, {"config": "model = 3"}),
        *({"config": "model=dict(" + "a=dict(" * 900}, {"config": "\0"}, {"config": "x=" + "-" * 20_000 + "1"}),
        *({"config": "model=dict(**x)"}, {"config": "x" * 300_000}, {"CLASSES": torch.ones(3), "dataset_meta": 4}),
    ],
)
def test_a_meta_that_says_nothing(meta):
    found = from_mmdetection(zeros(mmdetection_shapes(6, first=LAST, masks=False)), meta, where="a.pth")
    assert "without a whole configuration" in found.notes[0]
    assert found.classes is None
