"""What training may change at random in an image, as a section of a recipe; without torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from lt_data.errors import shown
from lt_train.options.section import Section

# times as large or as small: beyond it nothing of an object is left
MOST_ZOOM = 10.0
# each is cut out of another image, which is read for it
MOST_PASTED = 20


def _ascending(value: Any, most: float) -> Any:
    """Two numbers in 0..``most`` of which the first is not the larger, in the words of pydantic."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    known = len(numbers) == 2 and all(isinstance(number, int | float) for number in numbers)
    if not (known and 0 < numbers[0] <= numbers[1] <= most):
        raise ValueError(
            f"got {shown(value)}; allowed are two numbers, the smaller first, above 0 and up to {most:g}, for example "
            "[0.5, 1]"
        )
    return value


class PasteSection(Section):
    """Copy-paste: objects of other images, every class as often as any other (needs masks)."""

    objects: int = Field(
        0, ge=0, le=MOST_PASTED, description="Most objects pasted into an image: 0 to so many, drawn; 0: none."
    )
    scale: tuple[float, float] = Field(
        (0.5, 2.0), description="Smallest and largest factor by which a pasted object is resized."
    )
    hidden: float = Field(
        0.7, gt=0, le=1, description="Objects of which more than this share is covered are dropped; the others are cut."
    )

    @field_validator("scale", mode="before")
    @classmethod
    def _factors(cls, value: Any) -> Any:
        return _ascending(value, MOST_ZOOM)


class AugmentSection(Section):
    """Random changes of training images besides the flip and the sizes of ``model``."""

    scale: tuple[float, float] | None = Field(
        None, description="Smallest and largest scale of an image (large-scale jitter: [0.1, 2]); null: off."
    )
    crop: tuple[float, float] | None = Field(
        None, description="Smallest and largest share of height and of width of a random window; null: off."
    )
    kept: float = Field(
        0.1, ge=0, le=1, description="Objects with less than this share of their box inside are dropped."
    )
    brightness: float = Field(0.0, ge=0, le=1, description="Largest change of brightness, as a share; 0: off.")
    contrast: float = Field(0.0, ge=0, le=1, description="Largest change of contrast, as a share; 0: off.")
    saturation: float = Field(0.0, ge=0, le=1, description="Largest change of saturation, as a share; 0: off.")
    hue: float = Field(0.0, ge=0, le=0.5, description="Largest turn of hue, of a full circle of 1; 0: off.")
    paste: PasteSection = PasteSection()

    @field_validator("scale", mode="before")
    @classmethod
    def _scales(cls, value: Any) -> Any:
        return None if value is None else _ascending(value, MOST_ZOOM)

    @field_validator("crop", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        return None if value is None else _ascending(value, 1)

    @property
    def colours(self) -> tuple[float, float, float, float]:
        """Largest changes of brightness, contrast, saturation and hue."""
        return (self.brightness, self.contrast, self.saturation, self.hue)

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return bool(self.scale or self.crop or any(self.colours) or self.paste.objects)
