"""A bare EfficientNet-Lite0 of ``efficientnet-lite-pytorch``, whose names count blocks from the first stage."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lt_data.errors import DataError
from lt_train.detectors.foreign.names import TRUNK, UNUSED, any_begins, some, weights_of
from lt_train.detectors.foreign.outcome import Converted
from lt_train.detectors.trunks.efficientnet_lite0 import STAGES

MARK = "_conv_stem.weight"
# what a classifier has after the last block
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def is_lite0(names: Mapping[str, Tensor]) -> bool:
    """Whether weights have that package's names."""
    return MARK in names


def from_lite0(state: Mapping[str, Tensor], *, where: str) -> Converted:
    """Gives the weights our names, without those of the classifier.

    Args:
        state: Its state dict.
        where: The file, for messages.

    Raises:
        DataError: They are of another EfficientNet.
    """
    trunk = {key: value for key, value in state.items() if not any_begins([key], *CLASSIFIER)}
    table = names()
    needed = "is missing; needed is every weight of an EfficientNet-Lite0"
    problems = some([key for key in table if key not in trunk], needed)
    beside = [key for key in trunk if key not in table and key.rpartition(".")[2] != UNUSED]
    problems += some(beside, "has no place in an EfficientNet-Lite0; give weights of that one")
    if problems:
        raise DataError(f"weights {where}: {problem}" for problem in problems)
    return Converted({ours: trunk[theirs] for theirs, ours in table.items()})


def names() -> dict[str, str]:
    """Their name of each weight -> ours."""
    stem = f"{TRUNK}stem.conv"
    convolutions, norms = {"_conv_stem": f"{stem}.0"}, {"_bn0": f"{stem}.1"}
    number = 0
    for stage, settings in enumerate(STAGES, 1):
        for block in range(settings.blocks):
            theirs, ours = f"_blocks.{number}", f"{TRUNK}stage{stage}.{block}"
            parts = {"_depthwise_conv": ("_bn1", "depthwise"), "_project_conv": ("_bn2", "project")}
            if settings.expansion > 1:
                parts["_expand_conv"] = ("_bn0", "expand")
            for convolution, (norm, part) in parts.items():
                convolutions[f"{theirs}.{convolution}"] = f"{ours}.{part}.0"
                norms[f"{theirs}.{norm}"] = f"{ours}.{part}.1"
            number += 1
    return weights_of(convolutions, norms, {})
