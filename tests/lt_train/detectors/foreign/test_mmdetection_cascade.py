"""mmdetection's cascades: names of made-up weights, rows of each stage, and what their configurations may say."""

import re

import pytest
import torch

from lt_data.errors import DataError
from lt_train.detectors.foreign.mmdetection import from_mmdetection
from tests.lt_train.detectors.foreign.made import FIRST, LAST, layer_shapes, mmdetection_shapes

CLASSES = 6
KINDS = ("cascade", "cascade mask", "htc", "htc with semantics")
SEMANTIC = {
    **{f"lateral_convs.{i}.conv": (256, 256, 1, 1) for i in range(5)},
    **{f"convs.{i}.conv": (256, 256, 3, 3) for i in range(4)},
    "conv_embedding.conv": (256, 256, 1, 1),
    "conv_logits": (183, 256, 1, 1),
}
ROWS = (("bbox_head", "fc_cls", 7), ("bbox_head", "fc_reg", 4), ("mask_head", "conv_logits", 6))
STDS = ("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]", "[0.033, 0.033, 0.067, 0.067]")
HEADS = ", ".join(
    f"dict(type='Shared2FCBBoxHead', bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds={stds}), "
    "reg_class_agnostic=True, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False))"
    for stds in STDS
)
CONFIG = f"""model = dict(
    type='HybridTaskCascade',
    backbone=dict(type='ResNet', depth=50, style='pytorch'),
    roi_head=dict(
        type='HybridTaskCascadeRoIHead', interleaved=True, mask_info_flow=True,
        bbox_head=[{HEADS}],
        mask_head=[dict(type='HTCMaskHead', with_conv_res=False), dict(type='HTCMaskHead'), dict(type='HTCMaskHead')],
        semantic_head=dict(type='FusedSemanticHead', fusion_level=1, num_classes=183)))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
"""


def shapes(kind, *, first):
    """Names and shapes of a cascade with a ResNet-50, written from those of a detector of one stage."""
    single = mmdetection_shapes(CLASSES, first=first, masks=kind != "cascade")
    roi = "" if first else "roi_head."
    found = {name: shape for name, shape in single.items() if "_head." not in name or name.startswith("rpn_head.")}
    for stage in range(3):
        for name in single.keys() - found.keys():
            if "bbox_head." in name or "mask_head." in name:
                shape = (4, *single[name][1:]) if "fc_reg" in name else single[name]
                found[re.sub(r"(bbox|mask)_head\.", rf"\1_head.{stage}.", name)] = shape
        # version 1 has a layer before the first mask head that nothing uses
        if kind.startswith("htc") and (stage or first):
            found |= layer_shapes({f"{roi}mask_head.{stage}.conv_res.conv": (256, 256, 1, 1)})
    if kind == "htc with semantics":
        found |= layer_shapes({f"{roi}semantic_head.{name}": shape for name, shape in SEMANTIC.items()})
    return found


def zeros(named):
    return {name: torch.zeros(()).expand(shape) for name, shape in named.items()}


def numbers(state, *parts):
    """Of the weights whose names have one of these parts."""
    return sum(value.numel() for name, value in state.items() if any(part in name for part in parts))


@pytest.mark.parametrize("first", [FIRST, LAST])
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_name_of_its_own(kind, first):
    """Sizes are the page's for three stages: 13,895,680 of a box head, 4,100 of a regressor, 2,802,103 of semantics."""
    named = shapes(kind, first=first)
    found = from_mmdetection(zeros(named), None, where="a.pth")
    unused = 2 * (first and kind.startswith("htc"))
    assert len(found.state) == len(named) - unused
    assert ("+1" in "".join(found.notes)) == first
    state, flow = found.state, kind.startswith("htc")
    assert numbers(state, ".box_head.") == 3 * 13_895_680
    for stage in range(3):
        before = f"roi_heads.stages.{stage}."
        own = {name.removeprefix(before) for name in state if name.startswith(before) and name.endswith(".weight")}
        boxes = {"box_head.fc6.weight", "box_head.fc7.weight", "box_predictor.cls_score.weight"}
        assert boxes | {"box_predictor.bbox_pred.weight"} <= own
        convs = {f"mask_head.{'convs.' * flow}{i}.0.weight" for i in range(4)}
        masks = convs | {"mask_predictor.conv5_mask.weight", "mask_predictor.mask_fcn_logits.weight"}
        masks |= {"mask_head.flow.0.weight"} if flow and stage else set()
        assert own - boxes - {"box_predictor.bbox_pred.weight"} == (masks if kind != "cascade" else set())
        assert numbers(state, f"{before}box_predictor.bbox_pred.") == 4_100
    assert numbers(state, "roi_heads.semantic.") == (2_802_103 if "semantics" in kind else 0)
    assert {name for name in state if not name.startswith("roi_heads.")} == {
        name for name in from_mmdetection(zeros(mmdetection_shapes(6, first=first, masks=False)), None, where="a").state
        if not name.startswith("roi_heads.")
    }  # fmt: skip


