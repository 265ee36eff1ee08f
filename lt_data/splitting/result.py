"""A split as data: the side of every image, and what ``split.json`` says.

Shapes: N images, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray
from lt_data.dataset.record import Input
from lt_data.splitting.options import SplitOptions
from lt_data.splitting.output import fold_name
from lt_data.splitting.units import Units

SPLIT_SCHEMA: Final = 1
METHOD: Final = (
    "iterative stratification (Sechidis et al. 2011) by images of each category, a side without the category first; "
    "then exchanges that bring categories to sides without them, or shares closer"
)
ORDER: Final = "sha256 of '{seed}:{image_id}', ascending; of a group its smallest image_id"


@dataclass(frozen=True)
class Split:
    """Which image lies on which side.

    Attributes:
        file: What is split.
        options: How.
        units: Images that stay together.
        side_of: Side of each image: 0 training and 1 validation, or the number of the fold that validates on it, [N].
        units_by_category: Units with an object of each category, ascending by id, [C].
    """

    file: AnnotationFile
    options: SplitOptions
    units: Units
    side_of: IntArray
    units_by_category: IntArray

    @property
    def side_names(self) -> tuple[str, ...]:
        """Names of the sides."""
        if self.options.folds is None:
            return ("train", "val")
        return tuple(map(fold_name, range(self.options.folds)))

    def images_on(self, side: int) -> BoolArray:
        """Images of a side, [N]."""
        chosen: BoolArray = self.side_of == side
        return chosen


class Side(msgspec.Struct):
    """What a side holds; ``categories`` are those with an instance, crowds do not count as one."""

    name: str
    images: int
    share: float
    images_without_instances: int
    instances: int
    crowds: int
    categories: int


class CategoryRow(msgspec.Struct):
    """Images and instances of a category on each side, by its name."""

    category_id: int
    name: str
    images: dict[str, int]
    instances: dict[str, int]


class Lacking(msgspec.Struct):
    """A category that sides have none of, and why."""

    category_id: int
    name: str
    sides: list[str]
    why: str


class SplitRule(msgspec.Struct):
    """The rule in words, and the options."""

    method: str
    order: str
    val: str | None
    folds: int | None
    group_by: str | None
    groups: int
    rewritten_category_fields: list[str]


class SplitRecord(msgspec.Struct, kw_only=True):
    """The content of ``split.json``, in the order of its keys.

    A fold's side is what it validates on; it trains on the other sides.
    """

    schema: int
    input: Input
    rule: SplitRule
    seed: int
    sides: list[Side]
    not_on_all_sides: list[Lacking]
    notes: list[str]
    files: dict[str, str]
    categories: list[CategoryRow]

    def content(self) -> dict[str, Any]:
        """As ``split.json`` holds it."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content
