"""Reading the CSV tables that users write: columns by name, whole numbers, one clear line for what is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

from lt_data.errors import DataError


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns, and the rows.

    Raises:
        DataError: The file cannot be read as a CSV in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            return list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV ({error})") from None


def other_columns(path: Path, found: list[str], needed: str) -> DataError:
    """An error that names the columns that were found and those that are needed."""
    names = ", ".join(f"'{name[:40]}'" for name in found[:5]) + (", ..." if len(found) > 5 else "")
    return DataError(
        f"{path}: found the columns {names or '(none)'}; needed are {needed}; the separator must be a comma"
    )


def whole_number(text: str | None, path: Path, row: int, column: str, *, least: int = 0) -> int:
    """The number in a cell.

    Args:
        text: The cell; ``None`` where the row is too short.
        path: The file, for the message.
        row: Counted from 0 behind the header.
        column: Its name.
        least: Smallest number that is allowed.

    Raises:
        DataError: It is no whole number, too small, or beyond 2^53.
    """
    try:
        value = int(str(text))
    except ValueError:
        value = least - 1
    if value < least or value > 2**53:
        raise DataError(f"{path}: line {row + 2}, {column}: got '{text}'; allowed is a whole number") from None
    return value
