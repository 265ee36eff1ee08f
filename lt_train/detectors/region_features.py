"""Features of regions, taken from a frozen detector once and used again: what comes before them is not computed then.

What is kept of a region is its ``hidden`` vector: the second fully connected layer in front of its ReLU, from which
classifier, box regressor and the features of calibrations follow.

Shapes: N images, R regions over the batch, A candidates and P proposals of one image, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import boxes as box_ops

from lt_train.data.target import Target
from lt_train.detectors.regions.sampled import Regions

if TYPE_CHECKING:
    from lt_train.detectors.detector import LongTailDetector

# which candidates' features are wanted, by labels [A] and target: positions [n]
Choose = Callable[[Tensor, Target], Tensor]


@dataclass(frozen=True)
class KnownRegions:
    """Regions of a batch whose features are known; a detector takes them in place of images.

    Attributes:
        hidden: [R, D], any float type.
        regions: The same regions; they need no box targets, because nothing trains the boxes.
    """

    hidden: Tensor
    regions: Regions


@dataclass(frozen=True)
class CandidateFeatures:
    """The regions of an image that training draws from, and the features of some of them.

    Attributes:
        boxes: [A, 4], xyxy pixels of the resized image: proposals, then ground truth.
        labels: [A] int64 in 0..C, -1 for one that is not drawn.
        matched: [A] int64, index of the ground truth (0 where there is none).
        iou: [A], the largest overlap with any ground truth, 0 without any.
        places: [n] int64, ascending, whose features are here.
        hidden: [n, D].
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    iou: Tensor
    places: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class ProposalFeatures:
    """The regions of an image that its detections come from.

    Attributes:
        boxes: [P, 4], xyxy pixels of the resized image.
        hidden: [P, D].
        size: Height and width of the resized image in pixels.
    """

    boxes: Tensor
    hidden: Tensor
    size: tuple[int, int]


@torch.no_grad()
def candidate_features(
    model: LongTailDetector, images: Sequence[Tensor], targets: Sequence[Target], choose: Choose
) -> list[CandidateFeatures]:
    """What training would draw from in each image.

    Args:
        model: The detector in training mode, with stored statistics.
        images: N float tensors [3, H, W] in 0..1.
        targets: N targets, see :meth:`~lt_train.detectors.detector.LongTailDetector.forward`.
        choose: Whose features are wanted.
    """
    batch, resized = model.transform(images, targets)
    heads = model.roi_heads
    with model.autocast():
        maps = model.features(batch.tensors)
        proposals, _ = model.rpn(batch, maps, resized, with_losses=False)
        found = heads.candidates(proposals, resized)
        places = [choose(labels, target) for labels, target in zip(found.labels, resized, strict=True)]
        boxes = [part[index] for part, index in zip(found.boxes, places, strict=True)]
        hidden = heads.hidden(heads.box_roi_pool(maps, boxes, batch.image_sizes)).split([len(part) for part in boxes])
    overlaps = [_largest_overlap(*pair) for pair in zip(found.truth, found.boxes, strict=True)]
    columns = zip(found.boxes, found.labels, found.matched, overlaps, places, hidden, strict=True)
    return [CandidateFeatures(*image) for image in columns]


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
    with model.autocast():
        maps = model.features(batch.tensors)
        proposals, _ = model.rpn(batch, maps, None)
        hidden = model.roi_heads.hidden(model.roi_heads.box_roi_pool(maps, proposals, batch.image_sizes))
    return ProposalFeatures(proposals[0], hidden, batch.image_sizes[0])


def losses_of_known(model: LongTailDetector, known: KnownRegions, targets: Sequence[Target]) -> dict[str, Tensor]:
    """The head's losses of regions whose features are known: those that their images would give.

    Args:
        model: The detector; of its layers only the classifier is called.
        known: The regions.
        targets: N targets with ``labels``, and ``draw_seed`` if keyed.
    """
    heads = model.roi_heads
    with model.autocast():
        features = F.relu(known.hidden.float())
        return heads.losses(heads.classify(features), features, known.regions, targets, with_boxes=False)


@torch.no_grad()
def trunk_maps(model: LongTailDetector, image: Tensor) -> dict[str, Tensor]:
    """Feature maps of an image by level.

    Args:
        model: The detector in evaluation mode.
        image: Float tensor [3, H, W] in 0..1.
    """
    batch, _ = model.transform([image], None)
    with model.autocast():
        return model.features(batch.tensors)


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
    with model.autocast():
        hidden = known.hidden.float()
        features = F.relu(hidden)
        scores = _scores(model, heads.classify(features), hidden)
        found = heads.detections(scores, features, [known.boxes], [known.size])
        if maps is not None:
            heads.add_masks(found, maps, [known.size])
    detections: list[dict[str, Tensor]] = model.transform.postprocess(found, [known.size], [original])
    return detections[0]


def _scores(model: LongTailDetector, logits: Tensor, hidden: Tensor) -> Tensor:
    calibration = model.calibration
    if calibration is None:
        return model.head.scores(logits)
    return calibration.scores(logits, calibration_features_of(calibration.features, hidden))


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


def labelled_of_known(model: LongTailDetector, known: KnownRegions, kind: str) -> tuple[Tensor, Tensor]:
    """Features and labels of regions, for a calibration to be fitted on.

    Args:
        model: The detector; of its layers at most the classifier is called.
        known: The regions.
        kind: ``fc``, ``fc-relu`` or ``logits``.

    Returns:
        [R, size of the kind] and [R] int64 in 0..C.
    """
    hidden, labels = known.hidden.float(), torch.cat(known.regions.labels)
    if kind == "logits":
        with torch.no_grad(), model.autocast():
            return model.roi_heads.classify(F.relu(hidden)).float(), labels
    features = calibration_features_of(kind, hidden)
    assert features is not None, "internal error: a calibration is fitted on features"
    return features, labels
