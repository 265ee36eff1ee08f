"""mmdetection's detectors of one and of three stages with a ResNet or ResNeXt and a pyramid, versions 1, 2 and 3.

Their names and shapes are those of its wheels (2.3, 2.28, 3.3) and of its tool for weights of version 1. In version 1
the background is row 0 and anchors lie half a stride aside; from version 2 on it is the last row of the classifier, box
regressor and mask logits have none, and regions are pooled half a cell aside, which no weights can undo. Deformable
convolutions have their offsets in the order of torchvision's, down before right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lt_data.errors import DataError
from lt_train.detectors.foreign.mmdetection_cascade import (
    CASCADES,
    LAST_PIXEL,
    cascade_names,
    in_stage,
    is_cascade,
    is_first,
    parts_of,
    rows_of_stages,
    without_unused,
)
from lt_train.detectors.foreign.mmdetection_config import Trained, trained_as
from lt_train.detectors.foreign.names import (
    BLOCKS,
    BOX_LAYERS,
    CLASSIFIER,
    DETECTORS,
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
    block_names,
    renamed,
    trunk_layers,
    weights_of,
)
from lt_train.detectors.foreign.outcome import POOLING, Converted
from lt_train.detectors.foreign.pixels import check_not_caffes, with_own_pixels
from lt_train.detectors.foreign.rows import background_first, check_rows
from lt_train.detectors.trunks.deformable import OFFSET

TOOL = "mmdetection"
# of an anchor: height / width, and sides by strides
RATIOS = (0.5, 1.0, 2.0)
SCALE = 8
ASSUMED = (
    "weights of mmdetection without a whole configuration: taken as of style pytorch on R, G, B with ImageNet's mean "
    "and deviation, anchors of scale 8"
)


def is_mmdetections(names: Mapping[str, Tensor]) -> bool:
    """Whether weights have mmdetection's names of a detector."""
    return any_begins(names, "neck.", "rpn_head.", "roi_head.", "bbox_head.")


def from_mmdetection(state: Mapping[str, Tensor], meta: object, *, where: str) -> Converted:
    """Gives weights of mmdetection our names, rows, anchors and pixels.

    Args:
        state: Its ``state_dict``.
        meta: The ``meta`` beside it, or ``None``: its configuration and its classes.
        where: The file, for messages.

    Raises:
        DataError: They are of another detector, or of one that this model cannot be.
    """
    if is_cascade(state):
        return _from_cascade(state, meta, where=where)
    first = "bbox_head.fc_cls.weight" in state
    if not first and "roi_head.bbox_head.fc_cls.weight" not in state:
        raise DataError(
            f"weights {where}: they are mmdetection's, of another detector: neither bbox_head.fc_cls.weight nor "
            f"roi_head.bbox_head.fc_cls.weight is there; allowed are {DETECTORS}, or {CASCADES}"
        )
    there = trained_as(meta, where=where)
    masks = any("mask_head." in name for name in state)
    table = names(masks=masks, first=first, blocks=_blocks(state)) | offset_names(state)
    own = renamed(state, table, tool=TOOL, where=where)
    check_rows(own, background=first, where=where)
    if not first:
        own = background_first(own)
    own = _as_seen_here(own, there, first=first, where=where)
    return Converted(own, _classes(meta, len(own[f"{CLASSIFIER}.weight"]) - 1), _notes(there, first=first))


def _from_cascade(state: Mapping[str, Tensor], meta: object, *, where: str) -> Converted:
    """The same for Cascade R-CNN, Cascade Mask R-CNN and Hybrid Task Cascade."""
    first = is_first(state)
    there = trained_as(meta, where=where, cascade=True)
    masks = any("mask_head." in name for name in state)
    table = cascade_names(names(masks=masks, first=first, blocks=_blocks(state)), parts_of(state), first=first)
    own = renamed(without_unused(state), table | offset_names(state), tool=TOOL, where=where, what=CASCADES)
    own = rows_of_stages(own, background=first, where=where)
    own = _as_seen_here(own, there, first=first, where=where)
    classes = len(own[f"{in_stage(CLASSIFIER, 0)}.weight"]) - 1
    return Converted(own, _classes(meta, classes), _notes(there, first=first) + (LAST_PIXEL,) * first)


