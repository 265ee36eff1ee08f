"""Images that cannot be read and are left out: told once each, counted, and not without a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lt_data.errors import DataError, LtError

# lines that the end of a run repeats
SHOWN = 5


class BadImages:
    """What is wrong with the images that a process left out.

    Args:
        most: More than so many different ones stop the run.
        tell: Gets a line for each image when it is met first.
    """

    def __init__(self, most: int, tell: Callable[[str], None]) -> None:
        self.most = most
        self.tell = tell
        self.lines: dict[str, int] = {}

    def add(self, error: LtError) -> None:
        """Counts an image.

        Raises:
            DataError: There are too many.
        """
        line = " ".join(error.problems)
        if line not in self.lines:
            self.tell(f"warning: left out: {line}")
        self.lines[line] = self.lines.get(line, 0) + 1
        if len(self.lines) > self.most:
            raise DataError(
                f"data.most_bad_images: {len(self.lines)} images cannot be read, {self.most} may be left out; the last "
                f"one is {line}; mend them, or allow more"
            )

    def merge(self, lines: Mapping[str, int]) -> None:
        """Adds what another process left out: its lines and how often.

        Args:
            lines: Its :attr:`lines`.
        """
        for line, times in lines.items():
            self.lines[line] = self.lines.get(line, 0) + times

    def summary(self) -> list[str]:
        """Lines for the end of a run, none if all could be read."""
        if not self.lines:
            return []
        times = sum(self.lines.values())
        first = [f"  {line}" for line in [*self.lines][:SHOWN]]
        more = [f"  and {len(self.lines) - SHOWN} more"] if len(self.lines) > SHOWN else []
        return [f"warning: {len(self.lines)} images cannot be read and were left out, {times} times:", *first, *more]
