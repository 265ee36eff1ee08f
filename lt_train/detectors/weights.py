"""Weights from files and from torchvision.

What fits is loaded, what depends on the classes starts anew, everything else is an error.
Keys are torchvision's; checkpoints of this project, torchvision's detectors and bare ResNets all load.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

from lt_data.errors import DataError, RecipeError
from lt_train.detectors.backbone import is_resnet
from lt_train.detectors.norm import fold_zero_eps

HEAD = "roi_heads.head."
CLASSIFIER = "roi_heads.box_predictor.cls_score"
# first dimension of their weights and biases is a number of classes or logits
CLASS_LAYERS = (CLASSIFIER, "roi_heads.box_predictor.bbox_pred", "roi_heads.mask_predictor.mask_fcn_logits")
TRUNK = "backbone.body."
COCO_FILES = tuple(w.COCO_V1 for w in (FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights))


@dataclass(frozen=True)
class LoadReport:
    """What came out of loading weights.

    Attributes:
        loaded: Tensors taken over.
        reinitialised: Layers that keep their initial values, in the model's order.
    """

    loaded: int
    reinitialised: tuple[str, ...]


def load_weights(model: Any, source: str | Path) -> LoadReport:
    """Load weights by name or from a file.

    Args:
        model: A freshly built :class:`~lt_train.detectors.detector.LongTailDetector`.
        source: ``none``; ``imagenet`` or ``coco`` (torchvision's, downloaded once and checked by hash); or the path of
            a state dict or of a checkpoint with a ``model`` entry.

    Raises:
        RecipeError: A name is asked for that the model has no weights of.
        DataError: The file cannot be read, or a weight is missing, unexpected or of another shape.
    """
    if source == "none":
        return LoadReport(0, ())
    state = _published(model, str(source)) if source in ("imagenet", "coco") else read_state_dict(source)
    return _load(model, state, str(source))


def initialise_from(model: Any, state: Mapping[str, Tensor]) -> LoadReport:
    """Start a model from the weights of another one, for example stage 2 from stage 1.

    The classifier starts anew if its width or the meaning of its logits differs; box regressor and mask logits if the
    number of classes does. The head's buffers stay the new model's.

    Args:
        model: A freshly built :class:`~lt_train.detectors.detector.LongTailDetector`.
        state: State dict of the other model.

    Raises:
        DataError: A weight is missing, unexpected or of another shape.
    """
    return _load(model, state, "state dict")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file that holds one, or a checkpoint with one under ``model``; nothing is unpickled.

    Raises:
        DataError: The file does not exist or holds something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(
            f"weights: cannot read {path} ({error.strerror}); allowed are none, imagenet, coco or an existing file"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"weights: {path} is no file of tensors ({reason}); save a state dict with torch.save"
        ) from None
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(
            f"weights: {path} holds no state dict; allowed are a state dict or a checkpoint of this project"
        )
    state = dict(state)
    # torchvision's own file under its own name: its batch norms were trained with eps 0
    return fold_zero_eps(state) if Path(path).name in {Path(w.url).name for w in COCO_FILES} else state


def _published(model: Any, name: str) -> Mapping[str, Tensor]:
    """Published weights for the model; the one place that downloads."""
    if not is_resnet(model.backbone):
        raise RecipeError(f"model.weights: {name!r} exists for the ResNet-50 models; allowed are none or a file")
    if name == "imagenet":
        weights: Any = ResNet50_Weights.IMAGENET1K_V1
    else:
        weights = COCO_FILES[1] if model.roi_heads.has_mask() else COCO_FILES[0]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"model.weights: cannot download {weights.url} ({error}); fetch it on another machine and give its path"
        ) from None
    return state if name == "imagenet" else fold_zero_eps(dict(state))


def _load(model: nn.Module, source: Mapping[str, Tensor], where: str) -> LoadReport:
    state = dict(source)
    trunk_only = "conv1.weight" in state and not any(key.startswith("backbone.") for key in state)
    if trunk_only:
        state = {f"{TRUNK}{key}": value for key, value in state.items() if not key.startswith("fc.")}
    own = model.state_dict()
    anew = _layers_anew(model, own, state)
    state = {k: v for k, v in state.items() if not k.startswith(HEAD) and k.rpartition(".")[0] not in anew}
    problems = [
        f"weights {where}: {key} is {tuple(state[key].shape)}, the model has {tuple(value.shape)}; "
        "choose the model that the weights belong to"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        raise DataError(problems)
    missing, unexpected = _copy(model, state, where)
    if trunk_only:
        anew += _layers(key for key in missing if not key.startswith((TRUNK, HEAD)))
    missing = [key for key in missing if not key.startswith(HEAD) and key.rpartition(".")[0] not in anew]
    if missing or unexpected:
        raise DataError(
            [f"weights {where}: {key} is missing; needed is every layer of the model" for key in missing]
            + [f"weights {where}: {key} has no place in the model; choose its own model" for key in unexpected]
        )
    taken = [k for k in own if not k.startswith(HEAD) and not k.endswith("num_batches_tracked")]
    return LoadReport(sum(k.rpartition(".")[0] not in anew for k in taken), tuple(anew))


def _copy(model: nn.Module, state: Mapping[str, Tensor], where: str) -> tuple[list[str], list[str]]:
    """Copy what fits; keys that are missing and keys that are unexpected. Renames keys of older torchvision files."""
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise DataError(f"weights {where}: {line}" for line in lines) from None
    return result.missing_keys, result.unexpected_keys


def _layers_anew(model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Class-dependent layers that cannot be taken over, in the model's order."""
    anew = [
        layer
        for layer in CLASS_LAYERS
        if any(_rows_differ(own.get(f"{layer}.{part}"), state.get(f"{layer}.{part}")) for part in ("weight", "bias"))
    ]
    other_classes = any(layer != CLASSIFIER for layer in anew)
    other_layout = any(
        f"{HEAD}{name}" in state and not torch.equal(state[f"{HEAD}{name}"].cpu(), own[f"{HEAD}{name}"].cpu())
        for name in model.head.layout_buffers
    )
    # equal widths do not make equal logits
    if (other_classes or other_layout) and CLASSIFIER not in anew:
        anew.insert(0, CLASSIFIER)
    return anew


def _rows_differ(own: Tensor | None, other: Tensor | None) -> bool:
    if own is None or other is None or own.ndim != other.ndim:
        return False
    return own.shape[0] != other.shape[0] and own.shape[1:] == other.shape[1:]


def _layers(keys: Iterable[str]) -> list[str]:
    """Layer names of the keys, each once, in order."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
