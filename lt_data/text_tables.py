"""Text for a terminal of 80 columns: tables of fixed width, and sentences that break at words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

WIDTH: Final = 80
_GAP: Final = "  "


def wrapped(text: str, indent: str = "", width: int = WIDTH) -> str:
    """Sentences in lines of at most ``width`` characters; a word that is longer, such as a path, stays whole.

    Args:
        text: One line or several, each wrapped alone.
        indent: Before all lines but the first.
        width: In characters.
    """
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def table(rows: Sequence[Sequence[str]], *, left: int = 1, width: int = WIDTH) -> str:
    """Rows of cells as columns of fixed width; columns that do not fit follow below, with the first ones again.

    Args:
        rows: Equally many cells each; the first row holds the titles.
        left: Columns that name a row: to the left, and in every part. The others are to the right.
        width: In characters.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    names = sum(widths[:left]) + len(_GAP) * max(0, left - 1)
    parts, used = [list(range(left))], names
    for column in range(left, len(widths)):
        used += len(_GAP) + widths[column]
        if used > width and len(parts[-1]) > left:
            parts.append(list(range(left)))
            used = names + len(_GAP) + widths[column]
        parts[-1].append(column)
    return "\n\n".join("\n".join(_line(row, part, widths, left) for row in rows) for part in parts)


def _line(row: Sequence[str], columns: Sequence[int], widths: Sequence[int], left: int) -> str:
    cells = [row[i].ljust(widths[i]) if i < left else row[i].rjust(widths[i]) for i in columns]
    return _GAP.join(cells).rstrip()
