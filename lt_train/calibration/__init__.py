"""Calibrations: post-hoc methods that make other scores for a trained model. One file per method.

The table and the union of options here list them. A row of the table is ``name: "module:class"``, so that listing the
names imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lt_data.errors import RecipeError
from lt_train.calibration.options import (
    FracalOptions,
    LogitAdjustmentOptions,
    LogNOptions,
    NearestClassMeanOptions,
    NoCalibration,
    NorCalOptions,
    TauNormOptions,
)
from lt_train.options.section import Section, make_section, numeric_options, option_defaults, sections_of

if TYPE_CHECKING:
    from torch import nn

    from lt_train.calibration.base import Calibration
    from lt_train.heads.shared.base import Head

__all__ = ["CALIBRATIONS", "CalibrationOptions", "calibration_options", "make_calibration", "searchable_options"]

CALIBRATIONS: dict[str, str] = {
    "tau-norm": "lt_train.calibration.tau_norm:TauNorm",
    "ncm": "lt_train.calibration.nearest_class_mean:NearestClassMean",
    "norcal": "lt_train.calibration.norcal:NorCal",
    "logit-adjustment": "lt_train.calibration.logit_adjustment:LogitAdjustment",
    "fracal": "lt_train.calibration.fracal:Fracal",
    "logn": "lt_train.calibration.logn:LogN",
}
# the options of each of them, and of none
CalibrationOptions = Annotated[
    NoCalibration
    | TauNormOptions
    | NearestClassMeanOptions
    | NorCalOptions
    | LogitAdjustmentOptions
    | FracalOptions
    | LogNOptions,
    Field(discriminator="name"),
]


def make_calibration(
    name: str, *, head: Head, classifier: nn.Linear, feature_sizes: Mapping[str, int], **options: Any
) -> Calibration:
    """The calibration called ``name`` for a model, not fitted yet.

    Args:
        name: A key of ``CALIBRATIONS``.
        head: The model's head.
        classifier: The linear layer in front of it.
        feature_sizes: Size of each kind of features that the model can give: ``fc``, ``fc-relu`` and ``conv``.
        **options: Options of the method, see :func:`calibration_options`.

    Raises:
        RecipeError: The name or an option is unknown, a value is out of range, or the method does not fit the head.
    """
    chosen = make_section(_section(name), options, where=f"calibration {name}")
    module, _, attribute = CALIBRATIONS[name].partition(":")
    calibration_class: Any = getattr(import_module(module), attribute)
    calibration: Calibration = calibration_class(head, chosen, classifier=classifier, feature_sizes=feature_sizes)
    return calibration


def calibration_options(name: str) -> dict[str, Any]:
    """Options of a calibration and their defaults.

    Raises:
        RecipeError: No calibration has that name.
    """
    return option_defaults(_section(name))


def searchable_options(name: str) -> tuple[str, ...]:
    """Options of a calibration that are numbers: a search can try values of them.

    Raises:
        RecipeError: No calibration has that name.
    """
    return numeric_options(_section(name))


def _section(name: str) -> type[Section]:
    if name not in CALIBRATIONS:
        raise RecipeError(f"calibration: got {name!r}; allowed are {', '.join(sorted(CALIBRATIONS))}")
    return sections_of(CalibrationOptions)[name]
