"""Tau-normalisation: rows of the classifier divided by a power of their length, which grows with the class's count.

Shapes: R regions, C foreground classes, C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lt_data.errors import RecipeError
from lt_train.calibration.base import WithEvidence
from lt_train.calibration.options import TauNormOptions
from lt_train.classifiers import CosineLinear, rows_of
from lt_train.heads.shared.base import Head


class TauNorm(WithEvidence):
    """Scores of ``w_c / |w_c|^tau``, the bias untouched.

    The scaled logits are computed from the logits, so the classifier itself stays as it was trained.

    Args:
        head: A head whose logit c is class c.
        options: Of the ``background``: ``normalise`` scales row 0 too; ``keep`` leaves it; ``select`` gives the scores
            of ``keep`` to regions whose original best is a class, the others keep the original; ``select-normalised``
            gives them those of ``normalise``; ``select-tail`` those of ``keep``, where their best class by it is in the
            tail (fewer than ``tail_below`` instances).
        classifier: The linear layer in front of the head.
        feature_sizes: Not used.

    Raises:
        RecipeError: The head has other logits, or the rows are those of a cosine classifier, which have one length.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, section 4.
    The treatments of the background: BAGS (CVPR 2020), models 12 (``normalise``) and 13 (``select-normalised`` in the
    supplement, whose other scores are those of model 12, ``select-tail`` in the released code).
    """

    options: TauNormOptions
    lengths: Tensor
    bias: Tensor
    tail: Tensor

    def __init__(
        self, head: Head, options: TauNormOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        if head.layout_buffers or head.num_logits != head.num_classes + 1:
            raise RecipeError(
                "calibration tau-norm: needs a head with one logit for the background and each class, such as softmax, "
                f"reweight or focal; this one is {type(head).__name__}; ncm works with every head"
            )
        if isinstance(classifier, CosineLinear):
            raise RecipeError(
                "calibration tau-norm: the classifier is a cosine one, whose rows have one length: there is nothing to "
                "normalise, and dividing by it flattens all scores; take a run with head.classifier=linear or scaled"
            )
        self.options = options
        self.register_buffer("lengths", torch.ones(head.num_logits))
        self.register_buffer("bias", torch.zeros(head.num_logits))
        self.register_buffer("tail", self._tail())
        if not classifier.weight.is_meta:
            self.attach(classifier)

    def choose(self, option: str, value: float) -> None:
        """See :meth:`Calibration.choose`."""
        super().choose(option, value)
        self.tail.copy_(self._tail())

    def _tail(self) -> Tensor:
        """[C+1] bool: which labels are in the tail."""
        counts = self.head.instance_counts
        return torch.cat([counts.new_zeros(1, dtype=torch.bool), counts < self.options.tail_below])

    def attach(self, classifier: nn.Linear) -> None:
        """Takes the row lengths and the bias of a trained classifier."""
        self.lengths.copy_(rows_of(classifier).detach().float().norm(dim=1))
        self.bias.copy_(classifier.bias.detach().float())

    def evidence(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """The scaled logits [R, C+1]; ``features`` are not used."""
        # a row of zeros has only its bias, whatever it is divided by
        lengths = torch.where(self.lengths > 0, self.lengths, 1.0)
        if self.options.background not in ("normalise", "select-normalised"):
            lengths = torch.cat([torch.ones_like(lengths[:1]), lengths[1:]])
        return (logits - self.bias) / lengths**self.options.tau + self.bias

    def decide(self, logits: Tensor, evidence: Tensor) -> Tensor:
        """See :meth:`WithEvidence.decide`."""
        scaled = self.head.scores(evidence)
        if self.options.background in ("normalise", "keep"):
            return scaled
        original = self.head.scores(logits)
        takes = original.argmax(dim=1) != 0
        if self.options.background == "select-tail":
            takes = takes & self.tail.index_select(0, scaled.argmax(dim=1))
        return torch.where(takes[:, None], scaled, original)
