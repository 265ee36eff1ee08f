"""A file on its way into a merge: which ids its records have in the result.

Shapes: N images, A annotations of a file.
"""

from __future__ import annotations

from dataclasses import dataclass

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray
from lt_data.merging.result import MergedFile, MovedId


@dataclass(frozen=True)
class Part:
    """A file and its ids in the result.

    Attributes:
        number: Its place among the files, from 0.
        file: What was read.
        image_ids: New ids of its images, [N].
        joined: Images that are an earlier file's record in the result, [N].
        annotation_ids: New ids of its annotations, [A].
        categories: The new id of each category.
        licenses: The new id of each license; ``None`` where no file lists any, and licenses of images stay.
        new_categories: How many categories no earlier file has.
    """

    number: int
    file: AnnotationFile
    image_ids: IntArray
    joined: BoolArray
    annotation_ids: IntArray
    categories: dict[int, int]
    licenses: dict[int, int] | None
    new_categories: int

    def moved(self) -> list[MovedId]:
        """Every id that is another one in the result."""
        pairs = {
            "images": zip(self.file.image_ids.tolist(), self.image_ids.tolist(), strict=True),
            "annotations": zip(self.file.annotation_ids.tolist(), self.annotation_ids.tolist(), strict=True),
            "categories": self.categories.items(),
            "licenses": (self.licenses or {}).items(),
        }
        where = self.number + 1, self.file.path.as_posix()
        return [MovedId(*where, key, old, new) for key, each in pairs.items() for old, new in each if old != new]

    def summary(self) -> MergedFile:
        """What the file gives to the merge."""
        joined = int(self.joined.sum())
        return MergedFile(
            file=self.file.path.as_posix(),
            images=len(self.joined) - joined,
            annotations=len(self.annotation_ids),
            categories=self.new_categories,
            joined=joined,
            renumbered=len(self.moved()),
        )
