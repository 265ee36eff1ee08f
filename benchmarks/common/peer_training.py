"""The peer of ``train_step.py``: Mask R-CNN trained as torchvision's reference scripts do it, in plain torchvision."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.functional import pil_to_tensor

Sample = tuple[Tensor, dict[str, Tensor]]
Batch = tuple[tuple[Tensor, ...], tuple[dict[str, Tensor], ...]]


class ReferenceDataset(Dataset[Sample]):
    """``CocoDetection`` with the references' conversion: a bitmap of full size for each instance, a random flip."""

    def __init__(self, annotations: Path) -> None:
        self.api = COCO(str(annotations))
        self.images = annotations.parent / "images"
        self.ids = sorted(self.api.imgs)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Sample:
        record = self.api.imgs[self.ids[row]]
        image = pil_to_tensor(Image.open(self.images / record["file_name"]).convert("RGB"))
        objects = self.api.imgToAnns[self.ids[row]]
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target = {
            "boxes": boxes,
            "labels": torch.tensor([o["category_id"] for o in objects], dtype=torch.int64),
            "masks": torch.stack([bitmap(o["segmentation"], record["height"], record["width"]) for o in objects]),
        }
        if random.random() < 0.5:
            image, target = flipped(image, target)
        return image.float() / 255, target


def bitmap(polygons: list[list[float]], height: int, width: int) -> Tensor:
    """The references' ``convert_coco_poly_to_mask`` for one instance."""
    drawn = coco_mask.decode(coco_mask.frPyObjects(polygons, height, width))
    return torch.as_tensor(drawn[..., None] if drawn.ndim < 3 else drawn, dtype=torch.uint8).any(dim=2)


def flipped(image: Tensor, target: dict[str, Tensor]) -> Sample:
    """Mirrors everything."""
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
    return image.flip(-1), {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}


def reference_model(classes: int, side: int, most: int) -> MaskRCNN:
    """ResNet-50-FPN as for pretrained weights: frozen batch norms, the first stages not trained."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    for name, buffer in backbone.named_buffers():
        # without statistics of real weights, sums of 16 blocks would grow beyond half precision
        if name.endswith("bn3.weight"):
            buffer.fill_(0.2)
    model = MaskRCNN(backbone, num_classes=classes + 1, min_size=side, max_size=most)
    for part in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
        nn.init.normal_(part.weight, std=0.01)
    return model


def freeze_all_but_the_classifier(model: nn.Module) -> None:
    """Stage 2, as somebody would do it with plain torchvision."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("roi_heads.box_predictor.cls_score"))


class ReferenceTraining:
    """The references' ``train_one_epoch``, a step at a time: autocast, gradient scaler, the loss looked at each step.

    Args:
        model: The model on its device; its trainable parameters are trained.
        batches: Batches.
        lr: Learning rate.
        half: Whether layers compute in fp16, as ``--amp`` does.
    """

    def __init__(self, model: nn.Module, batches: Iterator[Batch], *, lr: float, half: bool) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.model, self.batches, self.half = model.train(), batches, half
        self.optimizer = torch.optim.SGD(trained, lr=lr, momentum=0.9, weight_decay=1e-4)
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    def step(self) -> dict[str, float]:
        """One optimiser step; its losses."""
        images, targets = next(self.batches)
        moved = [image.to(self.device) for image in images]
        wanted = [{key: value.to(self.device) for key, value in target.items()} for target in targets]
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
            losses: dict[str, Tensor] = self.model(moved, wanted)
            total = torch.stack(list(losses.values())).sum()
        if not math.isfinite(total.item()):
            raise ArithmeticError(f"the peer's loss is {losses}")
        self.optimizer.zero_grad()
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # what the references log
        return {name: value.item() for name, value in losses.items()}


def reference_batches(annotations: Path, batch: int, workers: int, seed: int) -> Iterator[Batch]:
    """Shuffled batches without end, as the references' loader makes them."""
    random.seed(seed)
    data = ReferenceDataset(annotations)
    generator = np.random.default_rng(seed)

    def rows() -> Iterator[list[int]]:
        while True:
            order = generator.permutation(len(data)).tolist()
            yield from (order[i : i + batch] for i in range(0, len(order) - batch + 1, batch))

    collate: Any = _as_tuples
    yield from DataLoader(data, batch_sampler=rows(), num_workers=workers, collate_fn=collate)  # type: ignore[arg-type]


def _as_tuples(samples: list[Sample]) -> Batch:
    images, targets = zip(*samples, strict=True)
    return images, targets
