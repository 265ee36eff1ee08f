"""Features of regions, taken from a frozen detector once and used again: what comes before them is not computed then.

What is kept of a region is its ``hidden`` vector: the second fully connected layer in front of its ReLU, from which
classifier, box regressor and the features of calibrations follow.

A cascade sees the regions of an image once in every stage, each time refined by the stage before. Its regressors have
no classes, so where a box goes does not depend on the classifiers. Stages choose among the children of what the stage
before drew, so the candidates of a stage are the children of all of which the stage before has features, and the ground
truth, which is added in each.

Shapes: S stages, N images, R regions over the batch, A candidates and P proposals of one image, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import boxes as box_ops

from lt_train.data.target import Target
from lt_train.detectors.regions.refining import are_truth, mean_logits, refined
from lt_train.detectors.regions.sampled import Regions

if TYPE_CHECKING:
    from lt_train.detectors.detector import LongTailDetector
    from lt_train.detectors.roi_heads import LongTailRoIHeads

# the label of a box that was refined from one of the ground truth: training leaves it out, the ground truth itself is
# there; what follows a region through all stages, as detection does, looks at it
OF_TRUTH: Final = -2

# which candidates' features are wanted, by labels [A] and target: positions [n]
Choose = Callable[[Tensor, Target], Tensor]


@dataclass(frozen=True)
class KnownOfStage:
    """Regions of a batch that a stage sees, whose features are known.

    Attributes:
        hidden: [R, D], any float type.
        regions: The same regions; they need no box targets, because nothing trains the boxes.
    """

    hidden: Tensor
    regions: Regions


@dataclass(frozen=True)
class KnownRegions:
    """Regions of a batch whose features are known; a detector takes them in place of images.

    Attributes:
        stages: What each stage of the detector sees; of one that is no cascade there is one.
    """

    stages: tuple[KnownOfStage, ...]


@dataclass(frozen=True)
class CandidateFeatures:
    """The regions of an image that training draws from in a stage, and the features of some of them.

    Attributes:
        boxes: [A, 4], xyxy pixels of the resized image: proposals or refined boxes, then ground truth.
        labels: [A] int64 in 0..C, -1 for one that is not drawn, ``OF_TRUTH``.
        matched: [A] int64, index of the ground truth (0 where there is none).
        iou: [A], the largest overlap with any ground truth, 0 without any.
        parents: [A] int64, ascending but for the ground truth: place of the candidate of the stage before that a box
            was refined from; -1 for what no stage has refined.
        places: [n] int64, ascending, whose features are here.
        hidden: [n, D].
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    iou: Tensor
    parents: Tensor
    places: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class ProposalFeatures:
    """The regions of an image that its detections come from.

    Attributes:
        boxes: S tensors [P, 4], xyxy pixels of the resized image: proposals, then as each stage refines them.
        hidden: S tensors [P, D], what each stage sees there.
        size: Height and width of the resized image in pixels.
    """

    boxes: Sequence[Tensor]
    hidden: Sequence[Tensor]
    size: tuple[int, int]


@dataclass(frozen=True)
class _Passed:
    """Boxes of an image that a stage is given.

    Attributes:
        boxes: [B, 4].
        parents: [B] int64, see :class:`CandidateFeatures`.
        of_truth: [B] bool, whether a box was refined from one of the ground truth, by whichever stage.
    """

    boxes: Tensor
    parents: Tensor
    of_truth: Tensor

    @classmethod
    def proposed(cls, boxes: Tensor) -> _Passed:
        """Proposals, which the first stage is given."""
        rows = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return cls(boxes, rows - 1, rows > 0)


