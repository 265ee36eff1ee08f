"""Which detections of a model are kept: by score, and the best of those that overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Final

from torch import Tensor
from torchvision.ops import nms as best_boxes

from lt_data.errors import RecipeError, shown


@dataclass(frozen=True)
class Kept:
    """What to keep of the detections of an image.

    Attributes:
        threshold: Lowest score, 0 to 1; what lies below ``model.score_threshold`` does not come back.
        nms: IoU of boxes above which the weaker of two goes, whatever their classes; ``None`` keeps both. The model
            has only compared boxes of one class.

    Raises:
        RecipeError: A value is out of range.
    """

    threshold: float = 0.0
    nms: float | None = None

    def __post_init__(self) -> None:
        check_fraction(self.threshold, "threshold")
        if self.nms is not None:
            check_fraction(self.nms, "class_agnostic_nms")

    def of(self, detection: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The detections that stay, in their order.

        Args:
            detection: ``boxes`` [n, 4] xyxy, ``scores`` [n], and whatever else has a row for each.
        """
        found = dict(detection)
        if self.threshold > 0:
            found = _rows(found, found["scores"].double() >= self.threshold)
        if self.nms is not None:
            best = best_boxes(found["boxes"].float(), found["scores"].float(), self.nms)
            found = _rows(found, best.sort().values)
        return found


def check_fraction(value: object, name: str) -> None:
    """Refuses what is no number from 0 to 1.

    Raises:
        RecipeError: It is none.
    """
    # a comparison with NaN is false
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise RecipeError(f"{name}: got {shown(value)}; allowed is a number from 0 to 1")


# after what its values are checked with
ALL: Final = Kept()


def _rows(found: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: column[rows] for name, column in found.items()}
