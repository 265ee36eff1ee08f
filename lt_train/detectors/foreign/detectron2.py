"""detectron2's Faster and Mask R-CNN with a ResNet or ResNeXt and a pyramid.

The background is the last row of the classifier; box regressor and mask logits have none. Neither the order of the
input's channels nor the place of the strides is in the weights: they are read from the ``config.yaml`` that detectron2
writes beside them. Its published weights, and what starts from its default trunk, have their strides in the 1x1
convolutions and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from lt_data.errors import DataError, shown
from lt_train.detectors.foreign.names import (
    BLOCKS,
    BOX_LAYERS,
    CLASSIFIER,
    LATERAL,
    MASK_CONV,
    MASK_LOGITS,
    MASK_UPSAMPLING,
    MORE_BLOCKS,
    OUTPUT,
    REGRESSOR,
    RPN_BOXES,
    RPN_CONV,
    RPN_LOGITS,
    TRUNK,
    any_begins,
    renamed,
    trunk_layers,
    weights_of,
)
from lt_train.detectors.foreign.outcome import POOLING, Converted
from lt_train.detectors.foreign.pixels import Pixels, pixels, with_own_pixels
from lt_train.detectors.foreign.rows import background_first, check_rows
from lt_train.detectors.foreign.settings import ABSENT, Setting, other_settings, setting

TOOL = "detectron2"
CONFIG = "config.yaml"
MOST_BYTES = 200_000
STRIDE = Setting("MODEL.RESNETS.STRIDE_IN_1X1", False, "its strides in the 3x3 convolutions")
# the first pools regions half a cell aside
POOLER = Setting("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2", "regions pooled by RoIAlign", ("ROIAlign",))
BATCH_NORMS = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
NEEDED = (
    STRIDE,
    Setting("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "two stages"),
    Setting("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "a ResNet with a pyramid"),
    Setting("MODEL.RESNETS.NORM", "FrozenBN", "batch norms of eps 1e-5", BATCH_NORMS),
    Setting("MODEL.RESNETS.RES5_DILATION", 1, "torchvision's ResNet"),
    Setting("MODEL.FPN.FUSE_TYPE", "sum", "a pyramid of sums"),
    Setting("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]], "torchvision's anchors"),
    Setting("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[0.5, 1.0, 2.0]], "torchvision's anchors"),
    Setting("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0, "torchvision's anchors"),
    Setting("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "torchvision's region proposal network"),
    Setting("MODEL.RPN.HEAD_NAME", "StandardRPNHead", "torchvision's region proposal network"),
    Setting("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "proposals from five levels"),
    Setting("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0, 1.0, 1.0], "torchvision's box coder"),
    Setting("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "one stage of regions"),
    Setting("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"], "regions pooled from four levels"),
    Setting("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "torchvision's box head"),
    POOLER,
    Setting("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", [10.0, 10.0, 5.0, 5.0], "torchvision's box coder"),
    Setting("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, "a softmax over classes and background"),
    Setting("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "torchvision's mask head"),
    Setting("MODEL.ROI_MASK_HEAD.POOLER_TYPE", POOLER.value, POOLER.meaning, POOLER.others),
    Setting("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14, "masks of 14 x 14 cells"),
)
# kept by some versions: anchors, and what the configuration says of pixels
BUFFERS = ("proposal_generator.anchor_generator.", "pixel_mean", "pixel_std")


def is_detectron2s(names: Mapping[str, Tensor]) -> bool:
    """Whether weights have detectron2's names of a detector."""
    return any_begins(names, "proposal_generator.", "backbone.bottom_up.", "backbone.fpn_lateral")


def from_detectron2(state: Mapping[str, Tensor], path: Path) -> Converted:
    """Gives weights of detectron2 our names, rows and pixels.

    Args:
        state: The ``model`` of its checkpoint.
        path: The file; its configuration lies beside it.

    Raises:
        DataError: They are of another detector, or of one that this model cannot be, or their configuration is missing.
    """
    where = str(path)
    weights = {key: value for key, value in state.items() if not key.startswith(BUFFERS)}
    masks = any_begins(weights, "roi_heads.mask_head.")
    blocks = MORE_BLOCKS if f"backbone.bottom_up.res4.{MORE_BLOCKS[2] - 1}.conv1.weight" in weights else BLOCKS
    own = renamed(weights, names(masks=masks, blocks=blocks), tool=TOOL, where=where)
    check_rows(own, background=False, where=where)
    config = _config(path, masks=masks)
    notes = (POOLING.format(tool=TOOL),) * (setting(config, POOLER.path) != "ROIAlign")
    return Converted(with_own_pixels(background_first(own), _pixels(config, where)), notes=notes)


