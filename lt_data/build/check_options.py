"""Refusing options of a build, before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Integral, Real
from typing import Final, get_args

from lt_data.counts.repeat_factors import check_threshold
from lt_data.dataset.options import BuildOptions, OnShortage, Order, Surplus
from lt_data.errors import DataError
from lt_data.groups import check_edges

SMALLEST_SCALE = Decimal("1e-12")


def check_options(options: BuildOptions) -> None:
    """Refuses options out of range before anything is read.

    Raises:
        DataError: An option is out of range or of another type; one line each.
    """
    words = {"order": get_args(Order), "surplus": get_args(Surplus), "on_shortage": get_args(OnShortage)}
    problems = [
        f"{_flag(name)}: got {getattr(options, name)!r}; allowed are {', '.join(allowed)}"
        for name, allowed in words.items()
        if getattr(options, name) not in allowed
    ]
    problems += [
        f"{_flag(name)}: got {getattr(options, name)!r}; allowed is {needed}"
        for name, (fits, needed) in _TYPES.items()
        if not fits(getattr(options, name))
    ]
    if problems:
        raise DataError(problems)
    check_edges(options.edges, _flag("edges"))
    parse_scale(options.scale)
    check_threshold(options.threshold)


def _flag(name: str) -> str:
    return f"--{'groups' if name == 'edges' else name.replace('_', '-')}"


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "seed": (_is_whole, "a whole number"),
    "scale": (lambda value: isinstance(value, str), "decimal text, for example '0.01', so that it is taken exactly"),
    "edges": (
        lambda value: isinstance(value, tuple | list) and all(map(_is_whole, value)),
        "whole numbers in ascending order, for example (10, 100, 1000)",
    ),
    "threshold": (lambda value: isinstance(value, Real) and not isinstance(value, bool), "a number"),
}


def parse_scale(text: str) -> Fraction:
    """The scale as an exact fraction.

    Raises:
        DataError: The text is not a decimal number with 0 < scale <= 1.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    # smaller scales give every category one instance, and their fractions would be huge
    if not value.is_finite() or not 0 < value <= 1 or value < SMALLEST_SCALE:
        raise DataError(f"--scale: got '{text}'; allowed is a decimal number with 0 < scale <= 1, for example 0.01")
    return Fraction(value)