@torch.no_grad()
def candidate_features(
    model: LongTailDetector, images: Sequence[Tensor], targets: Sequence[Target], choose: Choose
) -> list[tuple[CandidateFeatures, ...]]:
    """What training would draw from in each image, by stage.

    Args:
        model: The detector in training mode, with stored statistics.
        images: N float tensors [3, H, W] in 0..1.
        targets: N targets, see :meth:`~lt_train.detectors.detector.LongTailDetector.forward`.
        choose: Whose features are wanted in the first stage; later ones have those of all their candidates.
    """
    batch, resized = model.transform(images, targets)
    heads = model.roi_heads
    stages: list[list[CandidateFeatures]] = []
    with model.autocast():
        maps = model.features(batch.tensors)
        proposals, _ = model.rpn(batch, maps, resized, with_losses=False)
        maps = heads.maps_for_pools(maps, batch.image_sizes)
        passed = [_Passed.proposed(boxes) for boxes in proposals]
        for index, stage in enumerate(heads.of_stages):
            if index:
                passed = _children(heads.of_stages[index - 1], stages[-1], resized, batch.image_sizes)
            found = _candidates(stage, passed, resized, _all if index else choose)
            boxes = [part.boxes[part.places] for part in found]
            hidden = stage.hidden(stage.box_roi_pool(maps, boxes, batch.image_sizes)).split([len(b) for b in boxes])
            stages.append([replace(part, hidden=own) for part, own in zip(found, hidden, strict=True)])
    return list(zip(*stages, strict=True))


def _all(labels: Tensor, target: Target) -> Tensor:
    return torch.arange(len(labels), device=labels.device)


def _candidates(
    stage: LongTailRoIHeads, passed: Sequence[_Passed], targets: Sequence[Target], choose: Choose
) -> list[CandidateFeatures]:
    """What a stage draws from in each image, without features yet."""
    found = stage.candidates([part.boxes for part in passed], targets)
    rows = []
    for part, boxes, labels, matched, truth, target in zip(
        passed, found.boxes, found.labels, found.matched, found.truth, targets, strict=True
    ):
        # of boxes that were passed the ground truth comes behind
        left_out = F.pad(part.of_truth, (0, len(truth)))
        labels = labels.masked_fill(left_out, OF_TRUTH)
        parents = F.pad(part.parents, (0, len(truth)), value=-1)
        overlap, places = _largest_overlap(truth, boxes), choose(labels, target)
        rows.append(CandidateFeatures(boxes, labels, matched, overlap, parents, places, boxes.new_empty(0)))
    return rows


def _children(
    stage: LongTailRoIHeads,
    found: Sequence[CandidateFeatures],
    targets: Sequence[Target],
    shapes: list[tuple[int, int]],
) -> list[_Passed]:
    """What the next stage is given: the candidates with features, as the stage refines them."""
    boxes = [part.boxes[part.places] for part in found]
    moved = refined(stage, boxes, F.relu(torch.cat([part.hidden for part in found])), shapes)
    rows = []
    for part, before, after, target in zip(found, boxes, moved, targets, strict=True):
        of_truth = are_truth(before, target) | (part.labels[part.places] == OF_TRUTH)
        rows.append(_Passed(after, part.places, of_truth))
    return rows


def _largest_overlap(truth: Tensor, boxes: Tensor) -> Tensor:
    if not len(truth):
        return boxes.new_zeros(len(boxes))
    overlap: Tensor = box_ops.box_iou(truth, boxes).amax(dim=0)
    return overlap


@torch.no_grad()
def proposal_features(model: LongTailDetector, image: Tensor) -> ProposalFeatures:
    """What the detections of an image come from.

    Args:
        model: The detector in evaluation mode.
        image: Float tensor [3, H, W] in 0..1.
    """
    batch, _ = model.transform([image], None)
    heads = model.roi_heads
    kept: list[Tensor] = []
    seen: list[Tensor] = []
    with model.autocast():
        maps = model.features(batch.tensors)
        boxes, _ = model.rpn(batch, maps, None)
        maps = heads.maps_for_pools(maps, batch.image_sizes)
        for index, stage in enumerate(heads.of_stages):
            if index:
                boxes = refined(heads.of_stages[index - 1], boxes, F.relu(seen[-1]), batch.image_sizes)
            kept.append(boxes[0])
            seen.append(stage.hidden(stage.box_roi_pool(maps, boxes, batch.image_sizes)))
    return ProposalFeatures(kept, seen, batch.image_sizes[0])


