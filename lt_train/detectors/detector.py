"""The detector: transform, trunk, region proposals, RoI heads. Its forward is the whole path on one page.

Shapes: N images [3, H, W] in 0..1, n ground-truth objects of one image. Boxes xyxy pixels of the original image,
labels 1..C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList

from lt_data.errors import DataError, RecipeError
from lt_train.calibration import make_calibration
from lt_train.calibration.base import Calibration
from lt_train.data.target import Target
from lt_train.detectors.foreign.names import CLASSIFIER, MASK_LOGITS, REGRESSOR
from lt_train.detectors.freeze import is_trainable
from lt_train.detectors.region_features import KnownRegions, losses_of_known
from lt_train.detectors.roi_heads import LongTailRoIHeads
from lt_train.detectors.rpn import LongTailRPN
from lt_train.detectors.second_head import Scores, SecondHead
from lt_train.detectors.settings import USUAL, RoISettings
from lt_train.detectors.transform import LongTailTransform
from lt_train.detectors.trunks.norm import use_stored_statistics
from lt_train.detectors.weights import HEAD, SECOND_HEAD, LoadReport
from lt_train.heads.shared.base import Head

BOX_HEAD = "roi_heads.box_head."
# what ``train`` of a recipe can be, and how the names of the weights begin that are trained then
PARTS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "head": (BOX_HEAD, f"{CLASSIFIER}."),
    "head+reg": (BOX_HEAD, f"{CLASSIFIER}.", f"{REGRESSOR}."),
    "classifier": (f"{CLASSIFIER}.",),
    "scale": (f"{CLASSIFIER}.scale",),
    "calibrated": (SECOND_HEAD,),
    "none": (),
}


class LongTailDetector(GeneralizedRCNN):
    """A torchvision Faster or Mask R-CNN with a long-tail head; made by ``build_detector`` or :meth:`from_stock`.

    The names of the weights are torchvision's; the head's buffers lie under ``roi_heads.head``.

    Attributes:
        frozen: How the names of the weights begin that are never trained: the first stages of a pretrained trunk.
        stored_statistics: Whether ordinary batch norms stay in evaluation mode in training; set by ``set_trainable``.
        load_report: What loading pretrained weights gave.
        precision: Type that autocast gives the layers' arithmetic, or ``None``: float32.
        channels_last: Whether images and feature maps are NHWC in memory.
        class_layers: Layers whose weights and biases have a row for each class or logit.
    """

    class_layers: ClassVar[tuple[str, ...]] = (CLASSIFIER, REGRESSOR, MASK_LOGITS)

    frozen: tuple[str, ...] = ()
    stored_statistics: bool = False
    load_report: LoadReport = LoadReport(0, ())
    precision: torch.dtype | None = None
    channels_last: bool = False

    @classmethod
    def from_stock(
        cls,
        stock: GeneralizedRCNN,
        head: Head,
        *,
        frozen: tuple[str, ...] = (),
        settings: RoISettings = USUAL,
        **of_family: Any,
    ) -> Self:
        """Takes over the modules and settings of a stock model; what is more of them, as in a cascade, is drawn.

        Args:
            stock: Faster or Mask R-CNN whose classifier is ``head.num_logits`` wide.
            head: Loss and scores.
            frozen: See the class.
            settings: Of the RoI heads.
            **of_family: What the RoI heads of this detector are told beside that, see ``roi_heads_from_stock``.
        """
        roi_heads = cls.roi_heads_from_stock(stock, head, settings, **of_family)
        transform = LongTailTransform.from_stock(stock.transform)
        model = cls(stock.backbone, LongTailRPN.from_stock(stock.rpn), roi_heads, transform)
        model.frozen = frozen
        return model

    @classmethod
    def roi_heads_from_stock(cls, stock: GeneralizedRCNN, head: Head, settings: RoISettings) -> Any:
        """The RoI heads of a detector that :meth:`from_stock` makes."""
        return LongTailRoIHeads.from_stock(stock.roi_heads, head, settings)

    @property
    def head(self) -> Head:
        """The head in use."""
        head: Head = self.roi_heads.head
        return head

    @property
    def has_masks(self) -> bool:
        """Whether it predicts masks."""
        return bool(self.roi_heads.has_mask())

    def heads(self) -> dict[str, Head]:
        """The heads, by the name under which their buffers are saved."""
        return {HEAD: self.head}

    @property
    def own_state(self) -> tuple[str, ...]:
        """How the names begin of what belongs to the model's own method, and is never taken from another model."""
        return (*(f"{name}." for name in self.heads()), *self.parts("calibrated"), "roi_heads.calibration.")

    def head_state(self) -> dict[str, Tensor]:
        """A copy of what the heads carry from batch to batch, by the names of the model; empty if that is nothing."""
        return {f"{name}.{key}": value for name, head in self.heads().items() for key, value in head.state().items()}

    @contextmanager
    def head_state_kept(self) -> Iterator[None]:
        """Around losses that are computed to be looked at: the heads carry over nothing of them."""
        with ExitStack() as stack:
            for head in self.heads().values():
                stack.enter_context(head.state_kept())
            yield

    def classifiers(self) -> dict[str, nn.Linear]:
        """The layers that give logits, by the name under which their weights are saved."""
        return {CLASSIFIER: self.roi_heads.box_predictor.cls_score}

    def parts(self, train: str) -> tuple[str, ...]:
        """How the names of the weights begin that a part of the model has, see :mod:`lt_train.detectors.freeze`.

        Raises:
            RecipeError: No part has that name.
        """
        if train not in PARTS:
            raise RecipeError(f"train: got {train!r}; allowed are {', '.join(PARTS)}")
        return PARTS[train]

    def compilable(self) -> list[nn.Module]:
        """Modules that are layers alone: matching, sampling and NMS depend on the numbers they find."""
        heads = self.roi_heads
        return [self.backbone, self.rpn.head, heads.box_head, *([heads.mask_head] if self.has_masks else [])]

    @property
    def calibration(self) -> Calibration | None:
        """What makes scores of logits in place of the head."""
        return self.roi_heads.calibration

    def add_calibration(self, name: str, **options: Any) -> None:
        """Gives the model a calibration, not fitted yet, see :func:`lt_train.calibration.make_calibration`.

        Raises:
            RecipeError: An option is out of range, or the calibration does not fit the head.
        """
        (classifier,) = self.classifiers().values()
        self.roi_heads.calibration = make_calibration(
            name, head=self.head, classifier=classifier, feature_sizes=self.roi_heads.calibration_sizes, **options
        )

    @property
    def second_head(self) -> SecondHead | None:
        """The classifier beside the detector's own; the first of them, as those of all stages have the same options."""
        return next(iter(self.second_heads()), None)

    def second_heads(self) -> list[SecondHead]:
        """The classifiers beside the detector's own ones, in the order of these; empty if there are none."""
        return [stage.calibrated for stage in self.roi_heads.of_stages if stage.calibrated is not None]

    def add_second_head(self, **options: Any) -> None:
        """Gives each classifier a second head beside it, not trained yet, see :meth:`SecondHead.beside`.

        Raises:
            RecipeError: The detector has no layers like it, or its scores are of another kind.
        """
        for stage in self.roi_heads.of_stages:
            stage.calibrated = SecondHead.beside(stage.box_head, stage.box_predictor.cls_score, stage.head, **options)

    def start_second_head(self) -> None:
        """Lets a second head that goes on from the detector's own layers begin as these are now, trained or loaded."""
        for stage in self.roi_heads.of_stages:
            if stage.calibrated is not None:
                stage.calibrated.start(stage.box_head, stage.box_predictor.cls_score)

    def score_by(self, scores: Scores) -> None:
        """Chooses which head scores which classes, where there is a second one."""
        for second in self.second_heads():
            second.use = scores

    def forward(self, images: Sequence[Tensor] | KnownRegions, targets: Sequence[Target] | None = None) -> Any:
        """Losses in training, detections in evaluation.

        Args:
            images: N float tensors [3, H, W] in 0..1, sizes may differ; or, in training, regions of them whose
                features are known, where nothing in front of the classifier is trained.
            targets: N of :class:`~lt_train.data.target.Target`; needed in training.

        Returns:
            In training a dict of scalar losses: the head's, ``loss_box_reg``, ``loss_mask``, ``loss_objectness`` and
            ``loss_rpn_box_reg``; what no trainable weight depends on is left out. With a second head that is
            ``loss_second_head`` alone, in a cascade that of each stage. In evaluation N dicts: ``boxes`` [d, 4],
            ``labels`` [d], ``scores`` [d], best first, and for mask models ``mask_probs`` [d, 28, 28], the mask of the
            detected label inside its box.

        Raises:
            DataError: A target cannot be trained on.
        """
        if isinstance(images, KnownRegions):
            return losses_of_known(self, images, targets or [])
        # what lies on a GPU was checked before it went there, or is the caller's to check: looking at it would wait
        if self.training and not (targets and targets[0]["boxes"].is_cuda):
            check_targets(targets, self.head.num_classes)
        original_sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets if self.training else None)
        trunk_trains = is_trainable(self.backbone)
        with self.autocast():
            with torch.set_grad_enabled(trunk_trains and torch.is_grad_enabled()):
                features = self.features(batch.tensors)
            rpn_trains = trunk_trains or is_trainable(self.rpn)
            proposals, rpn_losses = self.rpn(batch, features, targets, with_losses=rpn_trains)
            detections, losses = self.roi_heads(
                features, proposals, batch.image_sizes, targets, trunk_trains=trunk_trains
            )
        if self.training:
            return {**losses, **rpn_losses}
        return self.transform.postprocess(detections, batch.image_sizes, original_sizes)

    def detections_with(
        self, images: Sequence[Tensor], option: str, values: Sequence[float]
    ) -> list[list[dict[str, Tensor]]]:
        """Detections with each value of an option of the calibration; what leads to the logits is computed once.

        Args:
            images: N float tensors [3, H, W] in 0..1.
            option: A number among the options of the calibration; it is left at the last value.
            values: V values.

        Returns:
            V lists of N dicts as of :meth:`forward`, without masks: those do not depend on scores.
        """
        calibration, heads, found = self.calibration, self.roi_heads, []
        assert calibration is not None, "internal error: there is no calibration to search"
        original_sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, _ = self.transform(images, None)
        with self.autocast():
            seen = self._look(batch)
            for value in values:
                calibration.choose(option, value)
                detections = heads.detections_of(heads.scores_of(seen), seen, batch.image_sizes)
                found.append(self.transform.postprocess(detections, batch.image_sizes, original_sizes))
        return found

    def region_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Scores of the regions that are proposed in images, before any of them is dropped.

        Args:
            images: N float tensors [3, H, W] in 0..1.

        Returns:
            [R, C+1] over all images, column 0 is background.
        """
        batch, _ = self.transform(images, None)
        with self.autocast():
            scores: Tensor = self.roi_heads.scores_of(self._look(batch))
            return scores

    def _look(self, batch: ImageList) -> Any:
        """What the RoI heads see of the proposals of N images."""
        features = self.features(batch.tensors)
        proposals, _ = self.rpn(batch, features, None)
        return self.roi_heads.look(features, proposals, batch.image_sizes)

    def start_calibration(self) -> None:
        """The calibration takes what it needs of the trained classifiers, and forgets what was fitted."""
        assert self.calibration is not None, "internal error: there is no calibration"
        # one that is fitted to averages has one part, whatever the number of classifiers
        for part, classifier in zip(self.calibration.parts, self.classifiers().values(), strict=False):
            part.attach(classifier)

    def fit_calibration(self, images: Sequence[Tensor], targets: Sequence[Target]) -> None:
        """The calibration is fitted to one more training batch.

        Raises:
            DataError: A target cannot be used.
        """
        calibration = self.calibration
        assert calibration is not None, "internal error: there is no calibration"
        found = self.features_by_classifier(images, targets, kind=calibration.features, regions=calibration.regions)
        for part, (features, labels) in zip(calibration.parts, found, strict=True):
            part.fit(features, labels)

    def labelled_features(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, kind: str, regions: str
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`features_by_classifier` gives for the last classifier, with the same arguments."""
        return self.features_by_classifier(images, targets, kind=kind, regions=regions)[-1]

    @torch.no_grad()
    def features_by_classifier(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, kind: str, regions: str
    ) -> list[tuple[Tensor, Tensor]]:
        """Features and labels of regions of a training batch, for a calibration to be fitted on.

        Args:
            images: N float tensors [3, H, W] in 0..1.
            targets: N targets, see :meth:`forward`.
            kind: ``fc``, ``fc-relu`` or ``conv``, see
                :meth:`~lt_train.detectors.roi_heads.LongTailRoIHeads.calibration_features`; or ``logits``.
            regions: ``ground-truth`` (the boxes of the targets), ``proposals`` (what training would sample as
                foreground, which holds the boxes of the targets too), or ``sampled`` (the background too).

        Returns:
            For each classifier [R, size of the kind] and [R] int64 in 1..C, for ``sampled`` in 0..C. Of logits, which
            are averaged over the classifiers, there is one such pair.

        Raises:
            DataError: A target cannot be used.
        """
        check_targets(targets, self.head.num_classes)
        batch, resized = self.transform(images, targets)
        with self.autocast():
            features = self.features(batch.tensors)
            proposals: list[Tensor] = []
            if regions != "ground-truth":
                proposals, _ = self.rpn(batch, features, resized, with_losses=False)
            found: list[tuple[Tensor, Tensor]] = self.roi_heads.labelled_features(
                features, proposals, batch.image_sizes, resized, kind=kind, regions=regions
            )
        return found

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps of a batch [N, 3, H, W], by level."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        features: dict[str, Tensor] = self.backbone(images)
        return features

    def autocast(self) -> torch.autocast:
        """The arithmetic of the layers inside ``with model.autocast():``; the forward is in one by itself."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=self.precision, enabled=self.precision is not None)

    def train(self, mode: bool = True) -> LongTailDetector:
        """Training or evaluation mode; batch norms stay on stored statistics where ``stored_statistics`` says so."""
        super().train(mode)
        if self.stored_statistics:
            use_stored_statistics(self)
        return self


def check_targets(targets: Sequence[Target] | None, num_classes: int) -> None:
    """Stop before the loss if a box has no area or a label no class; for targets on a GPU this waits for it.

    Args:
        targets: Targets of a training batch.
        num_classes: C.

    Raises:
        DataError: One line per bad object, naming the image.
    """
    if not targets:
        raise DataError("targets: none given; training needs boxes and labels for every image")
    for target in targets:
        shape, labels = tuple(target["boxes"].shape), target["labels"]
        if len(shape) != 2 or shape[1] != 4 or len(labels) != shape[0] or labels.dtype != torch.int64:
            raise DataError(
                f"{_name(target)}: boxes are {shape} and labels {tuple(labels.shape)} of {labels.dtype}; "
                "needed are [n, 4] and [n] of int64"
            )
        regions = tuple(target["ignore"].shape) if "ignore" in target else (0, 4)
        if len(regions) != 2 or regions[1] != 4:
            raise DataError(f"{_name(target)}: ignore is {regions}; needed is [m, 4], xyxy pixels")
    boxes = torch.cat([target["boxes"] for target in targets])
    labels = torch.cat([target["labels"] for target in targets])
    good_box = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.isfinite().all(dim=1)
    good_label = (labels >= 1) & (labels <= num_classes)
    if not bool((good_box & good_label).all()):
        raise DataError(_target_problems(targets, good_box.tolist(), good_label.tolist(), num_classes))


def _target_problems(
    targets: Sequence[Target], good_box: list[bool], good_label: list[bool], num_classes: int
) -> list[str]:
    problems = []
    objects = [(target, i) for target in targets for i in range(len(target["labels"]))]
    for (target, i), box_is_good, label_is_good in zip(objects, good_box, good_label, strict=True):
        where = f"{_name(target)}, object {i}"
        if not box_is_good:
            corners = ", ".join(f"{corner:g}" for corner in target["boxes"][i].tolist())
            problems.append(
                f"{where}: box is [{corners}]; needed is x1 < x2 and y1 < y2, drop or repair the annotation"
            )
        if not label_is_good:
            label = int(target["labels"][i])
            problems.append(f"{where}: label is {label}; allowed are 1..{num_classes}, check the category mapping")
    return problems


def _name(target: Target) -> str:
    return f"image {int(target['image_id'])}" if "image_id" in target else "image without image_id"
