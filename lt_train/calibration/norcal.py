"""NorCal: the scores of a class divided by a power of its training images.

Shapes: R regions, C foreground classes, C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lt_train.calibration.beside_background import BesideBackground, image_counts, no_count_notes, require_softmax
from lt_train.calibration.options import NorCalOptions
from lt_train.heads.shared.base import Head


class NorCal(BesideBackground):
    """Scores in proportion to ``exp(z_c) / n_c^gamma``, where n_c is the number of training images with the class.

    Args:
        head: A head with one softmax over the background and all classes.
        options: ``mode`` says what is divided: exponentials (``exps``) or probabilities (``probs``), which is the same
            once the scores are normalised, or the ``logits`` themselves.
        classifier: Not used.
        feature_sizes: Not used.

    Attributes:
        log_images: [C] float32, natural logarithm of n_c.

    Raises:
        RecipeError: The head has other scores, or does not know of images.

    Source: Pan et al., "On Model Calibration for Long-Tailed Object Detection and Instance Segmentation", NeurIPS 2021,
    section 3.
    """

    options: NorCalOptions
    log_images: Tensor

    def __init__(
        self, head: Head, options: NorCalOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        require_softmax("norcal", head)
        self.options = options
        images = torch.tensor(image_counts("norcal", head), dtype=torch.float64)
        self.register_buffer("log_images", images.log().float())

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        return no_count_notes(self.head.counts.images, "image")

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`BesideBackground.changed`; no exponential is taken before the softmax, which is safe."""
        log_divisor = self.options.gamma * self.log_images
        if self.options.mode == "logits":
            return logits * torch.exp(-log_divisor)
        # the denominator of probabilities cancels when they are normalised, so that they are exponentials too
        return logits - log_divisor
