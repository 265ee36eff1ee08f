"""Reading the CSV tables that users write: columns by name, whole numbers, one clear line for what is wrong."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lt_data.errors import DataError
from lt_data.files.reading import check_plain

# beyond it JSON readers and spreadsheets do not keep whole numbers exactly
LARGEST: Final = 2**53
_LONGEST_SHOWN: Final = 40


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        path: The file, for messages.
        line: Where the row ends in the file; the first line is 1.
        cells: The cell of each column, ``None`` where the row is too short.
    """

    path: Path
    line: int
    cells: dict[str, str | None]

    def text(self, column: str) -> str:
        """A cell that must be there.

        Raises:
            DataError: The row ends before it.
        """
        cell = self.cells[column]
        if cell is None:
            raise DataError(f"{self.path}: line {self.line}, {column}: is missing; the row ends before this column")
        return cell

    def whole(self, column: str, *, least: int = 0) -> int:
        """The whole number in a cell, ``least`` to 2^53.

        Raises:
            DataError: It is missing, no whole number, or out of range.
        """
        text = self.text(column)
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= LARGEST:
            first = "-2^53" if least == -LARGEST else least
            raise DataError(
                f"{self.path}: line {self.line}, {column}: got {shown(text)}; allowed is a whole number "
                f"from {first} to 2^53"
            )
        return value


def shown(text: str) -> str:
    """A cell in quotes, cut if it is long."""
    return f"'{text}'" if len(text) <= _LONGEST_SHOWN else f"'{text[:_LONGEST_SHOWN]}...' ({len(text):,} characters)"


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """The names of the columns, and the rows.

    Raises:
        DataError: The file cannot be read, is not UTF-8 or no CSV, a column is named twice, or a row is longer than the
            header.
    """
    try:
        check_plain(path)
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            names = list(reader.fieldnames or ())
            _refuse_twice(path, names)
            return names, [_row(path, reader.line_num, cells, len(names)) for cells in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}); save it as UTF-8, in Excel as 'CSV UTF-8'") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV ({error})") from None


def _refuse_twice(path: Path, names: list[str]) -> None:
    """Of two columns of one name only the last would be read; nobody asks for those without a name."""
    twice = [shown(name) for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise DataError(f"{path}: line 1: more than one column is called {', '.join(twice[:3])}; keep one")


def _row(path: Path, line: int, cells: dict[str | None, str | None], columns: int) -> Row:
    """Cells after the last column have the key ``None``."""
    if None in cells:
        count = columns + len(cells[None] or ())
        raise DataError(
            f"{path}: line {line}: {count} cells, but the header has {columns}; quote a text that holds a comma, write "
            "numbers without one"
        )
    return Row(path, line, {key: value for key, value in cells.items() if key is not None})


def other_columns(path: Path, found: list[str], needed: str) -> DataError:
    """An error that names the columns that were found and those that are needed."""
    names = ", ".join(f"'{name[:40]}'" for name in found[:5]) + (", ..." if len(found) > 5 else "")
    return DataError(
        f"{path}: found the columns {names or '(none)'}; needed are {needed}; the separator must be a comma"
    )
