"""Calibrations: post-hoc methods that make other scores for a trained model. One file per method; this dict lists them.

A row is ``name: "module:class"``, so that listing the names imports no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lt_data.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from lt_train.calibration.base import Calibration
    from lt_train.heads.base import Head

__all__ = ["CALIBRATIONS", "calibration_options", "make_calibration", "searchable_options"]

CALIBRATIONS: dict[str, str] = {
    "tau-norm": "lt_train.calibration.tau_norm:TauNorm",
    "ncm": "lt_train.calibration.nearest_class_mean:NearestClassMean",
}
_WIRING = ("classifier", "feature_sizes")


def make_calibration(
    name: str, *, head: Head, classifier: nn.Linear, feature_sizes: Mapping[str, int], **options: Any
) -> Calibration:
    """The calibration called ``name`` for a model, not fitted yet.

    Args:
        name: A key of ``CALIBRATIONS``.
        head: The model's head.
        classifier: The linear layer in front of it.
        feature_sizes: Size of the ``fc`` and ``conv`` features that the model can give.
        **options: Options of the method, see :func:`calibration_options`.

    Raises:
        RecipeError: The name or an option is unknown, a value is out of range, or the method does not fit the head.
    """
    known = calibration_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = ", ".join(known)
        raise RecipeError(f"calibration {name}: unknown option {key!r}; allowed are {allowed}" for key in unknown)
    return _class_of(name)(head, classifier=classifier, feature_sizes=feature_sizes, **options)


def calibration_options(name: str) -> dict[str, Any]:
    """Options of a calibration and their defaults.

    Raises:
        RecipeError: No calibration has that name.
    """
    parameters = inspect.signature(_class_of(name)).parameters
    return {k: p.default for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY and k not in _WIRING}


def searchable_options(name: str) -> tuple[str, ...]:
    """Options of a calibration that are numbers: a search can try values of them.

    Raises:
        RecipeError: No calibration has that name.
    """
    searchable: tuple[str, ...] = _class_of(name).searchable
    return searchable


def _class_of(name: str) -> Any:
    if name not in CALIBRATIONS:
        raise RecipeError(f"calibration: got {name!r}; allowed are {', '.join(sorted(CALIBRATIONS))}")
    module, _, attribute = CALIBRATIONS[name].partition(":")
    return getattr(import_module(module), attribute)