def _as_seen_here(own: dict[str, Tensor], there: Trained, *, first: bool, where: str) -> dict[str, Tensor]:
    """Weights under our names, with our anchors and our pixels.

    Raises:
        DataError: The trunk is one that ours cannot be.
    """
    if first or there.legacy_anchors:
        own = with_centred_anchors(own)
    if there.pixels is None:
        check_not_caffes(own, where=where)
        return own
    return with_own_pixels(own, there.pixels)


def _blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The numbers of blocks in the stages of the trunk."""
    return MORE_BLOCKS if f"backbone.layer3.{MORE_BLOCKS[2] - 1}.conv1.weight" in state else BLOCKS


def offset_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of the layers that move the taps of deformable convolutions -> ours; nothing where there are none."""
    layers = {}
    for block in block_names(_blocks(state)):
        # of later versions, and of version 1
        for theirs in (f"backbone.{block}.conv2.conv_offset", f"backbone.{block}.conv2_offset"):
            if f"{theirs}.weight" in state and not block.startswith("layer1."):
                layers[theirs] = f"{TRUNK}{block}{OFFSET}"
    return weights_of({}, {}, layers)


def names(*, masks: bool, first: bool, blocks: Sequence[int] = BLOCKS) -> dict[str, str]:
    """The name that mmdetection gives each weight -> torchvision's.

    Args:
        masks: Of Mask R-CNN.
        first: Of version 1.
        blocks: Of the trunk's stages.
    """
    pairs = trunk_layers(blocks)
    roi = "" if first else "roi_head."
    layers = {f"neck.lateral_convs.{i}.conv": LATERAL.format(i) for i in range(4)}
    layers |= {f"neck.fpn_convs.{i}.conv": OUTPUT.format(i) for i in range(4)}
    layers |= {"rpn_head.rpn_conv": RPN_CONV, "rpn_head.rpn_cls": RPN_LOGITS, "rpn_head.rpn_reg": RPN_BOXES}
    layers |= {f"{roi}bbox_head.shared_fcs.{i}": ours for i, ours in enumerate(BOX_LAYERS)}
    layers |= {f"{roi}bbox_head.fc_cls": CLASSIFIER, f"{roi}bbox_head.fc_reg": REGRESSOR}
    if masks:
        layers |= {f"{roi}mask_head.convs.{i}.conv": MASK_CONV.format(i) for i in range(4)}
        layers |= {f"{roi}mask_head.upsample": MASK_UPSAMPLING, f"{roi}mask_head.conv_logits": MASK_LOGITS}
    return weights_of(
        {f"backbone.{conv}": f"{TRUNK}{conv}" for conv, _ in pairs},
        {f"backbone.{norm}": f"{TRUNK}{norm}" for _, norm in pairs},
        layers,
    )


def with_centred_anchors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lets a region proposal network that was trained on version 1's anchors predict the same boxes from ours.

    Boxes there include their last pixel, so the anchor of a cell of stride s has its centre at s / 2, where ours has it
    at 0. An anchor is 8 s / sqrt(ratio) wide and 8 s sqrt(ratio) high: the shift is a part of it that is the same on
    all levels, and what is added to the layer's bias.

    Args:
        state: Weights under our names; the bias of the layer is [3 * 4], (dx, dy, dw, dh) of each ratio.
    """
    key = f"{RPN_BOXES}.bias"
    shift = torch.zeros(len(RATIOS), 4)
    for row, ratio in zip(shift, RATIOS, strict=True):
        row[0], row[1] = ratio**0.5 / (2 * SCALE), 1 / (2 * SCALE * ratio**0.5)
    # refused with the other shapes
    fits = state[key].shape == (shift.numel(),)
    return {**state, key: state[key] + shift.flatten()} if fits else dict(state)


def _notes(there: Trained, *, first: bool) -> tuple[str, ...]:
    aligned = not first and there.aligned
    return (ASSUMED,) * (there.pixels is None) + (POOLING.format(tool=TOOL),) * aligned


def _classes(meta: object, classes: int) -> tuple[str, ...] | None:
    """Names of labels 1..C, where as many are given as there are classes, C."""
    outer = meta if isinstance(meta, Mapping) else {}
    inner = outer.get("dataset_meta")
    places = [outer, inner if isinstance(inner, Mapping) else {}]
    found = [place.get(key) for place in places for key in ("CLASSES", "classes")]
    texts = [f for f in found if isinstance(f, list | tuple) and all(isinstance(name, str) for name in f)]
    return next((tuple(names) for names in texts if len(names) == classes), None)
