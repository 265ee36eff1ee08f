"""What the calibrations of softmax heads share: other logits of the classes, and what becomes of the background.

Shapes: R regions, C foreground classes, C + 1 logits of which logit 0 is background.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lt_data.errors import RecipeError
from lt_train.calibration.base import Calibration
from lt_train.calibration.options import BackgroundOptions
from lt_train.heads.shared.base import Head


class BesideBackground(Calibration):
    """Scores of a softmax in which the logits of the classes are other ones, and that of the background is its own.

    With ``background=normalise`` all share one softmax, so that the background loses or gains what the classes gain or
    lose. With ``keep-probability`` it keeps the probability that the head gives it, and the classes share the rest.
    """

    options: BackgroundOptions

    @abstractmethod
    def changed(self, logits: Tensor) -> Tensor:
        """[R, C] float32 logits of the classes -> [R, C] others."""

    def _scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """See :meth:`Calibration.scores`; ``features`` are not used."""
        background, changed = logits[:, :1], self.changed(logits[:, 1:])
        if self.options.background == "normalise":
            return torch.cat([background, changed], dim=1).softmax(dim=1)
        original = logits.softmax(dim=1)
        # summed up, because 1 - p has no digits left where p is nearly 1
        foreground = original[:, 1:].sum(dim=1, keepdim=True).clamp(max=1)
        return torch.cat([original[:, :1], foreground * changed.softmax(dim=1)], dim=1)


def require_softmax(method: str, head: Head, *, sigmoids: bool = False) -> None:
    """Refuses a head whose scores a calibration cannot take apart.

    Args:
        method: Name of the calibration.
        head: The model's head.
        sigmoids: Whether a sigmoid for each class will do as well.

    Raises:
        RecipeError: The head is none of them.
    """
    if head.scores_by == "softmax" or (sigmoids and head.scores_by == "sigmoid"):
        return
    also = ", or a sigmoid for each class, such as focal" if sigmoids else ""
    raise RecipeError(
        f"calibration {method}: needs a head whose scores are one softmax over the background and all classes, such as "
        f"softmax or reweight{also}; this one is {type(head).__name__}; ncm works with every head"
    )


def image_counts(method: str, head: Head) -> list[int]:
    """Training images with each class; a class without any counts as having one.

    Raises:
        RecipeError: Nobody said them.
    """
    if head.counts.images is None:
        raise RecipeError(
            f"calibration {method}: image_counts are missing; it goes by the training images that hold a class, so "
            "give make_head(..., image_counts=[...])"
        )
    return [max(count, 1) for count in head.counts.images]


def no_count_notes(counts: Sequence[int] | None, what: str) -> list[str]:
    """A line on classes without any count; none where all have one.

    Args:
        counts: C counts, or ``None``.
        what: What is counted, in the singular.
    """
    missing = sum(count == 0 for count in counts or ())
    return [f"{missing} classes have no training {what}: they count as having one"] * (missing > 0)
