"""Options of the classifier in front of a head: how features become logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from lt_train.options.halving import halves
from lt_train.options.section import Section


class ClassifierOptions(Section):
    """The layer that gives a head its logits, see :mod:`lt_train.classifiers`."""

    classifier: Literal["linear", "cosine", "scaled"] = Field(
        "linear",
        description="Logits: w x + b; scale * cosine of w and x, + b; or a linear layer whose rows have a factor each.",
    )
    scale: float = Field(20.0, gt=0, description="Factor of the cosines of classifier=cosine.")
    learn_scale: bool = Field(False, strict=True, description="Whether that factor is trained.")
    fresh_classifier: bool = Field(
        False, strict=True, description="Start the classifier anew, whatever --init-from gives."
    )

    @model_validator(mode="after")
    def _of_cosines(self) -> ClassifierOptions:
        without = {"scale": "20", "learn_scale": "false"}
        fields = type(self).model_fields
        given = [name for name in without if getattr(self, name) != fields[name].default]
        if given and self.classifier != "cosine":
            raise ValueError(
                f"{' and '.join(given)}: there is a factor of cosines with classifier=cosine alone, this one is "
                f"{self.classifier}; set that, or {' '.join(f'{name}={without[name]}' for name in given)}"
            )
        return self

    def without_effect(self, images: Sequence[int], num_images: int) -> str:
        """Why nothing is left of the method on these data, and which option would change that; empty where it works.

        Args:
            images: Images with at least one object of each class.
            num_images: Of the training file.
        """
        return ""


def without_rare_classes(threshold: float, images: Sequence[int], num_images: int) -> str:
    """The answer of :meth:`ClassifierOptions.without_effect` where classes in few images are spared.

    Args:
        threshold: Share of the images below which a class is rare.
        images: Of each class.
        num_images: Of the training file.
    """
    shares = [max(count, 1) / max(num_images, 1) for count in images]
    if not shares or min(shares) < threshold:
        return ""
    start = f"head.threshold={threshold:g}: no class is in fewer of the images: none is rare, these are plain sigmoids"
    found = halves(shares)
    if found is None:
        return f"{start}; no class is in fewer than another"
    return f"{start}; below head.threshold={found.threshold} lie {found.lower} of {found.values} classes"
