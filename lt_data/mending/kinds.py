"""The kinds of mends: their names, what each does, and the findings of ``lt-data check`` that it is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from lt_data.errors import RecipeError


class Kind(NamedTuple):
    """What one kind of mend does, in a few words, and the codes that a file has no more after it."""

    what: str
    codes: tuple[str, ...]


# in the order in which they are applied: what later ones need, earlier ones put right
KINDS: Final[dict[str, Kind]] = {
    "not-finite": Kind("NaN and Infinity become null", ("LT004",)),
    "numbers": Kind("numbers lose their quotes, names that are numbers get them", ("LT302", "LT011", "LT007")),
    "ids": Kind("ids that are text, floats, too large or missing become whole numbers", ("LT007", "LT008", "LT010")),
    "masks": Kind("segmentations of another form become polygons or run lengths", ("LT405",)),
    "equal-categories": Kind("equal category records become one", ("LT111", "LT205")),
    "equal-images": Kind("equal image records become one", ("LT101", "LT201")),
    "moved-ids": Kind("category ids that are all off by one move to the listed ones", ("LT110",)),
    "unlisted": Kind(
        "annotations of unlisted images and categories are dropped, and unlisted ids from LVIS's lists",
        ("LT104", "LT105", "LT215"),
    ),
    "repeated-ids": Kind("annotations whose id is 0 or was used before get a new one", ("LT102", "LT108")),
    "boxes": Kind(
        "boxes that are missing, empty or beside their mask are made from the mask",
        ("LT301", "LT302", "LT304", "LT407", "LT408"),
    ),
    "clip": Kind("boxes that reach beyond their image are clipped, polygons with them", ("LT306",)),
    "areas": Kind("areas that are missing or wrong are computed again", ("LT302", "LT311", "LT410", "LT411")),
    "same-object": Kind("of an object that is listed more than once, one stays", ("LT109",)),
    "root-category": Kind("the category without objects that only groups all others is dropped", ("LT207",)),
    "empty-categories": Kind(
        "categories without objects are dropped; a validation file needs all of its training file's", ("LT207",)
    ),
    "negative-lists": Kind("LVIS's lists of absent categories lose those that are annotated", ("LT216",)),
    "counts": Kind("instance_count and image_count of LVIS are counted again", ("LT210",)),
}


def parse_kinds(text: str) -> tuple[str, ...]:
    """Names of kinds from ``"clip,areas"``, in the order in which they are applied.

    Raises:
        RecipeError: There is no such kind, or none is named.
    """
    return in_order(name.strip() for name in text.split(",") if name.strip())


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The kinds that are named, each once, in the order in which they are applied.

    Raises:
        RecipeError: There is no such kind, or none is named.
    """
    chosen = set(names)
    unknown = sorted(chosen - set(KINDS))
    if unknown or not chosen:
        got = ", ".join(map(repr, unknown)) or "none"
        raise RecipeError(f"fix: got {got}; kinds of mends are {', '.join(KINDS)}")
    return tuple(name for name in KINDS if name in chosen)


def kinds_for(codes: Iterable[str]) -> tuple[str, ...]:
    """Kinds of mends that are worth a try on a file with these findings, in the order in which they are applied.

    Categories without objects are no reason by themselves: a validation file may need them.

    Args:
        codes: Of what ``lt-data check`` found.
    """
    found = set(codes) - {"LT207"}
    return tuple(name for name, kind in KINDS.items() if found & set(kind.codes))
