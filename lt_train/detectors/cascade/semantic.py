"""The semantic branch of Hybrid Task Cascade: what every pixel shows, things and stuff, and features of it for regions.

Shapes: N images, R regions, D channels of the pyramid, H x W padded pixels, h x w = H/8 x W/8 cells.

Source: Chen et al., "Hybrid Task Cascade for Instance Segmentation", CVPR 2019, section 3.3, with the sizes of
mmdetection, which the released code of BAGS has too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign

from lt_data.errors import DataError, RecipeError
from lt_data.files.stuff_maps import UNLABELLED
from lt_train.data.target import Target
from lt_train.global_batch import divisor

# under which name the feature map lies beside those of the pyramid
SEMANTIC: Final = "semantic"
STRIDE: Final = 8
# 182 labels of COCO-Stuff, and one that no pixel has
NUM_STUFF: Final = 183
LOSS_WEIGHT: Final = 0.2
CELLS: Final = 14


class SemanticBranch(nn.Module):
    """All levels of the pyramid, resized to the one of stride 8 and added up, become labels and features of cells.

    Args:
        channels: D.
        levels: Number of levels of the pyramid.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(_layer(channels, 1) for _ in range(levels))
        self.convs = nn.Sequential(*(_layer(channels, 3) for _ in range(4)))
        self.embedding = _layer(channels, 1)
        self.logits = _convolution(channels, NUM_STUFF, 1)

    def hidden(self, features: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]) -> Tensor:
        """What labels and features are made of.

        Args:
            features: The levels, [N, D, h_l, w_l] each.
            image_shapes: (height, width) of the images inside the padding, in pixels.

        Returns:
            [N, D, h, w].
        """
        size = features[level_of_stride(features, image_shapes)].shape[-2:]
        maps = [
            level if level.shape[-2:] == size else F.interpolate(level, size, mode="bilinear", align_corners=True)
            for level in features
        ]
        parts: Any = (lateral(part) for lateral, part in zip(self.laterals, maps, strict=True))
        found: Tensor = self.convs(sum(parts))
        return found

    def features(self, hidden: Tensor) -> Tensor:
        """[N, D, h, w] -> [N, D, h, w], of which regions take their part."""
        found: Tensor = self.embedding(hidden)
        return found

    def loss(self, hidden: Tensor, targets: Sequence[Target]) -> Tensor:
        """Mean cross-entropy over the cells that have a label, times ``LOSS_WEIGHT``; 0 without any.

        Args:
            hidden: [N, D, h, w].
            targets: N targets with ``stuff``.

        Raises:
            DataError: A target has no ``stuff``.
        """
        wanted = stuff_cells(targets, hidden)
        logits = self.logits(hidden).float()
        total = F.cross_entropy(logits, wanted, ignore_index=UNLABELLED, reduction="sum")
        return LOSS_WEIGHT * total / divisor((wanted != UNLABELLED).sum())


def level_of_stride(features: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]) -> int:
    """Which level has the stride 8: the coarsest that, at this stride, covers the images.

    Images are padded to multiples of 32 pixels, so the next one would cover half of that, which is less than an image
    as soon as one side of it has more than 16 pixels.

    Args:
        features: The levels from the finest, [N, D, h_l, w_l] each.
        image_shapes: (height, width) of the images inside the padding, in pixels.

    Raises:
        RecipeError: All levels are coarser.
    """
    height, width = (max(sides) for sides in zip(*image_shapes, strict=True))
    covering = [
        level
        for level, found in enumerate(features)
        if found.shape[-2] * STRIDE >= height and found.shape[-1] * STRIDE >= width
    ]
    if not covering:
        raise RecipeError(
            f"model.semantic: got stuff, and the trunk of model.name has no feature map of stride {STRIDE}, which the "
            "semantic branch is laid on; choose a ResNet or ResNeXt, lite0 or small, or set model.semantic=none"
        )
    return covering[-1]


def stuff_cells(targets: Sequence[Target], like: Tensor) -> Tensor:
    """The label of the first pixel of each cell, int64 [N, h, w]; cells of the padding have none.

    The images of the released code are padded with 0, which is the label of a person.

    Args:
        targets: N targets with ``stuff`` in the size of the resized images.
        like: [N, D, h, w].

    Raises:
        DataError: A target has no ``stuff``.
    """
    if any("stuff" not in target for target in targets):
        raise DataError("stuff: missing in a training target; model.semantic=stuff needs the stuff map of every image")
    cells = like.new_full((len(like), *like.shape[-2:]), UNLABELLED, dtype=torch.int64)
    for row, target in zip(cells, targets, strict=True):
        part = target["stuff"][::STRIDE, ::STRIDE]
        row[: part.shape[0], : part.shape[1]] = part
    return cells


class WithSemantic(nn.Module):
    """Pooled feature maps of regions with the part of the semantic features added, averaged to the same size.

    Args:
        pool: Cuts regions out of the pyramid, as torchvision's ``MultiScaleRoIAlign`` does.
    """

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__()
        self.pool = pool
        self.output_size = pool.output_size
        self.semantic_pool = MultiScaleRoIAlign([SEMANTIC], CELLS, pool.sampling_ratio)

    def forward(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """[R, D, P, P] of the regions of all images; ``features`` has ``SEMANTIC`` beside the levels."""
        pooled: Tensor = self.pool(features, boxes, image_shapes)
        semantic: Tensor = self.semantic_pool(features, boxes, image_shapes)
        return pooled + F.adaptive_avg_pool2d(semantic, (pooled.shape[-2], pooled.shape[-1]))


def _layer(channels: int, side: int) -> nn.Sequential:
    """A convolution that keeps the size, and ReLU."""
    return nn.Sequential(_convolution(channels, channels, side), nn.ReLU(inplace=True))


def _convolution(inputs: int, outputs: int, side: int) -> Any:
    conv: Any = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv
