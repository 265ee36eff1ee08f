"""Which program wrote an annotation file, told by what it writes beside the annotations, and what is odd in its files.

What is said of a program was found in files that people published, or is in its own converter; of a program without
such an oddity only the name is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lt_data.annotations.no_json import members_of
from lt_data.annotations.other_files import first_record
from lt_data.annotations.records import UNREADABLE
from lt_data.files.reading import Bytes

_EMPTY_INFO: Final = frozenset(("contributor", "date_created", "description", "url", "version", "year"))
# bytes of info and licenses that are looked at: no program writes more
_LONGEST: Final = 2**16


@dataclass(frozen=True)
class _Signs:
    """What tells a program: ``info``, ``licenses``, the first image and the first annotation."""

    info: Mapping[str, Any]
    licenses: Any
    image: Mapping[str, Any]
    annotation: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field of ``info`` in small letters."""
        return str(self.info.get(name) or "").casefold()


def exporter_note(data: Bytes) -> str | None:
    """A line on the program that wrote a file and on what is odd in its files; ``None`` where nothing tells.

    Args:
        data: The bytes of an annotation file.
    """
    members = members_of(data)
    if members is None:
        return None
    info = _value(members.get("info"))
    signs = _Signs(
        info=info if isinstance(info, dict) else {},
        licenses=_value(members.get("licenses")),
        image=first_record(members.get("images")),
        annotation=first_record(members.get("annotations")),
    )
    return next((f"written by {name}: {quirks}" for name, fits, quirks in _EXPORTERS if fits(signs)), None)


def _value(raw: msgspec.Raw | None) -> Any:
    if raw is None or len(memoryview(raw)) > _LONGEST:
        return None
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE:
        return None


def _is_cvat(signs: _Signs) -> bool:
    """Its template has six empty texts for info and one empty license of id 0."""
    empty = signs.info.keys() == _EMPTY_INFO and not any(signs.info.values())
    attributes = signs.annotation.get("attributes")
    return (empty and signs.licenses == [{"name": "", "id": 0, "url": ""}]) or (
        isinstance(attributes, dict) and "occluded" in attributes
    )


def _is_labelme(signs: _Signs) -> bool:
    """Its converter leaves nearly all of info, and its one license, null."""
    null = bool(signs.info) and signs.info.get("description", "") is None and signs.info.get("contributor", "") is None
    return null and signs.licenses == [{"url": None, "id": 0, "name": None}]


def _is_roboflow(signs: _Signs) -> bool:
    told = signs.text("description").startswith("exported from roboflow") or "roboflow." in signs.text("url")
    return told or ".rf." in str(signs.image.get("file_name") or "")


_EXPORTERS: Final[tuple[tuple[str, Callable[[_Signs], bool], str], ...]] = (
    (
        "Roboflow",
        _is_roboflow,
        "category 0 often only groups all others (mend --fix root-category), some files have numbers in quotes (mend "
        "--fix numbers), and names that are one before '.rf.' are copies of one picture, which belong on one side of a "
        "split",
    ),
    (
        "Label Studio",
        lambda signs: signs.text("contributor") == "label studio",
        "boxes have segmentation [], which is no mask; ids start at 0",
    ),
    (
        "VIA (VGG Image Annotator)",
        lambda signs: "vgg image annotator" in signs.text("description"),
        "image ids may be text (mend --fix ids), and a category's record may be repeated (mend --fix equal-categories)",
    ),
    (
        "SuperAnnotate",
        lambda signs: "superannotate" in signs.text("contributor") or "superannotate." in signs.text("url"),
        "nothing odd is known of its files",
    ),
    (
        "labelme's converter (labelme2coco)",
        _is_labelme,
        "annotation ids start at 0 (mend --fix repeated-ids), and the category _background_ has no object (mend --fix "
        "empty-categories)",
    ),
    (
        "CVAT or Datumaro",
        _is_cvat,
        "brush masks have iscrowd 1, so they count as no object until that is 0; boxes have segmentation [], which is "
        "no mask",
    ),
)
