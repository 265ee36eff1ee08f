"""Samples of images whose features are kept: the regions that training would draw of an image, and their features.

A sample holds what the direct path would have after sampling and the fully connected layers: the same draw by the same
key over the candidates whose features are kept. With all of them kept it is the same draw. A later stage of a cascade
draws among the children of what the stage before drew, and the ground truth, in the order of the direct path.

Shapes: S stages, A candidates of an image, R regions drawn of it, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lt_data.errors import DataError
from lt_train.data.dataset import DetectionDataset
from lt_train.data.plan import Draw
from lt_train.data.target import Target
from lt_train.detectors import LongTailDetector
from lt_train.detectors.region_features import OF_TRUTH
from lt_train.detectors.regions.sampling import BoxSampler, image_seeds
from lt_train.features import layout
from lt_train.features.reading import Cache, Slice

Which = Literal["sampled", "proposals", "ground-truth"]


class StageSample(NamedTuple):
    """Regions of an image that a stage sees.

    Attributes:
        labels: [R] int64 in 0..C.
        matched: [R] int64, index of the ground truth.
        positives: How many of them stand for an object; these come first.
        rows: [R] int64, where their features are: in the shard, or in the whole cache where the GPU has all of it.
        hidden: [R, D]; ``None`` where the GPU has the features already.
    """

    labels: Tensor
    matched: Tensor
    positives: int
    rows: Tensor
    hidden: Tensor | None


class Sample(NamedTuple):
    """Regions of an image.

    Attributes:
        stages: What each stage of the detector sees.
    """

    stages: Sequence[StageSample]


def no_regions(features: int, stages: int) -> Sample:
    """The sample of no region.

    Args:
        features: D.
        stages: S.
    """
    none = torch.zeros(0, dtype=torch.int64)
    return Sample([StageSample(none, none, 0, none, torch.zeros(0, features))] * stages)


@dataclass(frozen=True)
class StageDraw:
    """How a stage draws regions.

    Attributes:
        sampler: Of it.
        key: Tells its draws from those of other stages.
    """

    sampler: BoxSampler
    key: tuple[int, ...]


def stage_draws(model: LongTailDetector) -> list[StageDraw]:
    """How each stage of a detector draws."""
    return [StageDraw(stage.fg_bg_sampler, stage.draw_key) for stage in model.roi_heads.of_stages]


class _Chosen(NamedTuple):
    """Places of candidates of an image.

    Attributes:
        used: [R] int64, those of the sample.
        positives: How many of them, from the first on, stand for an object.
        drawn: [R'] int64, those whose children the next stage chooses among.
    """

    used: Tensor
    positives: int
    drawn: Tensor


class KnownDataset(Dataset[tuple[Sample, Target]]):
    """Samples of the images of a training set, asked for by the same draws as those of ``DetectionDataset``.

    Args:
        images: Gives objects, keys and flips; no file of it is opened.
        cache: Features of the same images.
        draws: How each stage draws the regions.
        which: The regions wanted: what training draws, its foreground, or the ground truth.
        followed: Whether later stages see the regions of the first one, as those before have refined them, and no
            other: as in detection.
        with_features: Whether samples hold their features.
    """

    def __init__(
        self,
        images: DetectionDataset,
        cache: Cache,
        draws: Sequence[StageDraw],
        *,
        which: Which = "sampled",
        followed: bool = False,
        with_features: bool = True,
    ) -> None:
        self.images = images
        self.cache = cache
        self.draws = draws
        self.which = which
        self.followed = followed
        self.with_features = with_features

    def __getitem__(self, draw: Draw) -> tuple[Sample, Target]:
        """The sample of a draw.

        Raises:
            DataError: The image could not be read when the features were made.
        """
        flipped, target = self.images.is_flipped(draw), self.images.target(draw)
        stages: list[StageSample] = []
        before: _Chosen | None = None
        for stage, how in enumerate(self.draws):
            found = self.cache.find(draw.row, flipped=flipped, stage=stage)
            if not found.columns[layout.READABLE][found.version]:
                raise DataError(
                    f"image {target['image_id']}: could not be read when {self.cache.path} was made; set "
                    "data.on_bad_image=skip, or mend it and make the features again"
                )
            labels = _tensor(found.of(layout.LABELS))
            before = self._chosen(found, labels, target, how, before)
            stages.append(self._sample(found, labels, target, before))
        return Sample(stages), target

    def _chosen(self, found: Slice, labels: Tensor, target: Target, how: StageDraw, before: _Chosen | None) -> _Chosen:
        """Places of the regions among the candidates of a stage, those of objects first."""
        truth = torch.arange(len(labels) - len(target["labels"]), len(labels))
        children = None if before is None else _children(found, before.drawn)
        if self.followed and children is not None:
            return _Chosen(children, 0, children)
        if self.which == "ground-truth":
            return _Chosen(truth, len(truth), truth)
        if children is None:
            # a candidate without features is not drawn
            kept = _tensor(found.of(layout.PLACES))
            among, open_to = torch.arange(len(labels)), torch.full_like(labels, -1)
            open_to[kept] = labels[kept]
        else:
            # the ground truth itself is there, in the place of what it was refined to
            among = torch.cat([children[labels[children] != OF_TRUTH], truth])
            open_to = labels[among]
        (places,), (positives,) = how.sampler.places([open_to], image_seeds([target], "roi", *how.key))
        drawn = among[places]
        return _Chosen(drawn[:positives] if self.which == "proposals" else drawn, positives, drawn)

    def _sample(self, found: Slice, labels: Tensor, target: Target, chosen: _Chosen) -> StageSample:
        places, own = chosen.used, labels[chosen.used]
        if self.which == "ground-truth" and len(own) == len(target["labels"]):
            # of two objects with the same box each has its own label
            own = target["labels"]
        matched = _tensor(found.of(layout.MATCHED))[places]
        rows = torch.searchsorted(_tensor(found.of(layout.PLACES)), places) + found.kept.start
        if not self.with_features:
            rows = rows + self.cache.first_rows[found.stage][found.shard]
            return StageSample(own, matched, chosen.positives, rows, None)
        hidden = torch.from_numpy(np.asarray(found.whole(layout.FEATURES)[rows.numpy()]))
        return StageSample(own, matched, chosen.positives, rows, hidden)


def _children(found: Slice, parents: Tensor) -> Tensor:
    """Places of the candidates that were refined from those of the stage before."""
    own = _tensor(found.of(layout.PARENTS))
    # behind them comes the ground truth, which has no parents
    return torch.searchsorted(own[own >= 0], parents)


def _tensor(column: Any) -> Tensor:
    return torch.from_numpy(np.asarray(column, np.int64))
