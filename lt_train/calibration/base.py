"""What every calibration offers.

Shapes: R regions, C foreground classes, L logits, D size of the features that the calibration looks at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lt_train.heads.shared.base import Head
from lt_train.options.errors import section_name
from lt_train.options.section import Section, make_section, numeric_options

Features = Literal["none", "fc", "fc-relu", "conv", "logits"]
Regions = Literal["none", "ground-truth", "proposals", "sampled"]


class Calibration(nn.Module, ABC):
    """Scores of a trained model from its logits and features. It has buffers, no parameters, and takes no gradient.

    Args:
        head: The model's head.

    Attributes:
        options: Options of the method; :meth:`choose` gives one that is a number another value.
        features: Which features :meth:`fit` and :meth:`scores` take; of ``logits``, which the latter has anyway, it is
            :meth:`fit` alone.
        regions: Over which regions of the training set :meth:`fit` wants a pass; ``sampled`` are those that training
            would take, background too.
        wants_boxes: Whether :meth:`fit_boxes` is to be called.
    """

    options: Section
    features: Features = "none"
    regions: Regions = "none"
    wants_boxes: ClassVar[bool] = False

    def __init__(self, head: Head) -> None:
        super().__init__()
        # in a tuple, because the head is a part of the model already and its buffers are saved there
        self._head = (head,)

    @property
    def head(self) -> Head:
        """The model's head."""
        return self._head[0]

    @property
    def parts(self) -> Sequence[Calibration]:
        """What is fitted: itself, or a calibration for each of several classifiers."""
        return (self,)

    def attach(self, classifier: nn.Linear) -> None:
        """Takes what the method needs of a trained classifier; nothing unless a method says otherwise."""

    def choose(self, option: str, value: float) -> None:
        """Takes another value of an option that is a number, as if it had been made with that; what was fitted stays.

        Args:
            option: A number, see :func:`lt_train.calibration.searchable_options`.
            value: The value.

        Raises:
            RecipeError: It is out of range.
        """
        kind = type(self.options)
        assert option in numeric_options(kind), f"internal error: {option} cannot be searched"
        others = self.options.model_dump(exclude={"name"})
        self.options = make_section(kind, {**others, option: value}, where=f"calibration {section_name(kind)}")

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Adds a batch of regions; what is added does not depend on the order.

        Args:
            features: [R, D], any float type.
            labels: [R] int64 in 0..C; background is skipped unless ``regions`` is ``sampled``.
        """

    def fit_boxes(self, centres: Tensor, labels: Tensor) -> None:
        """Takes where the boxes of the training file lie, all of them at once.

        Args:
            centres: [n, 2] float64, x and y of their centres over width and height of the image, in 0..1.
            labels: [n] int64 in 1..C.
        """

    def counted(self) -> list[Tensor]:
        """Buffers that :meth:`fit` adds to; several processes add theirs up before :meth:`finish`."""
        return []

    def finish(self) -> list[str]:
        """Notes on what was fitted, one line each.

        Raises:
            DataError: It cannot be used.
        """
        return []

    def scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """Scores in 0..1, float32 [R, C+1], column 0 is background; computed in float32 under autocast too.

        Args:
            logits: [R, L], any float type.
            features: [R, D], any float type, or ``None`` where ``features`` is ``none`` or ``logits``.
        """
        # half precision would round products of features as it does those of layers
        with torch.autocast(logits.device.type, enabled=False):
            return self._scores(logits.float(), None if features is None else features.float())

    @abstractmethod
    def _scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """What :meth:`scores` gives, of float32 logits and features outside autocast."""

    def extra_repr(self) -> str:
        """Options, for ``print(model)``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.options if key != "name")


class WithEvidence(Calibration):
    """A calibration that goes by what one classifier says: with several, each is fitted, and what they say is averaged.

    The scores are ``decide(logits, evidence(logits, features))``; with several classifiers, of the averages of both.
    """

    @abstractmethod
    def evidence(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """What this classifier says of the classes, float32 [R, columns].

        Args:
            logits: [R, L] float32.
            features: [R, D] float32, or ``None``.
        """

    @abstractmethod
    def decide(self, logits: Tensor, evidence: Tensor) -> Tensor:
        """Scores [R, C+1] of logits [R, L] and the evidence."""

    def _scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """See :meth:`Calibration.scores`."""
        return self.decide(logits, self.evidence(logits, features))