def losses_of_known(model: LongTailDetector, known: KnownRegions, targets: Sequence[Target]) -> dict[str, Tensor]:
    """The heads' losses of regions whose features are known: those that their images would give.

    Args:
        model: The detector; of its layers only the classifiers are called.
        known: The regions.
        targets: N targets with ``labels``, and ``draw_seed`` if keyed.
    """
    heads, losses = model.roi_heads, dict[str, Tensor]()
    with model.autocast():
        for index, (stage, part) in enumerate(zip(heads.of_stages, known.stages, strict=True)):
            features = F.relu(part.hidden.float())
            found = stage.losses(stage.classify(features), features, part.regions, targets, with_boxes=False)
            losses |= heads.named_losses(index, found)
    return losses


@torch.no_grad()
def trunk_maps(model: LongTailDetector, image: Tensor) -> dict[str, Tensor]:
    """Feature maps of an image that regions are pooled from, by name.

    Args:
        model: The detector in evaluation mode.
        image: Float tensor [3, H, W] in 0..1.
    """
    batch, _ = model.transform([image], None)
    with model.autocast():
        found: dict[str, Tensor] = model.roi_heads.maps_for_pools(model.features(batch.tensors), batch.image_sizes)
        return found


def detections_of_known(
    model: LongTailDetector,
    known: ProposalFeatures,
    original: tuple[int, int],
    maps: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Detections of an image whose proposals are known: those that the image would give alone.

    Args:
        model: The detector in evaluation mode; of its layers classifier, box regressor and mask branch are called.
        known: Its proposals.
        original: Height and width of the image in pixels.
        maps: Its feature maps, for masks; without them there are none.
    """
    heads = model.roi_heads
    kind = "none" if model.calibration is None else model.calibration.features
    with model.autocast():
        hidden = [part.float() for part in known.hidden]
        scores = heads.scores_from(_logits(model, hidden), [calibration_features_of(kind, part) for part in hidden])
        found = heads.of_stages[-1].detections(scores, F.relu(hidden[-1]), [known.boxes[-1]], [known.size])
        if maps is not None:
            heads.add_masks(found, maps, [known.size])
    detections: list[dict[str, Tensor]] = model.transform.postprocess(found, [known.size], [original])
    return detections[0]


def _logits(model: LongTailDetector, hidden: Sequence[Tensor]) -> list[Tensor]:
    """What each stage's classifier says of the regions [R, D] that it sees."""
    stages = zip(model.roi_heads.of_stages, hidden, strict=True)
    return [stage.classify(F.relu(part)) for stage, part in stages]


def calibration_features_of(kind: str, hidden: Tensor) -> Tensor | None:
    """Features that a calibration looks at, see :meth:`LongTailRoIHeads.calibration_features`.

    Args:
        kind: ``fc``, ``fc-relu``, ``none`` or ``logits``.
        hidden: [R, D].
    """
    assert kind != "conv", "internal error: the feature map is not known"
    if kind == "fc":
        return hidden
    return F.relu(hidden) if kind == "fc-relu" else None


def labelled_of_known(model: LongTailDetector, known: KnownRegions, kind: str) -> list[tuple[Tensor, Tensor]]:
    """Features and labels of regions, for a calibration to be fitted on.

    Args:
        model: The detector; of its layers at most the classifiers are called.
        known: The regions; for ``logits`` the same ones in all stages, each as the stages before have refined it.
        kind: ``fc``, ``fc-relu`` or ``logits``.

    Returns:
        For each classifier [R, size of the kind] and [R] int64 in 0..C. Of logits, which are averaged over the
        classifiers, there is one such pair.
    """
    hidden = [part.hidden.float() for part in known.stages]
    labels = [torch.cat(part.regions.labels) for part in known.stages]
    if kind == "logits":
        with torch.no_grad(), model.autocast():
            return [(mean_logits(_logits(model, hidden)), labels[0])]
    features = [calibration_features_of(kind, part) for part in hidden]
    return [(part, own) for part, own in zip(features, labels, strict=True) if part is not None]
