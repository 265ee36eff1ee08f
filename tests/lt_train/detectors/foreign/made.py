"""Weights as other tools write them: names and shapes from what is known of them, and our models turned into theirs.

Written apart from the tables that are tested: names by patterns, shapes by the sizes of a ResNet-50, rows by hand.
"""

import re

import torch

from lt_train.detectors import build_detector
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import COUNTS

# convolutions of each stage's blocks: width inside, width outside, blocks
STAGES = [(64, 256, 3), (128, 512, 4), (256, 1024, 6), (512, 2048, 3)]
# the background comes first in version 1 of mmdetection, and last elsewhere
FIRST, LAST = True, False


def trunk_shapes(convolution, norm, *, third=6, wider=1, groups=1):
    """Shapes of a ResNet, with the names that two functions give its layers by stage, block and number.

    Of a ResNeXt the 3x3 convolutions are wider and have groups; a third stage of 23 blocks makes it a 101.
    """
    shapes = {}

    def add(place, out, into, side):
        shapes[f"{convolution(*place)}.weight"] = (out, into, side, side)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm(*place)}.{part}"] = (out,)

    add((0, 0, 1), 64, 3, 7)
    into = 64
    for stage, (narrow, outside, blocks) in enumerate(STAGES, 1):
        inside = narrow * wider
        for block in range(third if stage == 3 else blocks):
            add((stage, block, 1), inside, into, 1)
            add((stage, block, 2), inside, inside // groups, 3)
            add((stage, block, 3), outside, inside, 1)
            if block == 0:
                add((stage, block, 0), outside, into, 1)
            into = outside
    return shapes


def layer_shapes(named):
    """Weights and biases of layers."""
    return {f"{name}.weight": s for name, s in named.items()} | {f"{name}.bias": s[:1] for name, s in named.items()}


def mmdetection_shapes(classes, *, first, masks, **trunk):
    def convolution(stage, block, number):
        place = f"backbone.layer{stage}.{block}."
        return "backbone.conv1" if not stage else f"{place}conv{number}" if number else f"{place}downsample.0"

    def norm(stage, block, number):
        place = f"backbone.layer{stage}.{block}."
        return "backbone.bn1" if not stage else f"{place}bn{number}" if number else f"{place}downsample.1"

    roi = "" if first else "roi_head."
    layers = {f"neck.lateral_convs.{i}.conv": (256, outside, 1, 1) for i, (_, outside, _) in enumerate(STAGES)}
    layers |= {f"neck.fpn_convs.{i}.conv": (256, 256, 3, 3) for i in range(4)}
    layers |= {
        "rpn_head.rpn_conv": (256, 256, 3, 3),
        "rpn_head.rpn_cls": (3, 256, 1, 1),
        "rpn_head.rpn_reg": (12, 256, 1, 1),
        f"{roi}bbox_head.shared_fcs.0": (1024, 256 * 7 * 7),
        f"{roi}bbox_head.shared_fcs.1": (1024, 1024),
        f"{roi}bbox_head.fc_cls": (classes + 1, 1024),
        f"{roi}bbox_head.fc_reg": (4 * (classes + first), 1024),
    }
    if masks:
        layers |= {f"{roi}mask_head.convs.{i}.conv": (256, 256, 3, 3) for i in range(4)}
        layers[f"{roi}mask_head.upsample"] = (256, 256, 2, 2)
        layers[f"{roi}mask_head.conv_logits"] = (classes + first, 256, 1, 1)
    return trunk_shapes(convolution, norm, **trunk) | layer_shapes(layers)


def detectron2_shapes(classes, *, masks):
    def convolution(stage, block, number):
        place = f"backbone.bottom_up.res{stage + 1}.{block}."
        return "backbone.bottom_up.stem.conv1" if not stage else f"{place}{f'conv{number}' if number else 'shortcut'}"

    def norm(*place):
        return f"{convolution(*place)}.norm"

    layers = {f"backbone.fpn_lateral{i}": (256, outside, 1, 1) for i, (_, outside, _) in enumerate(STAGES, 2)}
    layers |= {f"backbone.fpn_output{i}": (256, 256, 3, 3) for i in range(2, 6)}
    layers |= {
        "proposal_generator.rpn_head.conv": (256, 256, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (3, 256, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (12, 256, 1, 1),
        "roi_heads.box_head.fc1": (1024, 256 * 7 * 7),
        "roi_heads.box_head.fc2": (1024, 1024),
        "roi_heads.box_predictor.cls_score": (classes + 1, 1024),
        "roi_heads.box_predictor.bbox_pred": (4 * classes, 1024),
    }
    if masks:
        layers |= {f"roi_heads.mask_head.mask_fcn{i}": (256, 256, 3, 3) for i in range(1, 5)}
        layers["roi_heads.mask_head.deconv"] = (256, 256, 2, 2)
        layers["roi_heads.mask_head.predictor"] = (classes, 256, 1, 1)
    return trunk_shapes(convolution, norm) | layer_shapes(layers)


MMDETECTION = [
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn_head.rpn_conv."),
    (r"rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"roi_heads\.box_head\.fc6\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"roi_heads\.box_head\.fc7\.", "roi_head.bbox_head.shared_fcs.1."),
    (r"roi_heads\.box_predictor\.cls_score\.", "roi_head.bbox_head.fc_cls."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "roi_head.bbox_head.fc_reg."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", "roi_head.mask_head.upsample."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", "roi_head.mask_head.conv_logits."),
]
DETECTRON2 = [
    (r"backbone\.body\.conv1\.", "backbone.bottom_up.stem.conv1."),
    (r"backbone\.body\.bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    (
        r"backbone\.body\.layer(\d)\.(\d)\.bn(\d)\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm.",
    ),
    (r"backbone\.body\.layer(\d)\.(\d)\.conv", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.conv"),
    (r"backbone\.body\.layer(\d)\.0\.downsample\.0\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.0.shortcut."),
    (
        r"backbone\.body\.layer(\d)\.0\.downsample\.1\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.0.shortcut.norm.",
    ),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
    (r"rpn\.head\.conv\.0\.0\.", "proposal_generator.rpn_head.conv."),
    (r"rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"roi_heads\.box_head\.fc6\.", "roi_heads.box_head.fc1."),
    (r"roi_heads\.box_head\.fc7\.", "roi_heads.box_head.fc2."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", "roi_heads.mask_head.deconv."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", "roi_heads.mask_head.predictor."),
]


def renamed(key, patterns):
    for pattern, theirs in patterns:
        new, found = re.subn(f"^{pattern}", theirs, key)
        if found:
            return new
    return key


def weights_of(model, *, masks=True):
    """What another tool would have of a model: no state of the head, and no mask branch if it is to have none."""
    unwanted = ("roi_heads.head.",) if masks else ("roi_heads.head.", "roi_heads.mask_")
    return {key: value for key, value in model.state_dict().items() if not key.startswith(unwanted)}


def background_last(state):
    """The rows of version 2 of mmdetection and of detectron2, from ours."""
    moved = dict(state)
    for part in ("weight", "bias"):
        rows = state[f"roi_heads.box_predictor.cls_score.{part}"]
        moved[f"roi_heads.box_predictor.cls_score.{part}"] = torch.cat([rows[1:], rows[:1]])
        moved[f"roi_heads.box_predictor.bbox_pred.{part}"] = state[f"roi_heads.box_predictor.bbox_pred.{part}"][4:]
        if (masks := f"roi_heads.mask_predictor.mask_fcn_logits.{part}") in state:
            moved[masks] = state[masks][1:]
    return moved


def as_mmdetection(state, *, first):
    if not first:
        return {renamed(key, MMDETECTION): value for key, value in background_last(state).items()}
    return {renamed(key, MMDETECTION).removeprefix("roi_head."): value for key, value in state.items()}


def as_detectron2(state):
    return {renamed(key, DETECTRON2): value for key, value in background_last(state).items()}


def r50(seed, *, masks=True, head="softmax", counts=COUNTS, **options):
    """A ResNet-50 detector for tiny images, whose batch norms have seen something."""
    model = build_detector(
        "mask_rcnn_r50_fpn" if masks else "faster_rcnn_r50_fpn",
        make_head(head, instance_counts=counts),
        min_size=(64,),
        max_size=128,
        num_detections=20,
        generator=torch.Generator().manual_seed(seed),
        **options,
    ).eval()
    # one core: few regions go through the heads
    model.rpn._pre_nms_top_n = {"training": 40, "testing": 40}
    generator = torch.Generator().manual_seed(seed + 100)
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value += 0.1 * torch.randn(value.shape, generator=generator)
        elif name.endswith("running_var"):
            value *= 0.5 + torch.rand(value.shape, generator=generator)
    return model


def detections(model):
    """What a model finds in one keyed image."""
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.eval()([image])[0]


def assert_same_detections(one, other):
    first, second = detections(one), detections(other)
    assert len(first["boxes"]) > 0
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
