"""All random changes of a training image, in their order; each is keyed by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lt_train.augment.colours import change_colours
from lt_train.augment.options import AugmentSection
from lt_train.augment.paste import Sources, paste
from lt_train.augment.windows import crop, rescale, window_around
from lt_train.data.dataset import DetectionDataset, Sample
from lt_train.data.plan import Draw
from lt_train.data.target import Target
from lt_train.randomness import keyed_generator


@dataclass(frozen=True)
class Augmentation:
    """What a :class:`DetectionDataset` does with a sample before it is flipped: paste, crop, rescale, change colours.

    Attributes:
        options: What is changed, and how much.
        sources: What can be pasted, or ``None``.
    """

    options: AugmentSection
    sources: Sources | None = None

    @property
    def needs_masks(self) -> bool:
        """Whether targets need ``InstanceMasks``."""
        return self.sources is not None

    def __call__(self, dataset: DetectionDataset, draw: Draw, image: Tensor, target: Target) -> Sample:
        """Changes the sample of a draw.

        Args:
            dataset: What the sample is of.
            draw: Keys every change, with the seed of the dataset.
            image: uint8 [3, H, W].
            target: Its objects.
        """
        options, key = self.options, (draw.epoch, draw.position, target["image_id"])

        def keyed(purpose: str) -> torch.Generator:
            return keyed_generator(dataset.seed, purpose, *key)

        if self.sources is not None:
            image, target = paste(image, target, dataset, self.sources, options.paste, keyed("paste"))
        if options.crop is not None:
            draws = torch.rand(5, dtype=torch.float64, generator=keyed("crop"))
            window = window_around(target, (image.shape[1], image.shape[2]), options.crop, draws)
            image, target = crop(image, target, window, options.kept)
        if options.scale is not None:
            draws = torch.rand(3, dtype=torch.float64, generator=keyed("scale"))
            assert dataset.max_size is not None
            image, target = rescale(
                image, target, options.scale, max_size=dataset.max_size, kept=options.kept, draws=draws
            )
        if any(options.colours):
            image = change_colours(image, options.colours, keyed("colours"))
        return image, target


def describe(options: AugmentSection, sources: Sources | None, images: int) -> list[str]:
    """Lines about what training images go through; none if nothing.

    Args:
        options: What is changed.
        sources: What can be pasted.
        images: Images that the run sees.
    """
    changes = [
        *([f"scale {options.scale[0]:g} to {options.scale[1]:g}"] if options.scale else []),
        *([f"windows of {options.crop[0]:g} to {options.crop[1]:g} of each side"] if options.crop else []),
        *([f"colours {', '.join(f'{largest:g}' for largest in options.colours)}"] if any(options.colours) else []),
    ]
    lines = [f"augmentation: {'; '.join(changes)}"] if changes else []
    if sources is not None:
        most = options.paste.objects
        lines.append(
            f"copy-paste: 0 to {most} objects an image, drawn from {len(sources.annotations):,} with a mask of "
            f"{len(sources.start) - 1:,} classes, every class as often; about {images * most / 2:,.0f} of their images "
            "are read besides those of the budget; counts of instances, and those seen, are of the file's own"
        )
    return lines
