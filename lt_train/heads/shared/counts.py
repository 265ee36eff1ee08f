"""What a head knows of the training file: instances and images of each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_data.errors import RecipeError


@dataclass(frozen=True)
class TrainingCounts:
    """Counts of the training file, of classes 1..C in that order.

    Attributes:
        instances: C non-crowd instances.
        images: C images with at least one of them, or ``None`` where nobody said.
        num_images: Images of the file, or ``None``.
    """

    instances: tuple[int, ...]
    images: tuple[int, ...] | None = None
    num_images: int | None = None

    @classmethod
    def checked(
        cls, instances: Sequence[int], images: Sequence[int] | None = None, num_images: int | None = None
    ) -> TrainingCounts:
        """The same from any sequences of whole numbers.

        Raises:
            RecipeError: There is no class, a count is negative, or the counts do not fit together.
        """
        own = _whole("instance counts", instances)
        if not own or min(own) < 0:
            raise RecipeError(
                f"head: instance counts are {list(own[:5])}...; needed is one count >= 0 per class, C >= 1"
            )
        of_images = None if images is None else _whole("image counts", images)
        if of_images is not None and (len(of_images) != len(own) or min(of_images) < 0):
            raise RecipeError(
                f"head: image counts are {list(of_images[:5])}..., {len(of_images)} of them; needed is one count >= 0 "
                f"for each of the {len(own)} classes"
            )
        number = None if num_images is None else _whole("num_images", [num_images])[0]
        if number is not None and number < max(1, *(of_images or (1,))):
            raise RecipeError(f"head: num_images is {number}; needed are at least 1, and as many as one class has")
        return cls(own, of_images, number)

    def image_shares(self, method: str) -> list[float]:
        """The share of the images that holds each class; a class without an image counts as having one.

        Args:
            method: Who wants them, for the message.

        Raises:
            RecipeError: The counts of images are not known.
        """
        if self.images is None or self.num_images is None:
            raise RecipeError(
                f"head {method}: image_counts and num_images are missing; it goes by the share of images that hold a "
                "class, so give make_head(..., image_counts=[...], num_images=N)"
            )
        return [max(count, 1) / self.num_images for count in self.images]

    def at_least_one(self) -> list[int]:
        """Instances of each class; one without any counts as having one, so that every formula is finite."""
        return [max(count, 1) for count in self.instances]


def _whole(what: str, counts: Iterable[Any]) -> tuple[int, ...]:
    """The same numbers as ``int``.

    Args:
        what: Name of the counts, for the message.
        counts: Numbers of any kind.

    Raises:
        RecipeError: They are a mapping, whose order need not be that of the classes, or one is no whole number.
    """
    if isinstance(counts, str | Mapping):
        raise RecipeError(f"head: {what} are a {type(counts).__name__}; needed is a list, in the order of the classes")
    found = []
    for place, count in enumerate(counts, 1):
        try:
            number = int(count)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or number != count:
            raise RecipeError(f"head: {what}: number {place} is {count!r}; needed are whole numbers >= 0")
        found.append(number)
    return tuple(found)
