"""The COCO file of what was read: ids, boxes, categories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lt_data.annotations.findings import FindingList, shown
from lt_data.importing.options import Kind
from lt_data.importing.reading import SourceImage
from lt_data.importing.source_file import SourceObject

# digits of a pixel that are kept: what lies behind them is the computer's, not the annotator's
_DIGITS: Final = 4
# classes that are named where one is missing
_MOST_NAMES: Final = 5
_RECORD: Final = re.compile(r"(images|annotations)\[(\d+)\] \(id \d+\)")


class Result:
    """The records of a COCO file, and where each comes from.

    Args:
        found: Images by name, in order.
        kind: Of the source: the label of an object is a name in VOC and a number in YOLO.
        names: Numbers and names of the classes; those of the objects, in the order of their characters, unless given.
        crowds: Whether difficult objects become crowds.
        log: Takes objects whose class has no name.
    """

    def __init__(
        self,
        found: Mapping[str, SourceImage],
        kind: Kind,
        names: Mapping[int, str] | None,
        log: FindingList,
        *,
        crowds: bool,
    ) -> None:
        labels = sorted({each.label for image in found.values() for each in image.objects})
        names = dict(enumerate(labels)) if names is None else names
        self._ids = {name if kind == "voc" else str(number): number + 1 for number, name in names.items()}
        self._log, self._crowds = log, crowds
        self.categories = [{"id": number + 1, "name": name} for number, name in names.items()]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._places: dict[str, list[str]] = {"images": list(found), "annotations": []}
        for number, (name, image) in enumerate(found.items(), start=1):
            width, height = image.size
            self.images.append({"id": number, "file_name": name, "width": width, "height": height})
            for each in image.objects:
                self._add(number, f"{image.file} {each.place}", each)

    def _add(self, image: int, place: str, found: SourceObject) -> None:
        if found.label not in self._ids:
            first = ", ".join(map(shown, list(self._ids)[:_MOST_NAMES]))
            more = ", ..." if len(self._ids) > _MOST_NAMES else ""
            self._log.add("LT703", f"{place}: {shown(found.label)}; the names have {first}{more}")
            return
        left, top, right, lower = map(_rounded, found.corners)
        width, height = _rounded(right - left), _rounded(lower - top)
        self._places["annotations"].append(place)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image,
                "category_id": self._ids[found.label],
                "bbox": [left, top, width, height],
                "area": _rounded(width * height),
                "iscrowd": int(found.difficult and self._crowds),
            }
        )

    def content(self) -> dict[str, Any]:
        """The file."""
        return {"images": self.images, "annotations": self.annotations, "categories": self.categories}

    def in_source(self, example: str) -> str:
        """An example of a finding with the places of the source in place of records of the file."""
        return _RECORD.sub(lambda match: self._places[match[1]][int(match[2])], example)


def _rounded(value: float) -> float | int:
    """Rounded; whole numbers without a point."""
    rounded = round(value, _DIGITS)
    return int(rounded) if rounded == int(rounded) else rounded
