"""Errors that are the user's to mend: shown as one line per problem, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import Repr
from typing import Final

# characters of a value in a message
MOST_SHOWN: Final = 80
# characters of a line that says what is wrong: it starts with where and ends with the fix
LONGEST_LINE: Final = 1000
_SHORT: Final = Repr()
_SHORT.maxlevel, _SHORT.maxother, _SHORT.maxstring = 3, 60, MOST_SHOWN


def one_line(text: str) -> str:
    """Text that may quote a file, as one line that every terminal can show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def problem_line(text: str) -> str:
    """What is wrong, as one line; without its middle if it is too long, whatever it quotes."""
    line, half = one_line(text), LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[: half - 5]} ... {line[-half:]}"


def shown(value: object) -> str:
    """A value for a message, as Python spells it; cut, whatever its length and depth."""
    text = _SHORT.repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


class LtError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        problems: One line each: where, what we got, what is allowed, how to fix it. A single string is one problem.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        given = [problems] if isinstance(problems, str) else list(problems)
        self.problems: list[str] = [problem_line(problem) for problem in given]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[LtError], tuple[list[str]]]:
        """Keeps the lines apart when the error travels between processes."""
        return type(self), (self.problems,)


class DataError(LtError):
    """An input file, or what it holds, cannot be used."""


class RecipeError(LtError):
    """A recipe or an override names something that does not exist or is out of range."""


class OutOfMemory(LtError):
    """The memory of the machine, or of its GPU, is not enough."""


class OutputError(LtError):
    """The output exists already, or cannot be written."""
