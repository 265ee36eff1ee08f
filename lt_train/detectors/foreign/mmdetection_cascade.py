"""mmdetection's Cascade R-CNN, Cascade Mask R-CNN and Hybrid Task Cascade: names and rows of their three stages.

A stage has the layers of a Faster or Mask R-CNN with its number in their names, and one box for all classes. Names are
those of its wheels (2.28, 3.3) and of its tool for weights of version 1, whose heads have no ``roi_head.`` before them.
Shapes: C foreground classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from lt_train.detectors.foreign.names import LAYER, SEMANTIC, any_begins
from lt_train.detectors.foreign.rows import background_first, check_rows

STAGES: Final = 3
CASCADES: Final = "Cascade R-CNN, Cascade Mask R-CNN or Hybrid Task Cascade on the same trunks"
LAST_PIXEL: Final = (
    "weights of mmdetection 1: its boxes include their last pixel (+1), and each stage refines those before it; "
    "here they are up to a pixel aside, train on before you measure"
)
# ours: what stands before the layers of a stage, and of one stage alone
STAGE, ALONE = "roi_heads.stages.{}.", "roi_heads."
MASK_HEAD: Final = "mask_head."
# of a mask head that takes what the one before has found: its convolutions, and the layer between
FLOW_CONVS, FLOW = "mask_head.convs.", "mask_head.flow.0"
# levels of the pyramid that the semantic branch takes, and its convolutions
LEVELS, CONVOLUTIONS = 5, 4
# heads of theirs whose names get the number of a stage
_HEADS = ("bbox_head.", "mask_head.")


@dataclass(frozen=True)
class Parts:
    """What a cascade has besides its boxes and, if it has any, its masks.

    Attributes:
        flow: Whether a mask head takes what the one before has found.
        semantic: Whether there is a semantic branch.
    """

    flow: bool = False
    semantic: bool = False


def is_cascade(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of a detector of several stages."""
    return any_begins(state, "bbox_head.0.", "roi_head.bbox_head.0.")


def is_first(state: Mapping[str, Tensor]) -> bool:
    """Whether they are of version 1."""
    return not any_begins(state, "roi_head.")


def parts_of(state: Mapping[str, Tensor]) -> Parts:
    """What a cascade has, by the names of its weights."""
    flow, semantic = (any(part in name for name in state) for part in ("mask_head.1.conv_res.", "semantic_head."))
    return Parts(flow, semantic)


def without_unused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the layer before the first stage's mask head, which version 1 makes and never uses."""
    return {name: value for name, value in state.items() if "mask_head.0.conv_res." not in name}


def in_stage(name: str, stage: int) -> str:
    """A name of ours of one stage alone -> that of one of several."""
    return STAGE.format(stage) + name.removeprefix(ALONE)


def cascade_names(single: Mapping[str, str], parts: Parts, *, first: bool) -> dict[str, str]:
    """The name that mmdetection gives each weight of a cascade -> ours.

    Args:
        single: The same of its detector of one stage.
        parts: What the cascade has besides.
        first: Of version 1.
    """
    table = {theirs: ours for theirs, ours in single.items() if not ours.startswith(ALONE)}
    of_stage = {theirs: ours for theirs, ours in single.items() if ours.startswith(ALONE)}
    for stage in range(STAGES):
        for theirs, ours in of_stage.items():
            table[_numbered(theirs, stage)] = in_stage(_with_flow(ours) if parts.flow else ours, stage)
    roi = "" if first else "roi_head."
    layers: dict[str, str] = {}
    if parts.flow:
        flows = range(1, STAGES)
        layers |= {f"{roi}mask_head.{stage}.conv_res.conv": STAGE.format(stage) + FLOW for stage in flows}
    if parts.semantic:
        layers |= {f"{roi}semantic_head.{theirs}": f"{SEMANTIC}{ours}" for theirs, ours in _semantic_names().items()}
    return table | {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in LAYER}


def _numbered(theirs: str, stage: int) -> str:
    for head in _HEADS:
        theirs = theirs.replace(head, f"{head}{stage}.")
    return theirs


def _with_flow(ours: str) -> str:
    """The convolutions of a mask head lie one level deeper where it has another layer too."""
    mask_head = f"{ALONE}{MASK_HEAD}"
    return f"{ALONE}{FLOW_CONVS}{ours.removeprefix(mask_head)}" if ours.startswith(mask_head) else ours


def _semantic_names() -> dict[str, str]:
    """Layers of the semantic branch; its labels have the same order in all versions."""
    names = {f"lateral_convs.{level}.conv": f"laterals.{level}.0" for level in range(LEVELS)}
    names |= {f"convs.{number}.conv": f"convs.{number}.0" for number in range(CONVOLUTIONS)}
    return names | {"conv_embedding.conv": "embedding.0", "conv_logits": "logits"}


def rows_of_stages(state: Mapping[str, Tensor], *, background: bool, where: str) -> dict[str, Tensor]:
    """Weights with the background in row 0 in every stage.

    Args:
        state: Weights under our names.
        background: Whether it is there already, and the mask logits have a row of it.
        where: The file, for messages.

    Raises:
        DataError: A stage has rows for other classes, or boxes of each class.
    """
    own = dict(state)
    for stage in range(STAGES):
        before = STAGE.format(stage)
        alone = {f"{ALONE}{name.removeprefix(before)}": v for name, v in own.items() if name.startswith(before)}
        check_rows(alone, background=background, where=f"{where}, stage {stage}", agnostic=True)
        moved = alone if background else background_first(alone, agnostic=True)
        own |= {in_stage(name, stage): value for name, value in moved.items()}
    return own
