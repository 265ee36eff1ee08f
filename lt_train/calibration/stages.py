"""A calibration of the stages of a cascade: each is fitted to its classifier, and what they say is averaged.

Shapes: S stages, R regions, C foreground classes, L logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lt_train.calibration.base import Calibration, WithEvidence


class OfStages(Calibration):
    """Scores of averaged logits and averaged evidence: scaled logits of tau-norm, cosines of nearest class mean.

    Args:
        parts: The calibration of each stage, in order; all have the same options.
    """

    def __init__(self, parts: Sequence[WithEvidence]) -> None:
        super().__init__(parts[0].head)
        self.stages = nn.ModuleList(parts)
        self.options, self.features, self.regions = parts[0].options, parts[0].features, parts[0].regions

    @property
    def parts(self) -> Sequence[WithEvidence]:
        """The calibration of each stage."""
        return [cast(WithEvidence, part) for part in self.stages]

    def choose(self, option: str, value: float) -> None:
        """See :meth:`Calibration.choose`."""
        super().choose(option, value)
        for part in self.parts:
            part.choose(option, value)

    def counted(self) -> list[Tensor]:
        """See :meth:`Calibration.counted`."""
        return [buffer for part in self.parts for buffer in part.counted()]

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        return [f"stage {i}: {line}" for i, part in enumerate(self.parts) for line in part.finish()]

    def scores_of_stages(self, logits: Sequence[Tensor], features: Sequence[Tensor | None]) -> Tensor:
        """Scores [R, C+1], float32.

        Args:
            logits: S tensors [R, L], any float type.
            features: S tensors [R, D], or ``None`` where the method looks at none.
        """
        with torch.autocast(logits[0].device.type, enabled=False):
            rows = [part.float() for part in logits]
            seen = [None if part is None else part.float() for part in features]
            found = [part.evidence(z, x) for part, z, x in zip(self.parts, rows, seen, strict=True)]
            return self.parts[0].decide(torch.stack(rows).mean(dim=0), torch.stack(found).mean(dim=0))

    def _scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """There are no scores of one stage alone."""
        raise NotImplementedError("internal error: scores_of_stages makes the scores of a cascade")
