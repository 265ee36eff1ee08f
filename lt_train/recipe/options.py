"""Sections of a recipe that are one of several: each has a name, by which pydantic tells them apart.

The sections themselves stand beside the heads, samplers and calibrations that take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lt_train.calibration import CalibrationOptions
from lt_train.data.sampler_options import SamplerOptions
from lt_train.heads import HeadOptions

# the name alone is short for a section
NAMED: Final[Mapping[str, Any]] = {
    "head": HeadOptions,
    "sampler": SamplerOptions,
    "calibration": CalibrationOptions,
}
