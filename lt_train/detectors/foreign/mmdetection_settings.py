"""Settings of mmdetection that change what weights mean and show in no name and no shape.

Names of settings, and what is meant where one is absent, are those of its wheels (2.3, 2.28, 3.3) and of version 1.0.
Another class may compute anything with the same weights, so each class that weights pass through is compared by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lt_train.detectors.foreign.names import EXAMPLES
from lt_train.detectors.foreign.settings import Setting, class_name, other_settings, setting

GENERATOR = "model.rpn_head.anchor_generator"
LEGACY = "LegacyAnchorGenerator"
_RATIOS, _STRIDES = [0.5, 1.0, 2.0], [4, 8, 16, 32, 64]
_RPN_STDS, _BOX_STDS = [1.0] * 4, [0.1, 0.1, 0.2, 0.2]
_NO_MEANS = [0.0] * 4
_RESNET, _PYRAMID = "torchvision's ResNet", "torchvision's pyramid"
_DEFORMABLE = "deformable convolutions of version 1, with one set of offsets"
_ANCHORS, _CODER = "torchvision's anchors", "torchvision's box coder"
_POOLING = "regions pooled by RoIAlign from one level each"
_MASK_HEAD = "torchvision's mask head"
_LINEAR = "plain linear layers"
_SOFTMAX = "a softmax over classes and background"
# the legacy one counts the last pixel, as all of version 1 does
_LEGACY_CODER = "LegacyDeltaXYWHBBoxCoder"

_TRUNK = (
    Setting("model.type", "MaskRCNN", "two stages", ("FasterRCNN",)),
    Setting("model.backbone.type", "ResNet", _RESNET, ("ResNeXt",)),
    Setting("model.backbone.style", "pytorch", "its strides in the 3x3 convolutions"),
    Setting("model.backbone.strides", [1, 2, 2, 2], _RESNET),
    Setting("model.backbone.dilations", [1, 1, 1, 1], _RESNET),
    Setting("model.backbone.out_indices", [0, 1, 2, 3], _PYRAMID),
    Setting("model.backbone.dcn.type", "DCN", _DEFORMABLE),
    # two names of one, and a third setting of version 1
    Setting("model.backbone.dcn.deform_groups", 1, _DEFORMABLE),
    Setting("model.backbone.dcn.deformable_groups", 1, _DEFORMABLE),
    Setting("model.backbone.dcn.modulated", False, _DEFORMABLE),
    Setting("model.backbone.conv_cfg.type", "Conv2d", _RESNET, ("Conv",)),
    Setting("model.backbone.norm_cfg.type", "BN", _RESNET, ("BN2d", "SyncBN", "MMSyncBN")),
    Setting("model.backbone.norm_cfg.eps", 1e-5, "batch norms with that eps"),
    Setting("model.neck.type", "FPN", _PYRAMID),
    Setting("model.neck.num_outs", 5, _PYRAMID),
    Setting("model.neck.start_level", 0, _PYRAMID),
    Setting("model.neck.upsample_cfg.mode", "nearest", _PYRAMID),
    Setting("model.neck.conv_cfg.type", "Conv2d", _PYRAMID, ("Conv",)),
    # the second is of version 1
    Setting("model.neck.act_cfg", None, _PYRAMID),
    Setting("model.neck.activation", None, _PYRAMID),
)
_PROPOSALS = (
    Setting("model.rpn_head.type", "RPNHead", "torchvision's region proposal network"),
    # of version 1
    Setting("model.rpn_head.anchor_scales", [8], _ANCHORS),
    Setting("model.rpn_head.anchor_ratios", _RATIOS, _ANCHORS),
    Setting("model.rpn_head.anchor_strides", _STRIDES, _ANCHORS),
    Setting("model.rpn_head.anchor_base_sizes", None, _ANCHORS, (_STRIDES,)),
    Setting("model.rpn_head.target_means", _NO_MEANS, _CODER),
    Setting("model.rpn_head.target_stds", _RPN_STDS, _CODER),
    # of later versions
    Setting("model.rpn_head.bbox_coder.type", "DeltaXYWHBBoxCoder", _CODER, (_LEGACY_CODER,)),
    Setting("model.rpn_head.bbox_coder.target_means", _NO_MEANS, _CODER),
    Setting("model.rpn_head.bbox_coder.target_stds", _RPN_STDS, _CODER),
    Setting("model.rpn_head.bbox_coder.add_ctr_clamp", False, _CODER),
)
# of boxes and of masks alike
_EXTRACTOR = (
    Setting("type", "SingleRoIExtractor", _POOLING),
    Setting("featmap_strides", _STRIDES[:4], _POOLING),
    Setting("finest_scale", 56, _POOLING),
    Setting("roi_layer.type", "RoIAlign", _POOLING),
    Setting("roi_layer.pool_mode", "avg", _POOLING),
)
# below "model" in version 1, below its "roi_head" later
_REGIONS = (
    *(replace(row, path=f"bbox_roi_extractor.{row.path}") for row in _EXTRACTOR),
    Setting("bbox_head.type", "Shared2FCBBoxHead", _LINEAR, ("SharedFCBBoxHead", "ConvFCBBoxHead")),
    Setting("bbox_head.cls_predictor_cfg.type", "Linear", _LINEAR),
    Setting("bbox_head.reg_predictor_cfg.type", "Linear", _LINEAR),
    Setting("bbox_head.target_means", _NO_MEANS, _CODER),
    Setting("bbox_head.target_stds", _BOX_STDS, _CODER),
    Setting("bbox_head.bbox_coder.type", "DeltaXYWHBBoxCoder", _CODER, (_LEGACY_CODER,)),
    Setting("bbox_head.bbox_coder.target_means", _NO_MEANS, _CODER),
    Setting("bbox_head.bbox_coder.target_stds", _BOX_STDS, _CODER),
    Setting("bbox_head.bbox_coder.add_ctr_clamp", False, _CODER),
    Setting("bbox_head.loss_cls.type", "CrossEntropyLoss", _SOFTMAX),
    Setting("bbox_head.loss_cls.use_sigmoid", False, _SOFTMAX),
)
_MASKS = (
    *(replace(row, path=f"mask_roi_extractor.{row.path}") for row in _EXTRACTOR),
    Setting("mask_roi_extractor.roi_layer.out_size", 14, "masks of 14 x 14 cells"),
    Setting("mask_roi_extractor.roi_layer.output_size", 14, "masks of 14 x 14 cells"),
    Setting("mask_head.type", "FCNMaskHead", _MASK_HEAD),
    Setting("mask_head.conv_cfg.type", "Conv2d", _MASK_HEAD, ("Conv",)),
    Setting("mask_head.predictor_cfg.type", "Conv", _MASK_HEAD, ("Conv2d",)),
)
_PLACES = ("model.", "model.roi_head.")
NEEDED = (
    *_TRUNK,
    *_PROPOSALS,
    Setting("model.roi_head.type", "StandardRoIHead", "one stage of regions"),
    *(replace(row, path=f"{place}{row.path}") for place in _PLACES for row in _REGIONS + _MASKS),
)
# of an anchor generator: looked at by name, or of no effect on anchors of one scale
_FREE = ("type", "scales", "ratios", "strides", "base_sizes", "center_offset", "scale_major", "use_box_type")


def _of_stage(row: Setting, stage: int) -> Setting:
    """A setting of a head, of one of the stages of a cascade."""
    head, _, rest = row.path.partition(".")
    value = _STAGES_STDS[stage] if rest.endswith("target_stds") else row.value
    return replace(row, path=f"{head}.{stage}.{rest}", value=value)


# of a cascade: the deviations of the box code of each stage
_STAGES_STDS = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
_AGNOSTIC = Setting("bbox_head.reg_class_agnostic", True, "one box for all classes")
_FLOW, _SEMANTIC = "mask heads that take what those before have found", "a semantic branch at stride 8"
_CASCADE_MASKS = tuple(replace(row, others=("HTCMaskHead",)) if row.path == "mask_head.type" else row for row in _MASKS)
_ALL = (*_REGIONS, _AGNOSTIC, *_CASCADE_MASKS)
_HEADS = tuple(row for row in _ALL if row.path.startswith(("bbox_head", "mask_head")))
_CASCADE = (
    *(row for row in _REGIONS if not row.path.startswith("bbox_head")),
    # a list of mask heads, or one for all stages
    *_CASCADE_MASKS,
    *(_of_stage(row, stage) for stage in range(len(_STAGES_STDS)) for row in _HEADS),
    Setting("mask_info_flow", True, _FLOW),
    Setting("semantic_fusion", ["bbox", "mask"], _SEMANTIC),
    Setting("semantic_head.type", "FusedSemanticHead", _SEMANTIC),
    Setting("semantic_head.fusion_level", 1, _SEMANTIC),
    Setting("semantic_roi_extractor.featmap_strides", [8], _SEMANTIC),
    Setting("semantic_roi_extractor.roi_layer.output_size", 14, _SEMANTIC),
    Setting("semantic_roi_extractor.roi_layer.out_size", 14, _SEMANTIC),
)
CASCADE_NEEDED = (
    Setting("model.type", "CascadeRCNN", "three stages", ("HybridTaskCascade",)),
    *_TRUNK[1:],
    *_PROPOSALS,
    Setting("model.roi_head.type", "CascadeRoIHead", "three stages of regions", ("HybridTaskCascadeRoIHead",)),
    *(replace(row, path=f"{place}{row.path}") for place in _PLACES for row in _CASCADE),
)


def unlike_ours(config: Mapping[str, Any], *, where: str, cascade: bool = False) -> list[str]:
    """One line for each setting of a configuration with which weights mean something else than here.

    Args:
        config: A configuration.
        where: The file, for messages.
        cascade: Whether the weights are of a detector of three stages.
    """
    needed = CASCADE_NEEDED if cascade else NEEDED
    return other_settings(config, needed + _anchors(setting(config, GENERATOR)), where=where)


def has_legacy_anchors(config: Mapping[str, Any]) -> bool:
    """Whether a later version was told to make anchors as version 1 does, half a stride aside."""
    generator = setting(config, GENERATOR)
    return _is_legacy(generator) and "center_offset" in generator


def _is_legacy(generator: Any) -> bool:
    return class_name(setting(generator, "type")) == LEGACY


def _anchors(generator: object) -> tuple[Setting, ...]:
    """What is needed of an anchor generator; whatever it has beside the settings that are known is needed unset."""
    if not isinstance(generator, Mapping):
        return ()
    # where the centre of an anchor lies in its cell
    kind, offset = (LEGACY, 0.5) if _is_legacy(generator) else ("AnchorGenerator", 0.0)
    known = (
        Setting(f"{GENERATOR}.type", kind, _ANCHORS),
        Setting(f"{GENERATOR}.center_offset", offset, _ANCHORS),
        Setting(f"{GENERATOR}.scales", [8], _ANCHORS),
        Setting(f"{GENERATOR}.ratios", _RATIOS, _ANCHORS),
        Setting(f"{GENERATOR}.strides", _STRIDES, _ANCHORS),
        Setting(f"{GENERATOR}.base_sizes", None, _ANCHORS, (_STRIDES,)),
    )
    beside = [key for key in generator if key not in _FREE][:EXAMPLES]
    return known + tuple(Setting(f"{GENERATOR}.{key}", None, _ANCHORS) for key in beside)
