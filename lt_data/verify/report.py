"""What the checks of a dataset directory share: what was read of it, and what was found, checked and not checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.build.check_options import check_options
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.dataset.names import ANNOTATIONS, BUILD, CATEGORIES
from lt_data.dataset.options import BuildOptions
from lt_data.dataset.record import BuildRecord, CategoryRow, read_rows
from lt_data.errors import DataError, one_line
from lt_data.progress import Progress
from lt_data.verify.mismatch import Mismatch

T = TypeVar("T")


@dataclass(frozen=True)
class Unchecked:
    """Something that was not checked.

    Attributes:
        what: File, and what of it.
        why: The reason.
        how: How to check it.
    """

    what: str
    why: str
    how: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.what} ({self.why}; to check it: {self.how})"


class Checks:
    """What was checked so far, and what was found."""

    def __init__(self) -> None:
        self.problems: list[Mismatch] = []
        self.notices: list[str] = []
        self.checked: list[str] = []
        self.unchecked: list[Unchecked] = []

    def run(self, file: str, what: str, mismatches: Iterable[Mismatch]) -> None:
        """Makes a check of a file of the directory; an input that it cannot use is a mismatch too."""
        self.checked.append(f"{file}: {what}")
        self.read(file, lambda: self.problems.extend(mismatches))

    def read(self, name: str, reader: Callable[[], T], *, where: str = "content") -> T | None:
        """What a reader makes of a file, or a mismatch and ``None``."""
        try:
            return reader()
        except DataError as error:
            problems = error.problems
        except OSError as error:
            problems = [f"{error.filename or name}: cannot be read ({error.strerror or error})"]
        self.problems += [Mismatch(name, where, line, "what lt-data build-coco-lt writes") for line in problems]
        return None

    def notice(self, file: str, what: str) -> None:
        """Notes a file that somebody edited in a way that has a meaning: that its bytes are others is no problem."""
        self.problems = [problem for problem in self.problems if (problem.file, problem.where) != (file, "sha256")]
        self.notices.append(one_line(f"{file}: {what}"))

    def skip(self, what: str, why: str, how: str) -> None:
        """Notes a check that is not made."""
        # a file's name may hold what no terminal can show
        self.unchecked.append(Unchecked(one_line(what), one_line(why), one_line(how)))


@dataclass(frozen=True)
class Dataset:
    """What was read of a dataset directory.

    Attributes:
        directory: Where it lies.
        record: Its ``build.json``.
        options: The options of the build.
        file: Its annotations.
        counts: Counts of these; crowds count where the record says so.
        rows: Rows of ``categories.csv``.
    """

    directory: Path
    record: BuildRecord
    options: BuildOptions
    file: AnnotationFile
    counts: CategoryCounts
    rows: list[CategoryRow]


def read_dataset(
    directory: Path, record: BuildRecord, checks: Checks, progress: Progress | None = None
) -> Dataset | None:
    """Reads what the checks compare; what cannot be read is a mismatch, and then there is nothing to compare.

    Args:
        directory: The dataset directory.
        record: Its record.
        checks: Takes the mismatches.
        progress: Called with the bytes read of the annotations and the bytes in all.

    Raises:
        DataError: An option of the record is out of range.
    """
    options = record.build_options()
    try:
        check_options(options)
    except DataError as error:
        raise DataError(f"{directory / BUILD}: options: {line}" for line in error.problems) from None
    file = checks.read(ANNOTATIONS, lambda: read_annotations(directory / ANNOTATIONS, progress=progress))
    rows = checks.read(CATEGORIES, lambda: read_rows(directory / CATEGORIES, CategoryRow))
    if file is None or rows is None:
        checks.skip(
            "everything else: figures of the tables, the record and the card, validation file, images, reference, pool",
            f"{ANNOTATIONS} and {CATEGORIES} are needed for it",
            "mend these files first",
        )
        return None
    counts = count_categories(file, count_crowds=record.rule.crowds_count)
    return Dataset(directory, record, options, file, counts, rows)
