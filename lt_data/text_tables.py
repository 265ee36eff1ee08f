"""Text for a terminal of 80 columns: tables of fixed width, and sentences that break at words.

One rule for all commands. Text on standard output has lines of at most 80 characters, wherever it goes: a table that is
wider has its columns in parts, a sentence breaks at words (:func:`fitted`). Notes, warnings and errors on standard
error, and lines of a training, break at words where a terminal shows them; elsewhere, where programs look for them,
each is one line. A word that is longer than a line, such as a path or a digest, stays whole: it is there to be copied.
"""

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


def fitted(text: str) -> str:
    """Text of which each line that is too long breaks at words and goes on below, indented by two more than it was.

    Args:
        text: What a command prints, its tables too: lines that fit stay as they are.
    """
    return "\n".join(line if len(line) <= WIDTH else wrapped(line, _indent(line) + _GAP) for line in text.split("\n"))


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" ")))


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
