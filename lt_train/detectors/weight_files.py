"""Files of weights: state dicts and checkpoints, of this project and of other tools, read without running code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from lt_data.errors import DataError
from lt_data.files.archives import check_archive
from lt_train.detectors.foreign.names import some
from lt_train.detectors.foreign.objects import Inert, load_inert
from lt_train.detectors.foreign.outcome import Converted
from lt_train.detectors.foreign.pixels import check_not_caffes
from lt_train.detectors.foreign.tools import converted
from lt_train.detectors.foreign.torchvision import ZERO_EPS, had_zero_eps
from lt_train.detectors.trunks.norm import fold_zero_eps

# detectors that torchvision has trained on COCO, and its files
COCO_FILES: Final[Mapping[str, Any]] = {
    "faster_rcnn_r50_fpn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "mask_rcnn_r50_fpn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "faster_rcnn_mobilenet_v3_large_fpn": FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
}
# a weight of those whose batch norms torchvision runs with eps 0 when it starts from them
ZERO_EPS_MARK = "backbone.body.layer1.0.conv1.weight"
# entries of a checkpoint that hold a state dict
STATES = ("model", "state_dict")
# of weights; what keeps eight bits or fewer of a number is of a quantised model, whose scales lie elsewhere
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# of counts and of masks beside the weights
WHOLES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

# dataset id and name of labels 1..C; other tools tell names alone
Categories = Sequence[tuple[int | None, str]]


@dataclass(frozen=True)
class FileWeights:
    """Weights of a file.

    Attributes:
        state: State dict with our names.
        categories: What they were trained for, where that is known.
        notes: What to know of the file, one sentence each.
    """

    state: dict[str, Tensor]
    categories: Categories | None
    notes: tuple[str, ...] = ()


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file of weights, with our names, see :func:`read_weights`.

    Raises:
        DataError: The file does not exist or holds something else.
    """
    return read_weights(path).state


def read_weights(path: str | Path) -> FileWeights:
    """Weights from a file with a state dict; of objects beside it no code is run.

    The state dict is all of the file, or its ``model`` (this project, torchvision's references, detectron2) or
    ``state_dict`` (mmdetection, Lightning).

    Raises:
        DataError: The file does not exist or holds something else, weights of a model that ours cannot be, or numbers
            that are not finite.
    """
    content = _read_tensors(path)
    found = converted(_state(content, path), content, Path(path))
    _check_finite(found.state, path)
    if "conv1.weight" in found.state:
        check_not_caffes(found.state, norm="bn1", where=str(path))
    of_resnet = ZERO_EPS_MARK in found.state
    for weights in COCO_FILES.values():
        # torchvision's own file under its own name: the batch norms of its ResNets were trained with eps 0
        if Path(path).name == Path(weights.url).name:
            state = fold_zero_eps(found.state) if of_resnet else found.state
            return FileWeights(state, list(enumerate(weights.meta["categories"]))[1:])
    if of_resnet and had_zero_eps(content):
        return FileWeights(fold_zero_eps(found.state), None, (*found.notes, ZERO_EPS))
    return FileWeights(found.state, _categories(content, found, path), found.notes)


def _state(content: Any, path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in the content of a file.

    Raises:
        DataError: There is none.
    """
    state = next((content[key] for key in STATES if key in content), content) if isinstance(content, Mapping) else None
    weights = state if isinstance(state, Mapping) else {}
    if any(isinstance(part, Inert) for part in (state, *weights.values())):
        raise DataError(_unreadable(path))
    if not weights or not all(isinstance(key, str) and is_plain_tensor(value) for key, value in weights.items()):
        raise DataError(
            f"weights: {path} holds no state dict of dense, real tensors (fractions of 16 bits and more, or whole "
            "numbers); allowed are a state dict, or a checkpoint of this project, torchvision's references, Lightning, "
            "mmdetection or detectron2"
        )
    return weights


def is_plain_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor that a weight can be copied from, and that is as large as the file's bytes."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided:
        return False
    if value.dtype not in FLOATS + WHOLES or value.device.type != "cpu":
        return False
    # a few bytes can be seen as a tensor of any size
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuses weights that training diverged to, or that are too large for the model's 32 bits.

    Raises:
        DataError: One has a number that is not finite.
    """
    wrong = [key for key, value in weights.items() if not bool(value.to(torch.float32).isfinite().all())]
    problem = "(its name here) has numbers that are not finite in 32 bits; give weights from before they diverged"
    if wrong:
        raise DataError(f"weights {path}: {line}" for line in some(wrong, problem))


def _categories(content: Mapping[str, Any], found: Converted, path: str | Path) -> Categories | None:
    if found.classes is not None:
        return [(None, name) for name in found.classes]
    return checkpoint_categories(content, path) if "model" in content else None


def checkpoint_categories(content: Mapping[str, Any], path: str | Path = "checkpoint") -> list[tuple[int, str]] | None:
    """Dataset id and name of labels 1..C from a checkpoint's ``categories``; ``None`` if it has no such entry.

    Args:
        content: A checkpoint of this project.
        path: Where it is from, for the message.

    Raises:
        DataError: The entry is not ``{"ids": [C whole numbers], "names": [C texts], ...}``.
    """
    entry = content.get("categories")
    if entry is None:
        return None
    ids, names = (entry.get("ids"), entry.get("names")) if isinstance(entry, Mapping) else (None, None)
    if (
        not (isinstance(ids, list) and isinstance(names, list) and len(ids) == len(names))
        or not all(isinstance(i, int) for i in ids)
        or not all(isinstance(n, str) for n in names)
    ):
        raise DataError(
            f"weights: {path} has categories without one id and one name each; save its state dict alone to go without"
        )
    return list(zip(ids, names, strict=True))


def _read_tensors(path: str | Path) -> Any:
    """What ``torch.save`` wrote, as long as no code is needed to rebuild it."""
    try:
        check_archive(Path(path))
        return load_inert(path)
    except DataError as error:
        raise DataError(f"weights: {problem}" for problem in error.problems) from None
    except OSError as error:
        raise DataError(
            f"weights: cannot read {path} ({error.strerror or error}); "
            "allowed are none, imagenet, coco or an existing file"
        ) from None
    # damaged files raise nearly anything; torch's own text advises to load them unsafely
    except Exception:
        raise DataError(_unreadable(path)) from None


def _unreadable(path: str | Path) -> str:
    if Path(path).suffix == ".pkl":
        return (
            f"weights: {path} is a pickle, as detectron2 publishes its weights, and reading one can run code; load it "
            "with detectron2 and save its model.state_dict() with torch.save, with config.yaml beside it"
        )
    return (
        f"weights: {path} is no file of tensors (it is damaged or cut short, or holds objects that only code could "
        "rebuild); save a state dict with torch.save"
    )
