"""What writers put into a file that JSON does not allow, so that the rest can be looked at all the same.

NaN and Infinity stand for numbers; a text holds half of a surrogate pair, or bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.loose import replace_not_finite
from lt_data.files.reading import Bytes

# numbers that are valid JSON and too large for every float; the one for NaN is no number that anybody writes
_NAN: Final = "7.625e88888"
_BEYOND_FLOATS: Final = {b"NaN": _NAN.encode(), b"Infinity": b"1e999", b"-Infinity": b"-1e999"}
# whole pairs and other escapes are matched first, so that what is left is half of a pair
_HALF_PAIR: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.", re.DOTALL
)
_ESCAPE: Final = 6
# in the place of half a pair: as many bytes, which stand for the character that means "not readable"
_UNREADABLE: Final = rb"\ufffd"
# how Python shows a byte that is no text, and how people do
_BYTE, _BYTE_SHOWN = r"\udc", r"\x"


def members_of(data: Bytes) -> dict[str, msgspec.Raw] | None:
    """The raw members of a JSON object; ``None`` of anything else."""
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def as_json(data: Bytes, log: FindingList) -> tuple[bytes, bytes] | None:
    """The bytes with what JSON does not allow replaced; ``None`` if that does not help.

    Returns:
        What can be read, and, byte for byte beside it, what stands there in texts.
    """
    places: list[int] = []

    def text_for(match: re.Match[bytes]) -> bytes:
        places.append(match.start())
        return _BEYOND_FLOATS[match[0]]

    numbers = bytes(replace_not_finite(data, text_for))
    whole = _HALF_PAIR.sub(_without_half, numbers)
    if members_of(whole) is None:
        return None
    log.add_many("LT004", places, lambda place: f"byte {place}: {_around(data, place)}")
    return whole, numbers


def _without_half(match: re.Match[bytes]) -> bytes:
    is_half = len(match[0]) == _ESCAPE and match[0][2:3] in b"dD"
    return _UNREADABLE if is_half else match[0]


def _around(data: Bytes, place: int) -> str:
    return bytes(data[max(place - 24, 0) : place + 12]).decode("utf-8", "replace")


def broken_texts(record: bytes) -> list[str]:
    """Every field of a record whose text is none, and what stands there.

    Args:
        record: A JSON value as it stands in the file.
    """
    text, is_utf_8 = record.decode("utf-8", "surrogateescape"), _is_utf_8(record)
    try:
        content = json.loads(text, parse_int=str, parse_float=str)
        fields = content.items() if isinstance(content, dict) else [("", content)]
        found = [(name, broken) for name, value in fields for broken in _broken([name, value])]
    except (ValueError, RecursionError):
        return []
    return [f"{name} has {_shown_text(broken, is_utf_8=is_utf_8)}".lstrip() for name, broken in found]


def _shown_text(text: str, *, is_utf_8: bool) -> str:
    """The text, and what is wrong with it; a byte that is none stands there as half of a pair."""
    if is_utf_8:
        return f"{shown(text)}: half of a surrogate pair"
    return f"{shown(text).replace(_BYTE, _BYTE_SHOWN)}: not UTF-8"


def _is_utf_8(record: bytes) -> bool:
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _broken(value: Any) -> Iterator[str]:
    """Texts anywhere in a value that cannot be written in UTF-8."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            yield value
    elif isinstance(value, list | dict):
        for entry in value if isinstance(value, list) else [*value, *value.values()]:
            yield from _broken(entry)


def number_of(digits: str) -> int | float:
    """Python refuses to convert thousands of digits; so many are no number that anything could use."""
    return int(digits) if len(digits) < 400 else float("inf")


def float_of(digits: str) -> float:
    """A float, NaN where :func:`as_json` put it."""
    return float("nan") if digits == _NAN else float(digits)
