"""Pascal VOC: one XML file an image.

The file is parsed by ``defusedxml``, which refuses document types and with them every entity; ``globox`` reads name and
corners of an object. What ``globox`` leaves out is read here: the mark ``difficult``, pixels counted from 1, and where
in which file something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lt_data.annotations.findings import shown
from lt_data.errors import DataError
from lt_data.files.pixels import Size
from lt_data.importing.source_file import Corners, SourceObject, Tell, is_box

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


class VocFile:
    """One XML file.

    Args:
        content: Its bytes.
        one_based: See :class:`lt_data.importing.options.ImportOptions`.

    Raises:
        DataError: It is no VOC annotation; without the file's name.
    """

    def __init__(self, content: bytes, *, one_based: bool = False) -> None:
        self._root = _parse(content)
        self._one_based = one_based

    @property
    def named(self) -> str | None:
        """Its ``filename``."""
        return (self._root.findtext("filename") or "").strip() or None

    @property
    def size(self) -> Size | None:
        """Its ``size``; ``None`` if that is missing or 0, as some programs write."""
        texts = [self._root.findtext(f"size/{side}") or "" for side in ("width", "height")]
        try:
            width, height = (int(text) for text in texts)
        except ValueError:
            return None
        return (width, height) if width > 0 and height > 0 else None

    def objects(self, size: Size, tell: Tell) -> Iterator[SourceObject]:
        """Its ``object`` elements; parts of objects (hands, heads) are none."""
        for number, element in enumerate(self._root.findall("object"), start=1):
            place = f"object {number}"
            difficult = (element.findtext("difficult") or "0").strip()
            found = _label_and_corners(element)
            if found is None or difficult not in ("0", "1"):
                tell("LT702", f"{place}: {_texts(element)}")
                continue
            label, corners = found
            if self._one_based:
                left, top, right, lower = corners
                if left < 1 or top < 1:
                    tell("LT708", f"{place}: {_texts(element)}")
                # the last pixel's number is the edge behind it
                corners = left - 1, top - 1, right, lower
            yield SourceObject(place, label, corners, difficult == "1")


def _parse(content: bytes) -> Element:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise DataError("it has a document type (DOCTYPE), which may define entities and is refused") from None
    # an encoding that is not known, or not what the file has
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"not well-formed XML ({error})") from None
    if root.tag != "annotation":
        raise DataError(f"XML, but no VOC annotation: it begins with <{root.tag}> instead of <annotation>")
    return root


def _label_and_corners(element: Element) -> tuple[str, Corners] | None:
    """Name and edges of an object, ``None`` if it lacks them or they are none."""
    from globox import BoundingBox, ParsingError

    try:
        box = BoundingBox.from_xml(element)
    # AssertionError: a right edge that lies left of the left one
    except (ParsingError, ValueError, AssertionError):
        return None
    label, corners = str(box.label).strip(), box.ltrb
    return (label, corners) if label and is_box(corners) else None


def _texts(element: Element) -> str:
    """What an object has where it should have name, corners and mark."""
    paths = {"name": "name", **{corner: f"bndbox/{corner}" for corner in _CORNERS}, "difficult": "difficult"}
    texts = {key: element.findtext(path) for key, path in paths.items()}
    return ", ".join(
        f"{key} {'is missing' if text is None else shown(text.strip())}"
        for key, text in texts.items()
        if not (key == "difficult" and text is None)
    )