def names(*, masks: bool, blocks: Sequence[int] = BLOCKS) -> dict[str, str]:
    """The name that detectron2 gives each weight -> torchvision's.

    Args:
        masks: Of Mask R-CNN.
        blocks: Of the trunk's stages.
    """
    pairs = trunk_layers(blocks)
    convolutions = {_trunk_name(conv): f"{TRUNK}{conv}" for conv, _ in pairs}
    norms = {f"{_trunk_name(conv)}.norm": f"{TRUNK}{norm}" for conv, norm in pairs}
    layers = {f"backbone.fpn_lateral{i + 2}": LATERAL.format(i) for i in range(4)}
    layers |= {f"backbone.fpn_output{i + 2}": OUTPUT.format(i) for i in range(4)}
    rpn = "proposal_generator.rpn_head."
    layers |= {f"{rpn}conv": RPN_CONV, f"{rpn}objectness_logits": RPN_LOGITS, f"{rpn}anchor_deltas": RPN_BOXES}
    layers |= {f"roi_heads.box_head.fc{i}": ours for i, ours in enumerate(BOX_LAYERS, 1)}
    layers |= {layer: layer for layer in (CLASSIFIER, REGRESSOR)}
    if masks:
        mask = "roi_heads.mask_head."
        layers |= {f"{mask}mask_fcn{i + 1}": MASK_CONV.format(i) for i in range(4)}
        layers |= {f"{mask}deconv": MASK_UPSAMPLING, f"{mask}predictor": MASK_LOGITS}
    return weights_of(convolutions, norms, layers)


def _trunk_name(convolution: str) -> str:
    """``layer1.0.conv1`` is ``res2.0.conv1`` there, and the projection beside a block its ``shortcut``."""
    if "." not in convolution:
        return f"backbone.bottom_up.stem.{convolution}"
    stage, block, layer = convolution.split(".")[:3]
    layer = "shortcut" if layer == "downsample" else layer
    return f"backbone.bottom_up.res{int(stage.removeprefix('layer')) + 1}.{block}.{layer}"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with the tuples of older configurations as lists."""


def _sequence(loader: Any, node: Any) -> list[Any]:
    parts: list[Any] = loader.construct_sequence(node)
    return parts


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def _config(path: Path, *, masks: bool) -> Mapping[str, Any]:
    """The configuration beside a checkpoint, of a model that ours can be.

    Raises:
        DataError: It is missing, is none of detectron2's, or has settings that this model has not.
    """
    file = path.with_name(CONFIG)
    try:
        with file.open("rb") as handle:
            text = handle.read(MOST_BYTES + 1)
        config = yaml.load(text, _Loader) if len(text) <= MOST_BYTES else None
    except OSError as error:
        raise DataError(
            f"weights {path}: detectron2's {CONFIG} cannot be read beside it ({error.strerror or error}), and weights "
            "do not show the order of the channels and the place of the strides; copy it from where they are from"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        config = None
    if setting(config, STRIDE.path) is ABSENT:
        raise DataError(f"weights {path}: {file} has no {STRIDE.path}; needed is the whole file that detectron2 wrote")
    needed = [row for row in NEEDED if masks or "MASK_HEAD" not in row.path]
    problems = other_settings(config, needed, where=str(path))
    if problems:
        raise DataError(problems)
    assert isinstance(config, Mapping), "internal error: a setting was found in it"
    return config


def _pixels(config: Mapping[str, Any], where: str) -> Pixels:
    order = setting(config, "INPUT.FORMAT")
    if order not in ("BGR", "RGB"):
        found = "missing" if order is ABSENT else shown(order)
        raise DataError(f"weights {where}: INPUT.FORMAT in its {CONFIG} is {found}; allowed are BGR and RGB")
    mean, std = (setting(config, f"MODEL.PIXEL_{part}") for part in ("MEAN", "STD"))
    return pixels(mean, std, bgr=order == "BGR", where=where)
