"""How far a long call is: one protocol for whoever waits, a terminal or a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol


class Progress(Protocol):
    """Is told of a long call what it does and how far it is."""

    def step(self, what: str) -> None:
        """A step begins.

        Args:
            what: A line for people.
        """

    def __call__(self, done: int, total: int) -> None:
        """Something of the step is done.

        Args:
            done: What is done.
            total: What there is, in the same unit: bytes, images.
        """


class Silent:
    """Tells nobody."""

    def step(self, what: str) -> None:
        """Nothing."""

    def __call__(self, done: int, total: int) -> None:
        """Nothing."""


SILENT: Final = Silent()


class Counting(Silent):
    """Tells a function how far it is, and of no steps.

    Args:
        count: Called with what is done and what there is.
    """

    def __init__(self, count: Callable[[int, int], object]) -> None:
        self._count = count

    def __call__(self, done: int, total: int) -> None:
        """Passed on."""
        self._count(done, total)
