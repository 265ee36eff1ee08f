"""JSON files that are no object annotations: what they are by their members, and what to do with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from lt_data.annotations.records import UNREADABLE
from lt_data.files.reading import Bytes

_Members = Mapping[str, msgspec.Raw]
_Annotation = Mapping[str, Any]
# bytes in which the first annotation is looked for
_LONGEST_RECORD: Final = 2**18


def other_file(data: Bytes) -> str | None:
    """What a JSON file is if it holds no object annotations of COCO or LVIS, and what to do; ``None`` if unknown.

    Args:
        data: The bytes of a JSON document.
    """
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return _kind_of_list(data)
    first = first_record(members.get("annotations"))
    return next((text for fits, text in _KINDS if fits(members, first)), None)


def _kind_of_list(data: Bytes) -> str | None:
    try:
        records = msgspec.json.decode(data, type=list[msgspec.Raw])
    except UNREADABLE:
        return None
    first = _object(records[0]) if records else {}
    if {"image_id", "score"} <= first.keys():
        return "is a list of detections (COCO results), no annotation file; measure it with lt-train eval --predictions"
    return "is a JSON list, not an annotation file; an object with images, annotations and categories is needed"


def _object(record: msgspec.Raw | None) -> dict[str, Any]:
    """A record as a dict; empty for one that is none."""
    try:
        content = msgspec.json.decode(record) if record is not None else {}
    except UNREADABLE:
        return {}
    return content if isinstance(content, dict) else {}


def first_record(member: msgspec.Raw | None) -> dict[str, Any]:
    """The first record of a list, or nothing; what follows it is not looked at, which may be a gigabyte.

    Args:
        member: The list, if there is one.
    """
    start = bytes(memoryview(msgspec.Raw(b"") if member is None else member)[:_LONGEST_RECORD])
    try:
        first, _ = json.JSONDecoder().raw_decode(start.decode("utf-8", "replace").lstrip("[ \t\r\n"))
    except (ValueError, RecursionError):
        return {}
    return first if isinstance(first, dict) else {}


def _has_captions(members: _Members, first: _Annotation) -> bool:
    return "caption" in first and "category_id" not in first


def _is_via(members: _Members, first: _Annotation) -> bool:
    entries = _object(members.get("_via_img_metadata")) or {name: _object(raw) for name, raw in [*members.items()][:1]}
    image = next(iter(entries.values()), None)
    return isinstance(image, dict) and {"filename", "regions"} <= image.keys()


_KINDS: Final[tuple[tuple[Callable[[_Members, _Annotation], bool], str], ...]] = (
    (
        lambda members, first: "videos" in members,
        "holds videos (YouTube-VIS); convert their frames to images with annotations of one box each",
    ),
    (
        _has_captions,
        "holds captions, which have no boxes; give the instances file of the same images",
    ),
    (
        lambda members, first: "segments_info" in first,
        "holds panoptic segments; convert them with panopticapi (panoptic2detection_coco_format.py)",
    ),
    (
        lambda members, first: {"shapes", "imagePath"} <= members.keys(),
        "is the labelme file of one image; convert the folder to COCO (labelme2coco.py)",
    ),
    (
        _is_via,
        "is a project of the VGG Image Annotator (VIA); export it as COCO format",
    ),
)
