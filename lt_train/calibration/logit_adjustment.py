"""Logit adjustment: the share of a class among the training instances is taken out of its logit.

Shapes: R regions, C foreground classes, C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lt_train.calibration.beside_background import BesideBackground, no_count_notes, require_softmax
from lt_train.calibration.options import LogitAdjustmentOptions
from lt_train.heads.shared.base import Head


class LogitAdjustment(BesideBackground):
    """Scores of ``z_c - tau log(C pi_c)``, where pi_c is the class's share of the instances.

    With the factor C, equal shares change nothing. A classifier without background gives the same scores with and
    without it. Beside a background, which has no prior here, it keeps the sum of the priors of all classes at 1, so
    that background is expected as often as before.

    Args:
        head: A head with one softmax over the background and all classes.
        options: ``tau`` is how much of the prior is taken out.
        classifier: Not used.
        feature_sizes: Not used.

    Attributes:
        log_prior: [C] float32, natural logarithm of C pi_c.

    Raises:
        RecipeError: The head has other scores.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.1.
    """

    options: LogitAdjustmentOptions
    log_prior: Tensor

    def __init__(
        self, head: Head, options: LogitAdjustmentOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        require_softmax("logit-adjustment", head)
        self.options = options
        instances = torch.tensor(head.counts.at_least_one(), dtype=torch.float64)
        self.register_buffer("log_prior", (instances / instances.mean()).log().float())

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        return no_count_notes(self.head.counts.instances, "instance")

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`BesideBackground.changed`."""
        return logits - self.options.tau * self.log_prior
