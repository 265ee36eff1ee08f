"""FRACAL: rare classes gain by their images, and classes whose boxes lie everywhere lose.

Shapes: R regions, C foreground classes, L logits of which the last C are the classes'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lt_data.errors import RecipeError
from lt_train.calibration.beside_background import BesideBackground, image_counts, no_count_notes, require_softmax
from lt_train.calibration.fractal_dimension import fractal_dimensions
from lt_train.calibration.options import FracalOptions
from lt_train.heads.shared.base import Head


class Fracal(BesideBackground):
    """Scores of ``z_c + w_c - lambda log D_c`` in a softmax; in sigmoids the score times that of a shifted logit.

    ``w_c = log10(I / n_c) - log10(C)`` for I training images, n_c of them with the class; D_c is the fractal dimension
    of its boxes. The logarithm to the base 10 is the source's: it is natural logit adjustment with tau 0.434. For
    sigmoids the score is multiplied by ``sigmoid(z_c + w_c + t_c)`` with
    ``t_c = log10(mean over k of D_k^lambda / D_c^lambda)``, and nothing is normalised.

    Args:
        head: A head with one softmax over the background and all classes, or with a sigmoid for each class.
        options: ``power`` is lambda.
        classifier: Not used.
        feature_sizes: Not used.

    Attributes:
        rarity: [C] float32, w_c.
        dimensions: [C] float32, D_c; 1 until the boxes are known.

    Raises:
        RecipeError: The head has other scores, does not know of images, or has sigmoids and the background shall keep
            its probability, which no sigmoid takes from it.

    Source: Alexandridis et al., "Fractal Calibration for long-tailed object detection", CVPR 2025, and its code.
    """

    options: FracalOptions
    wants_boxes = True
    rarity: Tensor
    dimensions: Tensor

    def __init__(
        self, head: Head, options: FracalOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        require_softmax("fracal", head, sigmoids=True)
        if head.scores_by == "sigmoid" and options.background != "normalise":
            raise RecipeError(
                f"calibration fracal: background: got '{options.background}'; {type(head).__name__} has sigmoids, "
                "which take nothing from the background, so leave it out"
            )
        self.options = options
        self.register_buffer("rarity", _rarity(head))
        self.register_buffer("dimensions", torch.ones(head.num_classes))

    def fit_boxes(self, centres: Tensor, labels: Tensor) -> None:
        """See :meth:`Calibration.fit_boxes`."""
        found = fractal_dimensions(centres.cpu().numpy(), labels.cpu().numpy(), self.head.num_classes)
        self.dimensions.copy_(torch.from_numpy(found))

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        low, mean, high = (float(f(self.dimensions)) for f in (torch.min, torch.mean, torch.max))
        flat = int((self.dimensions == 1).sum())
        line = f"fractal dimensions {low:.3f} to {high:.3f}, mean {mean:.3f}; {flat} classes at 1"
        return [line, *no_count_notes(self.head.counts.images, "image")]

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`BesideBackground.changed`."""
        return logits + self.rarity - self.options.power * self.dimensions.log()

    def _scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """See :meth:`Calibration.scores`; ``features`` are not used."""
        if self.head.scores_by == "softmax":
            return super()._scores(logits, features)
        original = self.head.scores(logits)
        powers = self.dimensions**self.options.power
        shift = self.rarity + (powers.mean() / powers).log10()
        again = (logits[:, -self.head.num_classes :] + shift).sigmoid()
        return torch.cat([original[:, :1], original[:, 1:] * again], dim=1)


def _rarity(head: Head) -> Tensor:
    """[C] float32, w_c of the class."""
    images = torch.tensor(image_counts("fracal", head), dtype=torch.float64)
    if head.counts.num_images is None:
        raise RecipeError(
            "calibration fracal: num_images is missing; it goes by the share of images that hold a class, so give "
            "make_head(..., num_images=N)"
        )
    return (math.log10(head.counts.num_images) - images.log10() - math.log10(head.num_classes)).float()
