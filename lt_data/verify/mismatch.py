"""One difference between what a dataset directory says and what it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lt_data.errors import problem_line

# bytes shown of two texts that differ
EXCERPT = 40


@dataclass(frozen=True)
class Mismatch:
    """One place where a dataset directory differs from what was computed anew.

    Attributes:
        file: File of the directory.
        where: Row, key or record.
        got: What the file says.
        expected: What was computed.
    """

    file: str
    where: str
    got: str
    expected: str

    def __str__(self) -> str:
        """One line."""
        return problem_line(f"{self.file}: {self.where}: got {self.got}; expected {self.expected}")


def differing_bytes(file: str, where: str, got: bytes, expected: bytes) -> Mismatch:
    """A mismatch that shows both from a little before the first byte that differs."""
    place = next((i for i, (x, y) in enumerate(zip(got, expected, strict=False)) if x != y), None)
    place = min(len(got), len(expected)) if place is None else place
    start = max(0, place - EXCERPT // 2)
    texts = (part[start : start + EXCERPT].decode(errors="replace") for part in (got, expected))
    return Mismatch(file, f"{where} at byte {place}", *(f"...{text}..." for text in texts))


def differing_fields(file: str, where: str, got: object, expected: Mapping[str, object]) -> Iterator[Mismatch]:
    """A mismatch for each attribute of ``got`` that is not as expected."""
    for key, value in expected.items():
        said = getattr(got, key)
        if said != value:
            yield Mismatch(file, f"{where}: {key}", str(said), str(value))


def differing_ids(file: str, what: str, got: Sequence[int], expected: Sequence[int]) -> Iterator[Mismatch]:
    """Mismatches where a list of ids is not the expected one, which has every id once."""
    if list(got) == list(expected):
        return
    there, wanted = set(got), set(expected)
    yield from (Mismatch(file, f"{what} {i}", "none", "one") for i in expected if i not in there)
    yield from (Mismatch(file, f"{what} {i}", "one", "none") for i in got if i not in wanted)
    if there == wanted and len(got) != len(there):
        yield Mismatch(file, f"ids of each {what}", f"{len(got)} of which {len(there)} are distinct", "every id once")
    elif there == wanted:
        place = next(i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b)
        yield Mismatch(file, f"order: {what} at place {place + 1}", str(got[place]), str(expected[place]))