def test_the_background_of_every_stage_becomes_row_0():
    named = shapes("htc", first=LAST)
    state = zeros(named) | {
        f"roi_head.{head}.{stage}.{layer}.{part}": 100.0 * stage
        + torch.arange(rows).float().view(-1, *[1] * (len(named[f"roi_head.{head}.{stage}.{layer}.{part}"]) - 1))
        for stage in range(3)
        for head, layer, rows in ROWS
        for part in ("weight", "bias")
    }
    found = from_mmdetection(state, None, where="a.pth").state
    for stage in range(3):
        for layer, rows in (
            ("box_predictor.cls_score", [6, 0, 1, 2, 3, 4, 5]),
            ("box_predictor.bbox_pred", [0, 1, 2, 3]),
            ("mask_predictor.mask_fcn_logits", [-100 * stage, 0, 1, 2, 3, 4, 5]),
        ):
            for part in ("weight", "bias"):
                value = found[f"roi_heads.stages.{stage}.{layer}.{part}"].flatten(1 if part == "weight" else 0)
                column = value[:, 0] if part == "weight" else value
                assert column.tolist() == [row + 100 * stage for row in rows]
    first = shapes("cascade mask", first=FIRST)
    first = {name: torch.arange(shape[0]) if name.endswith("fc_cls.bias") else v
             for (name, shape), v in zip(first.items(), zeros(first).values(), strict=True)}  # fmt: skip
    kept = from_mmdetection(first, None, where="a.pth").state
    assert kept["roi_heads.stages.2.box_predictor.cls_score.bias"].tolist() == [*range(7)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", None),
        ("HybridTaskCascadeRoIHead", "PointRendRoIHead", "roi_head.type='PointRendRoIHead'; allowed are 'CascadeRoI"),
        (STDS[2], STDS[1], "bbox_head.2.bbox_coder.target_stds=[0.05, 0.05, 0.1, 0.1]; allowed is [0.033, 0.033,"),
        ("reg_class_agnostic=True", "reg_class_agnostic=False", "bbox_head.0.reg_class_agnostic=False; allowed is"),
        ("Shared2FCBBoxHead", "GSBBoxHeadWith0", "bbox_head.0.type='GSBBoxHeadWith0'; allowed are 'Shared2FCBBoxHead'"),
        ("mask_info_flow=True", "mask_info_flow=False", "mask_info_flow=False; allowed is True, since this"),
        ("fusion_level=1", "fusion_level=2", "semantic_head.fusion_level=2; allowed is 1, since this model has a sem"),
        ("with_conv_res=False", "predictor_cfg=dict(type='NormedConv2d')", "mask_head.0.predictor_cfg.type='Norm"),
        ("type='HTCMaskHead')]", "type='OwnMaskHead')]", "mask_head.2.type='OwnMaskHead'; allowed are 'FCNMaskHead'"),
        ("'ResNet'", "'ResNeXt'", None),
    ],
)  # fmt: skip
def test_what_a_configuration_may_say(old, new, says):
    state = zeros(shapes("htc with semantics", first=LAST))
    config = CONFIG.replace(old, new, 1) if old else CONFIG
    assert old in CONFIG
    if says is None:
        assert "half a cell" in "".join(from_mmdetection(state, {"config": config}, where="a.pth").notes)
        return
    with pytest.raises(DataError) as error:
        from_mmdetection(state, {"config": config}, where="a.pth")
    (line,) = error.value.problems
    assert says in line


def test_missing_stages_and_other_rows_are_named():
    state = zeros(shapes("cascade", first=LAST))
    with pytest.raises(DataError, match=r"bbox_head.2.shared_fcs.0.weight is missing; needed is every .*Casc"):
        from_mmdetection({k: v for k, v in state.items() if "bbox_head.2." not in k}, None, where="a.pth")
    more = {k.replace("bbox_head.2.", "bbox_head.3."): v for k, v in state.items()}
    with pytest.raises(DataError, match=r"bbox_head.3.\S+ has no place in mmdetection's Cascade R-CNN"):
        from_mmdetection(state | more, None, where="a.pth")
    of_classes = {k: torch.zeros((24, *v.shape[1:])) if ".1.fc_reg" in k else v for k, v in state.items()}
    with pytest.raises(DataError, match=r"a.pth, stage 1: .*bbox_pred.weight .* has 24 rows, 4 are needed"):
        from_mmdetection(of_classes, None, where="a.pth")
