"""Names that a wrapper put something before: ``model.`` of a LightningModule, ``module.`` of data-parallel training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lt_data.errors import DataError
from lt_train.detectors.foreign.names import EXAMPLES, STEM

# a weight by which each kind of detector is known: torchvision's, the small one, detectron2's, mmdetection's
MARKS = (
    f"{STEM}.weight",
    "backbone.lateral.0.weight",
    "backbone.bottom_up.stem.conv1.weight",
    "rpn_head.rpn_conv.weight",
)
TRUNK_MARK = "layer4.2.conv3.weight"


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
    """What stands before the names of a ResNet-50 alone; nothing if there is anything else."""
    prefix = next((key.removesuffix(TRUNK_MARK) for key in state if key.endswith(f".{TRUNK_MARK}")), "")
    return prefix if all(key.startswith(prefix) for key in state) else ""
