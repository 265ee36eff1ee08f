"""How the arithmetic of a run is done: precision, memory format, compiled parts."""

from __future__ import annotations

import torch
from torchvision.ops import MultiScaleRoIAlign

from lt_data.errors import RecipeError
from lt_train.detectors import LongTailDetector
from lt_train.recipe.sections import ComputeSection

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


# pixels a side: a multiple of every stride, and next to nothing to compute
_SQUARE = 128


def prepare(model: LongTailDetector, compute: ComputeSection, device: torch.device) -> LongTailDetector:
    """Moves a model to its device and sets how it computes; its weights and their names stay.

    Args:
        model: The detector; changed.
        compute: What the recipe asks for.
        device: Where to.

    Raises:
        RecipeError: The device cannot compute like that, or nothing can be compiled here.
    """
    if compute.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise RecipeError("compute.precision: this GPU has no bf16; use compute.precision=fp16")
    model = model.to(device)
    model.precision = PRECISIONS[compute.precision]
    if compute.channels_last:
        model.channels_last = True
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _settle_pools(model, device)
    if compute.compile:
        _check_compiler(device)
        _compile(model)
    return model


def _check_compiler(device: torch.device) -> None:
    """Compiles a line, so that a missing compiler is no traceback in the first step."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(2, device=device))
    # each backend has errors of its own
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise RecipeError(
            f"compute.compile: PyTorch cannot compile for {device.type} here ({reason}); install a C++ compiler such "
            "as g++, or use compute.compile=false"
        ) from None


def _compile(model: LongTailDetector) -> None:
    for part in model.compilable():
        # the number of regions and the size of images change all the time
        part.compile(dynamic=True)


@torch.inference_mode()
def _settle_pools(model: LongTailDetector, device: torch.device) -> None:
    """Lets the pools of regions measure the scale of each feature map on a square.

    torchvision measures it once, on the first image, from its sides before it is padded: after a very narrow one all
    images would be pooled at wrong places.
    """
    was_training = model.training
    model.eval()
    square, sizes = torch.zeros(1, 3, _SQUARE, _SQUARE, device=device), [(_SQUARE, _SQUARE)]
    box = torch.tensor([[0.0, 0.0, _SQUARE, _SQUARE]], device=device)
    with model.autocast():
        maps = model.roi_heads.maps_for_pools(model.features(square), sizes)
        for pool in model.modules():
            if isinstance(pool, MultiScaleRoIAlign):
                pool(maps, [box], sizes)
    model.train(was_training)
