"""Errors that are the user's to mend: shown as one line per problem, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class LtError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        problems: One line each: where, what we got, what is allowed, how to fix it. A single string is one problem.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[LtError], tuple[list[str]]]:
        """Keeps the lines apart when the error travels between processes."""
        return type(self), (self.problems,)


class DataError(LtError):
    """An input file, or what it holds, cannot be used."""


class RecipeError(LtError):
    """A recipe or an override names something that does not exist or is out of range."""


class OutputError(LtError):
    """The output exists already, or cannot be written."""
