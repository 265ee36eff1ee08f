"""How to split, and refusing what cannot be done before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Integral

from lt_data.errors import DataError, shown
from lt_data.splitting.units import check_group_by

_VAL = "allowed is a number between 0 and 1 for the share of validation images, for example 0.2"


@dataclass(frozen=True)
class SplitOptions:
    """How to split a file.

    Attributes:
        val: Share of the images that validation gets, as decimal text or a number; or
        folds: How many equal parts, each of which is the validation of one fold.
        group_by: Which images stay together, see :func:`lt_data.splitting.units.find_units`.
        seed: Another one splits otherwise, and as well.
    """

    val: str | float | None = None
    folds: int | None = None
    group_by: str | None = None
    seed: int = 0


def check_split_options(options: SplitOptions) -> None:
    """Refuses options out of range.

    Raises:
        DataError: One is out of range or of another type, or not one of ``val`` and ``folds`` is given.
    """
    if (options.val is None) == (options.folds is None):
        raise DataError("--val, --folds: got both or none; give a share for validation or a number of folds")
    if not _is_whole(options.seed):
        raise DataError(f"--seed: got {shown(options.seed)}; allowed is a whole number")
    if options.val is not None:
        share_of(options.val)
    elif not _is_whole(options.folds) or int(options.folds or 0) < 2:
        raise DataError(f"--folds: got {shown(options.folds)}; allowed is a whole number of 2 or more")
    if options.group_by is not None:
        check_group_by(options.group_by)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def share_of(val: str | float) -> Fraction:
    """The share of validation as an exact fraction: 0.2 is 1/5.

    Raises:
        DataError: It is no number between 0 and 1.
    """
    try:
        value = Decimal(str(val))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 < value < 1:
        raise DataError(f"--val: got {shown(val)}; {_VAL}")
    return Fraction(value)
