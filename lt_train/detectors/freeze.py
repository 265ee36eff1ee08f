"""Which weights of a detector are trained.

``all`` is a baseline; ``classifier`` is stage 2 of BAGS; ``head`` and ``head+reg`` lie between.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def set_trainable(model: Any, part: str) -> list[str]:
    """Sets what is trained, and fixes the statistics of every batch norm unless it is ``all``.

    Args:
        model: A :class:`~lt_train.detectors.detector.LongTailDetector`.
        part: ``all`` (everything; of a pretrained trunk all but its first stages), ``head`` (two fully connected
            layers and the classifier), ``head+reg`` (with the box regressor), ``classifier``, ``scale`` (the factors of
            a scaled or cosine classifier), ``calibrated`` (a second head) or ``none``.

    Returns:
        Names of the trainable parameters, in the model's order.

    Raises:
        RecipeError: No part has that name.

    Source: ``selectp`` of the released BAGS code (0, -, 2, 1).
    """
    parts, names = model.parts(part), []
    for name, parameter in model.named_parameters():
        chosen = name.startswith(parts) and not name.startswith(model.frozen)
        parameter.requires_grad_(chosen)
        names += [name] if chosen else []
    model.stored_statistics = part != "all"
    model.train(model.training)
    return names


def is_trainable(*modules: nn.Module) -> bool:
    """Whether any parameter of the modules is trained."""
    return any(parameter.requires_grad for module in modules for parameter in module.parameters())
