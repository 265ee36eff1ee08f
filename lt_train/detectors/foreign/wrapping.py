"""Names that a wrapper put something before: ``model.`` of a LightningModule, ``module.`` of data-parallel training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lt_data.errors import DataError
from lt_train.detectors.foreign.names import EXAMPLES, STEM

# a weight by which each kind of detector is known: torchvision's, those for CPUs, detectron2's, mmdetection's
MARKS = (
    f"{STEM}.weight",
    "backbone.body.stem.conv.0.weight",
    "backbone.lateral.0.weight",
    "backbone.bottom_up.stem.conv1.weight",
    "rpn_head.rpn_conv.weight",
)
# the same for trunks alone: a ResNet-50, an EfficientNet-Lite0
TRUNK_MARKS = ("layer4.2.conv3.weight", "_conv_stem.weight")


def unwrapped(state: Mapping[str, Tensor], *, where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of the one detector in a state, without what its wrapper put before their names.

    Args:
        state: Weights by name.
        where: The file, for messages.

    Returns:
        The state, and a note where weights beside the detector are left aside.

    Raises:
        DataError: There are several detectors.
    """
    prefixes = sorted({key[: -len(mark)] for mark in MARKS for key in state if key == mark or key.endswith(f".{mark}")})
    if len(prefixes) > 1:
        names = ", ".join(f"{prefix}*" for prefix in prefixes[:EXAMPLES])
        raise DataError(
            f"weights {where}: they are of {len(prefixes)} models ({names}); allowed is one, save its state dict alone"
        )
    prefix = prefixes[0] if prefixes else _trunks_prefix(state)
    if not prefix:
        return dict(state), ()
    beside = [key for key in state if not key.startswith(prefix)]
    names = ", ".join(beside[:EXAMPLES]) + f" and {len(beside) - EXAMPLES} more" * (len(beside) > EXAMPLES)
    note = f"weights under {prefix}*; left aside: {names}"
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return inner, (note,) if beside else ()


def _trunks_prefix(state: Mapping[str, Tensor]) -> str:
    """What stands before the names of a trunk alone; nothing if there is anything else."""
    found = (key.removesuffix(mark) for mark in TRUNK_MARKS for key in state if key.endswith(f".{mark}"))
    prefix = next(found, "")
    return prefix if all(key.startswith(prefix) for key in state) else ""
