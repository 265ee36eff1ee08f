"""What configurations of mmdetection say of weights and no shape shows: each such setting is refused by name."""

import pytest

from lt_data.errors import DataError
from lt_train.detectors.foreign.mmdetection_config import trained_as

# every setting that is looked at, as version 3 writes it for a model that is ours
LATER = """model = dict(
    type='MaskRCNN',
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), strides=(1, 2, 2, 2), style='pytorch',
        conv_cfg=None, norm_cfg=dict(type='BN', eps=1e-05, requires_grad=True)),
    neck=dict(type='FPN', num_outs=5, start_level=0, conv_cfg=None, act_cfg=None, upsample_cfg=dict(mode='nearest')),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64], scale_major=True,
            octave_base_scale=None, center_offset=0.0),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', featmap_strides=[4, 8, 16, 32], finest_scale=56,
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0, pool_mode='avg')),
        bbox_head=dict(
            type='Shared2FCBBoxHead', cls_predictor_cfg=dict(type='Linear'), reg_predictor_cfg=dict(type='Linear'),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=(0, 0, 0, 0), target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False)),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor', featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0)),
        mask_head=dict(type='FCNMaskHead', conv_cfg=None, predictor_cfg=dict(type='Conv'))))
"""
# the same for version 1, whose stages stand beside each other
FIRST = """model = dict(
    type='FasterRCNN',
    backbone=dict(type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), style='pytorch'),
    neck=dict(type='FPN', num_outs=5, activation=None),
    rpn_head=dict(
        type='RPNHead', anchor_scales=[8], anchor_ratios=[0.5, 1.0, 2.0], anchor_strides=[4, 8, 16, 32, 64],
        target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0]),
    bbox_roi_extractor=dict(
        type='SingleRoIExtractor', featmap_strides=[4, 8, 16, 32],
        roi_layer=dict(type='RoIAlign', out_size=7, sample_num=2)),
    bbox_head=dict(
        type='SharedFCBBoxHead', num_fcs=2, target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2],
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False)))
"""


