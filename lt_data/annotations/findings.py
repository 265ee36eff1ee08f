"""What ``lt-data check`` can find: every code with its severity, meaning and remedy, and the list that fills up.

LT0 the file and its records, LT1 ids and references, LT2 images and categories, LT3 boxes, LT4 masks, LT5 image files,
LT6 two files beside each other, LT7 what ``lt-data import`` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from lt_data.errors import one_line

Severity = Literal["error", "warning", "info"]

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")
MOST_EXAMPLES: Final = 3
_LONGEST_TEXT: Final = 80

# what to do about crowds that are none
CROWDS_OR_OBJECTS: Final = "set iscrowd to 0 if they are objects: CVAT writes brush masks as crowds"


@dataclass(frozen=True)
class Code:
    """One kind of finding.

    Attributes:
        severity: ``error`` where results would be wrong or programs stop, ``warning`` where that is likely,
            ``info`` for what is allowed and good to know.
        title: One line in the singular.
        fix: One line.
        structural: Whether reading the file's records, boxes included, is refused.
    """

    severity: Severity
    title: str
    fix: str
    structural: bool = False


@dataclass(frozen=True)
class Finding:
    """One kind of problem in a file.

    Attributes:
        code: Key of :data:`CODES`.
        severity: ``error``, ``warning`` or ``info``.
        title: One line in the singular.
        count: How often it was found.
        examples: Where, at most three, in file order.
        fix: One line.
    """

    code: str
    severity: Severity
    title: str
    count: int
    examples: tuple[str, ...]
    fix: str


def _refused(title: str, fix: str) -> Code:
    return Code("error", title, fix, structural=True)


CODES: Final[dict[str, Code]] = {
    "LT001": _refused("a member is missing", "a COCO or LVIS file has images, annotations and categories"),
    "LT002": _refused("a member is not a list", "make images, annotations and categories lists of records"),
    "LT003": _refused("a record cannot be read", "write it as a JSON object in UTF-8"),
    "LT004": _refused("NaN or Infinity stands for a number", "JSON has no such numbers; write real ones"),
    "LT005": _refused("the list of categories is empty", "list at least one category"),
    "LT006": _refused("a record lacks id, image_id or category_id", "add the field, or remove the record"),
    "LT007": _refused(
        "an id or iscrowd has a wrong type", "write whole numbers without quotes; image_id as images has it"
    ),
    "LT008": _refused("an id is too large", "keep ids within 2^53: JSON readers do not keep larger ones exactly"),
    "LT009": _refused("a member occurs twice", "keep one of each; JSON readers take the last and lose the others"),
    "LT010": _refused(
        "an image id is text", "give each image a number and use it in image_id; counts and evaluation take text too"
    ),
    "LT011": Code(
        "error", "a field beside the ids has a wrong type", "write whole numbers without quotes, names as strings"
    ),
    "LT101": _refused("an image id occurs more than once", "give every image an id of its own"),
    "LT102": _refused(
        "an annotation id occurs more than once",
        "give each an id of its own; only counts and evaluation do without",
    ),
    "LT103": _refused("categories that differ share an id", "give each its own id, or keep one of the records"),
    "LT104": _refused("an image_id is not listed in images", "add the image records, or remove these annotations"),
    "LT105": _refused("a category_id is not listed", "add the category records, or remove these annotations"),
    "LT106": Code("info", "ids of a list start at 0", "nothing; programs that take 0 for background need other ids"),
    "LT107": Code("info", "ids of a list have gaps", "nothing; never use ids as positions"),
    "LT108": Code("warning", "an annotation has id 0", "number from 1: pycocotools counts a match with id 0 as none"),
    "LT109": Code("warning", "an object is listed more than once", "keep one of each; counts take all for objects"),
    "LT110": _refused(
        "all category_ids fit the listed ids when moved by one", "number categories and annotations from the same id"
    ),
    "LT111": _refused(
        "equal records of a category are listed more than once",
        "keep one of each; only counts and evaluation do without",
    ),
    "LT201": Code("error", "an image file is listed more than once", "merge the image records and their annotations"),
    "LT202": Code("error", "a file_name is absolute or has '..' in it", "name files relative to the image folder"),
    "LT203": Code("warning", "an image has neither file_name nor coco_url", "add file_name"),
    "LT204": Code("error", "an image has no usable width and height", "add both in pixels; masks need them"),
    "LT205": Code("error", "a category name is used more than once", "rename the categories, or merge them"),
    "LT206": Code("warning", "a category has no name", "add name; the id is shown instead"),
    "LT207": Code("warning", "a category has no instance", "nothing can be learnt of it; crowds do not count"),
    "LT208": Code("info", "an image has no annotation", "nothing; whether it is trained on is up to the recipe"),
    "LT209": Code("info", "an annotation is a crowd", "nothing; crowds are not counted as instances"),
    "LT210": Code(
        "warning", "instance_count or image_count differs from the annotations", "the counted figure is used"
    ),
    "LT211": Code("info", "frequency differs from the counted images", "nothing in a validation file; else recount"),
    "LT212": Code("warning", "frequency is missing or not r, c or f", "mend it, or remove it from all categories"),
    "LT213": Code(
        "warning", "category names differ in case, spaces, _, - or accents' form only", "merge or rename the categories"
    ),
    "LT214": Code("warning", "records of two images lead to one file", "merge the records and their annotations"),
    "LT215": Code("warning", "a list of an image names a category that the file lacks", "remove the id from the list"),
    "LT216": Code("warning", "neg_category_ids names a category annotated there", "remove the id from the list"),
    "LT217": Code("error", "a list of an image holds no category ids", "write whole numbers, or [] for none"),
    "LT218": Code("warning", "an image lacks lists that others have", "add both lists; else LVIS's rules do not apply"),
    "LT219": Code("warning", "an annotation says ignore and is no crowd", "set iscrowd: 1; else it is an object"),
    "LT220": Code(
        "warning",
        "the file has no annotation of an object",
        f"nothing can be learnt or measured on it; if it has crowds, {CROWDS_OR_OBJECTS}",
    ),
    "LT221": Code("warning", "most annotations are crowds", CROWDS_OR_OBJECTS),
    "LT222": Code(
        "warning", "both lists of an image name a category", "keep it in one: it is absent, or there and not exhaustive"
    ),
    "LT301": Code("error", "an annotation has no bbox", "add bbox: x, y, width, height in pixels"),
    "LT302": _refused(
        "a bbox is not four numbers, or area not one",
        "write numbers without quotes: x, y, width, height in pixels, area in px^2",
    ),
    "LT303": _refused("a bbox or area is not finite", "write real numbers, or remove annotations without box and mask"),
    "LT304": Code("error", "a box has no area", "remove the annotation, or mend bbox: x, y, width, height"),
    "LT305": Code("error", "a box lies outside its image", "mend bbox (x, y, width, height), or the image's size"),
    "LT306": Code("warning", "a box reaches beyond its image", "clip it; is bbox x, y, width, height?"),
    "LT307": Code("error", "boxes look like x1, y1, x2, y2", "write x, y, width, height: width is x2 - x1"),
    "LT308": Code("error", "boxes look like centres", "write x, y, width, height: x is the centre less half the width"),
    "LT309": Code("error", "boxes look like fractions of the image", "multiply by the image's width and height"),
    "LT310": Code("warning", "a box is narrower than one pixel", "mend bbox (pixels), or remove the annotation"),
    "LT311": Code("warning", "area contradicts the box", "write px^2 of the object; sizes in AP come from it"),
    "LT401": Code("error", "a polygon has fewer than three points", "remove it; four numbers are taken for a box"),
    "LT402": Code("error", "a polygon has an odd number of coordinates", "write x1, y1, x2, y2, ..."),
    "LT403": Code("error", "a mask has no area", "mend it, or write null: no mask"),
    "LT404": Code("error", "run lengths are of another size than the image", "size is [height, width] of the image"),
    "LT405": Code("error", "a segmentation is neither polygons nor run lengths", "write polygons, or {size, counts}"),
    "LT406": Code("error", "a mask lies outside its box", "box and mask are of different objects; mend one"),
    "LT407": Code("warning", "a mask reaches beyond its box", "make the box again from the mask"),
    "LT408": Code(
        "warning", "a box reaches beyond its mask", "make it again from the mask; is it x, y, width, height?"
    ),
    "LT409": Code("warning", "an annotation has no mask where others have one", "add it; else training takes the box"),
    "LT410": Code("warning", "area differs from the area of the mask", "compute area again; sizes in AP come from it"),
    "LT411": Code("warning", "area is missing or not above 0", "add area in px^2; pycocotools cannot score without"),
    "LT501": Code("error", "an image file is missing", "check the image folder, or remove the image record"),
    "LT502": Code("error", "an image file cannot be read", "fetch it again, or remove the image record"),
    "LT503": Code("error", "an image file has another size than its record", "correct width and height, or the file"),
    "LT504": Code(
        "warning",
        "an image file has more than 8 bits a pixel",
        "training scales the range of its type to 0..255; data.image_range=LOW,HIGH says another one",
    ),
    "LT505": Code(
        "warning",
        "an image file is turned or mirrored by EXIF",
        "training reads the pixels as stored; if boxes are of the turned picture, use data.exif=apply",
    ),
    "LT506": Code(
        "info", "an image file is not there under its file_name", "nothing; every command finds it by this name too"
    ),
    "LT507": Code(
        "error",
        "an image file is there under nearly its file_name",
        "write file_name as the folder has it, or give the folder that it is relative to",
    ),
    "LT601": Code("error", "an image is in both files", "remove it from one: scores would be of trained images"),
    "LT602": Code("warning", "images of both files share a file name", "nothing if they are different pictures"),
    "LT603": Code("error", "a category id has another name in the other file", "give both files the same categories"),
    "LT604": Code("warning", "a category is in one of the files only", "give both files the same categories"),
    "LT701": _refused("a file of annotations cannot be read", "mend it, or remove it from the source"),
    "LT702": _refused(
        "an object cannot be read",
        "VOC: name and bndbox with xmin, ymin, xmax, ymax in pixels; YOLO: class, centre, width, height in 0..1",
    ),
    "LT703": _refused("the class of an object is not among the names", "add it to the names, or mend the object"),
    "LT704": _refused(
        "a file of annotations has no image", "lay out --images as the source, or remove the file from the source"
    ),
    "LT705": _refused("a file of annotations and an image are no pair", "keep one image for each file, and one file"),
    "LT706": Code("warning", "an image has no file of annotations", "nothing if it shows no object; else add the file"),
    "LT707": Code("info", "a difficult object was left out", "nothing; --difficult crowd makes it an ignored region"),
    "LT708": Code(
        "warning", "a box begins before pixel 1, the first one", "leave out --one-based if the source counts from 0"
    ),
}

# what stops nobody who only matches ids: counts, and evaluation until it looks at boxes
ONLY_MATCHED: Final = frozenset({"LT004", "LT010", "LT102", "LT111", "LT302", "LT303"})


class FindingList:
    """Counts findings by code and keeps the first examples of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, code: str, example: str) -> None:
        """One more of a code."""
        self.add_many(code, [example], str)

    def add_many(self, code: str, places: Iterable[object], describe: Callable[..., str]) -> None:
        """One more of a code for each place.

        Args:
            code: Key of :data:`CODES`.
            places: What was found; an array of rows, for example.
            describe: Turns a place into an example; called for those that are kept.
        """
        found = list(places)
        if not found:
            return
        examples = self._examples.setdefault(code, [])
        examples += [one_line(describe(place)) for place in found[: MOST_EXAMPLES - len(examples)]]
        self._counts[code] = self._counts.get(code, 0) + len(found)

    def has(self, code: str) -> bool:
        """Whether there is one of a code."""
        return code in self._counts

    def add_refused_of(self, other: FindingList, name: str) -> None:
        """What another file called ``name`` would be refused for, beside what was found in this one."""
        for code in (code for code in other._counts if CODES[code].structural):
            examples = self._examples.setdefault(code, [])
            examples += [one_line(f"{name}: {text}") for text in other._examples[code]][: MOST_EXAMPLES - len(examples)]
            self._counts[code] = self._counts.get(code, 0) + other._counts[code]

    def findings(self) -> tuple[Finding, ...]:
        """All of them: errors first, then by code."""
        order = sorted(self._counts, key=lambda code: (SEVERITIES.index(CODES[code].severity), code))
        return tuple(self._finding(code) for code in order)

    def _finding(self, code: str) -> Finding:
        kind = CODES[code]
        return Finding(code, kind.severity, kind.title, self._counts[code], tuple(self._examples[code]), kind.fix)


def shown(value: object) -> str:
    """A value from a file, quoted if it is text, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
