"""Nearest class mean: a region scores by the cosine of its feature to the mean feature of each class.

Shapes: R regions, C foreground classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_data.errors import DataError
from lt_train.calibration.base import WithEvidence
from lt_train.calibration.options import NearestClassMeanOptions
from lt_train.heads.shared.base import Head


class NearestClassMean(WithEvidence):
    """``(1 - p_background)`` times a softmax over the cosines to the class means; the background keeps its score.

    Args:
        head: Any head; gives the background's probability.
        options: Which ``features`` of which ``boxes`` are averaged, and the ``temperature`` of the softmax.
        classifier: Not used.
        feature_sizes: Size of each kind of ``features``.

    Attributes:
        sums: [C, D] float64, sum of the features of each class.
        seen: [C] int64, how many they are.

    Source: BAGS (CVPR 2020), models 10 and 11. The supplement averages what the classifier sees (``fc-relu``) over
    proposals, the released code what its ReLU gets (``fc``) over ground-truth boxes; neither has a temperature (1).
    """

    options: NearestClassMeanOptions
    sums: Tensor
    seen: Tensor
    _centres: Tensor | None

    def __init__(
        self, head: Head, options: NearestClassMeanOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        self.options, self.features, self.regions = options, options.features, options.boxes
        self.register_buffer(
            "sums", torch.zeros(head.num_classes, feature_sizes[options.features], dtype=torch.float64)
        )
        self.register_buffer("seen", torch.zeros(head.num_classes, dtype=torch.int64))
        # made of the sums when first needed: at the size of LVIS that takes as long as the scores
        self.register_buffer("_centres", None, persistent=False)

    def attach(self, classifier: nn.Linear) -> None:
        """Forgets what was fitted."""
        self._centres = None
        self.sums.zero_()
        self.seen.zero_()

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """See :meth:`Calibration.fit`; sums in float64, so that the order of the batches does not matter."""
        self._centres = None
        objects = labels > 0
        rows = labels[objects] - 1
        self.sums.index_add_(0, rows, features[objects].double())
        self.seen.index_add_(0, rows, torch.ones_like(rows))

    def counted(self) -> list[Tensor]:
        """See :meth:`Calibration.counted`."""
        return [self.sums, self.seen]

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        missing = int((self.seen == 0).sum())
        if missing == len(self.seen):
            raise DataError("calibration ncm: no region of any class was seen; give a training set with objects")
        notes = [f"class means of {int(self.seen.sum()):,} regions, {self.features} features of {self.regions} boxes"]
        return notes + [f"{missing} classes have no region to average: they always score 0"] * (missing > 0)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """Takes saved sums."""
        self._centres = None
        super()._load_from_state_dict(*arguments)

    def centres(self) -> Tensor:
        """[C, D] float32: the mean feature of each class, of length 1."""
        if self._centres is None:
            # a tensor of inference mode could not be used where gradients are recorded
            with torch.inference_mode(False):
                # the length of a mean is that of the sum over its count, and falls out of the cosine
                self._centres = F.normalize(self.sums, dim=1).float()
        return self._centres

    def evidence(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """Cosines [R, C] to the class means; those of a class without a mean are minus infinity."""
        assert features is not None, "internal error: ncm needs features"
        return (F.normalize(features, dim=1) @ self.centres().T).masked_fill(self.seen == 0, -math.inf)

    def decide(self, logits: Tensor, evidence: Tensor) -> Tensor:
        """See :meth:`WithEvidence.decide`."""
        background = self.head.scores(logits)[:, :1]
        share = (evidence / self.options.temperature).softmax(dim=1)
        return torch.cat([background, (1 - background) * share], dim=1)