def refusals(text, old, new):
    """What is said of a configuration with other words once."""
    assert old in text
    with pytest.raises(DataError) as error:
        trained_as({"cfg": text.replace(old, new, 1)}, where="a.pth")
    assert all(line.startswith("weights a.pth: ") and len(line) < 400 for line in error.value.problems)
    return error.value.problems


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "type='MaskRCNN'",
            "type='MaskScoringRCNN'",
            "model.type='MaskScoringRCNN'; allowed are 'MaskRCNN', 'F",
        ),
        ("type='ResNet'", "type='OwnResNet'", "backbone.type='OwnResNet'; allowed are 'ResNet', 'ResNeXt'"),
        ("out_indices=(0, 1, 2, 3)", "out_indices=(3, 2, 1, 0)", "out_indices=[3, 2, 1, 0]"),
        ("conv_cfg=None", "conv_cfg=dict(type='ConvWS')", "model.backbone.conv_cfg.type='ConvWS'"),
        ("type='BN'", "type='GN'", "norm_cfg.type='GN'; allowed are 'BN', 'BN2d'"),
        ("eps=1e-05", "eps=0.001", "norm_cfg.eps=0.001; allowed is 1e-05"),
        ("type='FPN'", "type='PAFPN'", "neck.type='PAFPN'"),
        ("num_outs=5", "num_outs=4", "neck.num_outs=4"),
        ("act_cfg=None", "act_cfg=dict(type='ReLU')", "neck.act_cfg={'type': 'ReLU'}; allowed is None"),
        ("mode='nearest'", "mode='bilinear'", "neck.upsample_cfg.mode='bilinear'"),
        ("type='RPNHead'", "type='OwnHead'", "rpn_head.type='OwnHead'"),
        ("octave_base_scale=None", "octave_base_scale=4", "anchor_generator.octave_base_scale=4; allowed is None"),
        ("scale_major=True", "base_sizes=[8, 16, 32, 64, 128]", "allowed are None, [4, 8, 16, 32, 64], since"),
        ("scale_major=True", "of_next_year=2", "anchor_generator.of_next_year=2; allowed is None"),
        ("type='DeltaXYWHBBoxCoder'", "type='TBLRBBoxCoder'", "rpn_head.bbox_coder.type='TBLRBBoxCoder'"),
        ("target_means=[0.0,", "target_means=[0.5,", "rpn_head.bbox_coder.target_means=[0.5, 0.0"),
        ("target_means=(0, 0, 0, 0)", "target_means=(0, 0, 0, 1)", "roi_head.bbox_head.bbox_coder.target_means=[0, 0"),
        ("type='StandardRoIHead'", "type='OwnRoIHead'", "roi_head.type='OwnRoIHead'"),
        ("type='SingleRoIExtractor'", "type='GenericRoIExtractor'", "bbox_roi_extractor.type='GenericRoIExtractor'"),
        ("featmap_strides=[4, 8, 16, 32]", "featmap_strides=[4]", "bbox_roi_extractor.featmap_strides=[4]"),
        ("finest_scale=56", "finest_scale=112", "bbox_roi_extractor.finest_scale=112; allowed is 56"),
        ("type='RoIAlign', output_size=7", "type='RoIPool', output_size=7", "roi_layer.type='RoIPool'"),
        ("pool_mode='avg'", "pool_mode='max'", "roi_layer.pool_mode='max'"),
        ("type='Shared2FCBBoxHead'", "type='OwnBBoxHead'", "roi_head.bbox_head.type='OwnBBoxHead'"),
        ("dict(type='Linear')", "dict(type='NormedLinear', tempearture=20)", "cls_predictor_cfg.type='NormedLinear'"),
        ("type='CrossEntropyLoss'", "type='FocalLoss'", "loss_cls.type='FocalLoss'"),
        ("type='RoIAlign', output_size=14", "type='RoIPool', output_size=14", "mask_roi_extractor.roi_layer.type='RoI"),
        ("type='FCNMaskHead'", "type='OwnMaskHead'", "mask_head.type='OwnMaskHead'"),
        ("dict(type='Conv')", "dict(type='NormedConv2d')", "mask_head.predictor_cfg.type='NormedConv2d'"),
    ],
)
def test_each_setting_is_refused_by_name(old, new, says):
    (line,) = refusals(LATER, old, new)
    assert says in line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("activation=None", "activation='relu'", "model.neck.activation='relu'"),
        ("target_means=[0.0,", "target_means=[0.5,", "model.rpn_head.target_means=[0.5"),
        ("type='RoIAlign'", "type='RoIPool'", "model.bbox_roi_extractor.roi_layer.type='RoIPool'"),
        ("type='SharedFCBBoxHead'", "type='GSBBoxHeadWith0'", "model.bbox_head.type='GSBBoxHeadWith0'"),
        ("anchor_strides", "anchor_base_sizes=[8, 16, 32, 64, 128], anchor_strides", "rpn_head.anchor_base_sizes=[8"),
    ],
)
def test_version_1_has_them_elsewhere(old, new, says):
    (line,) = refusals(FIRST, old, new)
    assert says in line


def test_anchors_by_octaves_are_named_by_both_settings():
    lines = refusals(
        LATER.replace("octave_base_scale=None", "octave_base_scale=4"), "scale_major=True", "scales_per_octave=1"
    )
    assert ["octave" in line for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (LATER, "", ""),
        (FIRST, "", ""),
        # as configurations name classes of another package, and those that are Python themselves
        (LATER, "type='ResNet'", "type='mmdet.ResNet'"),
        (LATER, "type='FPN'", "type='mmdet.models.necks.fpn.FPN'"),
        (LATER, "type='AnchorGenerator'", "type='mmdet.AnchorGenerator'"),
        (LATER, "type='BN'", "type='SyncBN'"),
        (LATER, "conv_cfg=None", "conv_cfg=dict(type='Conv2d')"),
        (LATER, "scale_major=True", "base_sizes=[4, 8, 16, 32, 64]"),
        (LATER, "type='DeltaXYWHBBoxCoder'", "type='LegacyDeltaXYWHBBoxCoder'"),
        (LATER, "type='Shared2FCBBoxHead'", "type='ConvFCBBoxHead', num_shared_fcs=2"),
    ],
)
def test_what_means_the_same_is_taken(text, old, new):
    assert old in text
    assert not trained_as({"cfg": text.replace(old, new, 1)}, where="a.pth").legacy_anchors


def test_legacy_anchors_without_an_offset_lie_where_ours_do():
    legacy = LATER.replace("'AnchorGenerator'", "'mmdet.LegacyAnchorGenerator'")
    assert trained_as({"cfg": legacy.replace("center_offset=0.0", "center_offset=0.5")}, where="a.pth").legacy_anchors
    assert not trained_as({"cfg": legacy.replace(", center_offset=0.0", "")}, where="a.pth").legacy_anchors
