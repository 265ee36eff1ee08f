"""torchvision's input transform with a keyed image size and flat masks.

Shapes: images [3, H, W] in 0..1; boxes xyxy pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lt_train.data.images import resized_size
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.target import Target


class LongTailTransform(GeneralizedRCNNTransform):
    """Normalises, resizes and batches; made from a stock transform by :meth:`from_stock`.

    A target's ``short_side`` (pixels) replaces torchvision's random choice among the training sizes; masks are
    ``InstanceMasks``, or ``MaskRuns`` of the resized image. Detections come back with boxes in the original image and
    masks untouched.

    Attributes:
        test_min_size: Short side in evaluation, in pixels; ``None`` is the last of the training sizes.
        test_max_size: Largest long side in evaluation; ``None`` is that of training.
    """

    test_min_size: int | None = None
    test_max_size: int | None = None
    _copied: Tensor | None = None

    @classmethod
    def from_stock(cls, stock: GeneralizedRCNNTransform) -> LongTailTransform:
        """Takes over the settings of ``stock``."""
        return cls(stock.min_size, stock.max_size, stock.image_mean, stock.image_std, stock.size_divisible)

    def normalize(self, image: Tensor) -> Tensor:
        """Torchvision's, with mean and deviation copied to a device once: each copy would wait for it."""
        if not image.is_floating_point():
            raise TypeError(f"images: float tensors in 0..1 are needed; got {image.dtype}")
        mean, std = self._constants(image.dtype, image.device)
        return (image - mean) / std

    def _constants(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Mean and deviation of the channels, [2, 3, 1, 1]."""
        if self._copied is None or self._copied.dtype != dtype or self._copied.device != device:
            # made while detecting, they serve training too
            with torch.inference_mode(False):
                values = torch.tensor([self.image_mean, self.image_std], dtype=dtype, device=device)
            self._copied = values[..., None, None]
        return self._copied

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        """Image and target in the size that the model sees; the target is changed in place.

        Args:
            image: [3, H, W].
            target: ``boxes`` [n, 4]; ``ignore`` [m, 4], ``masks``, ``stuff`` and ``short_side`` if any.

        Raises:
            ValueError: Runs are of another size.
        """
        height, width = image.shape[-2:]
        longest = self.max_size if self.training or self.test_max_size is None else self.test_max_size
        size = resized_size(height, width, self._short_side(target), longest)
        if size != (height, width):
            image = F.interpolate(_batch_of_one(image), size=size, mode="bilinear", align_corners=False)[0]
        if target is not None:
            for key in ("boxes", "ignore"):
                if key in target:
                    target[key] = _resized(target[key], (height, width), size)
            if "stuff" in target:
                # labels are not mixed
                target["stuff"] = F.interpolate(target["stuff"][None, None], size=size, mode="nearest")[0, 0]
            masks = target.get("masks")
            if isinstance(masks, InstanceMasks):
                target["masks"] = masks.resize(*size)
            elif masks is not None and (masks.height, masks.width) != size:
                raise ValueError(f"masks: runs of the resized image, which is {size[0]} x {size[1]}, are needed")
        return image, target

    def _short_side(self, target: Target | None) -> int:
        if not self.training:
            return int(self.min_size[-1]) if self.test_min_size is None else self.test_min_size
        if target is not None and "short_side" in target:
            return int(target["short_side"])
        return int(self.torch_choice(self.min_size))


def _batch_of_one(image: Tensor) -> Tensor:
    """[3, H, W] -> [1, 3, H, W], with strides that tell the CPU that a pixel's channels lie together.

    Decoders leave them so; with the strides of ``image[None]`` resizing takes another way, twice as slow.
    """
    if image.device.type != "cpu" or image.stride() != (1, 3 * image.shape[2], 3):
        return image[None]
    return image.as_strided((1, *image.shape), (image.numel(), *image.stride()))


def _resized(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Torchvision's ``resize_boxes`` without copying its two ratios to the device, which would wait for it."""
    ratio_height, ratio_width = (float(np.float32(n) / np.float32(o)) for n, o in zip(new, old, strict=True))
    scaled = boxes.clone()
    scaled[:, 0::2] *= ratio_width
    scaled[:, 1::2] *= ratio_height
    return scaled
