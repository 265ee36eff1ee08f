"""Where people watch: one console on standard error, and a bar on it for every wait.

Only commands and trainings show anything; the functions of this package tell a ``Progress``, which may be silent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

# seconds between lines where nothing can be drawn anew: in a file or a dumb terminal
LINE_EVERY = 10.0

_SHOWN_ON: ContextVar[Console | None] = ContextVar("shown_on", default=None)


def terminal() -> Console:
    """The console of this context: standard error, or the one of :func:`shown_on`."""
    from rich.console import Console

    return _SHOWN_ON.get() or Console(stderr=True)


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Shows lines, bars and tables on another console meanwhile.

    Args:
        console: Of rich; ``Console(quiet=True)`` shows nothing.
    """
    before = _SHOWN_ON.set(console)
    try:
        yield
    finally:
        _SHOWN_ON.reset(before)


def say(text: str) -> None:
    """A line for people, as it is."""
    terminal().print(text, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """How far a wait is, see ``lt_data.progress.Progress``: a line for each step and a bar with an ETA.

    Where nothing can be drawn anew, a plain line every ten seconds stands for the bar: none for what is done sooner.

    Args:
        label: What the bar shows.
        unit: What it counts: ``bytes``, another word, or nothing where the share says enough.
        keep: Leave the full bar on the screen.
    """

    def __init__(self, label: str, unit: str = "images", *, keep: bool = False) -> None:
        self._label, self._unit = label, unit
        console = terminal()
        self._bar = _make_bar(console, label, unit, keep) if console.is_interactive and not console.quiet else None
        self._next_line = time.monotonic() + LINE_EVERY

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str) -> None:
        """Names the step that begins; the bar waits until something of it is done."""
        if self._bar is None:
            say(f"{what} ...")
            return
        self._bar.update(self._bar.task_ids[0], visible=False)
        self._bar.console.print(f"{what} ...", markup=False, highlight=False, soft_wrap=True)

    def __call__(self, done: int, total: int) -> None:
        """Shows how much is done of how much there is."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, visible=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            say(f"{self._label}: {_share(done, total, self._unit)}")


def _share(done: int, total: int, unit: str) -> str:
    percent = f"{100 * done // max(total, 1)} %"
    if not unit:
        return percent
    return f"{percent} of {total / 1e6:,.0f} MB" if unit == "bytes" else f"{done:,} of {total:,} {unit}"


def _make_bar(console: Console, label: str, unit: str, keep: bool) -> RichProgress:
    from rich import progress as rich

    counter = {"bytes": rich.DownloadColumn, "": rich.TaskProgressColumn}.get(unit, rich.MofNCompleteColumn)
    columns = (rich.TextColumn(label), rich.BarColumn(), counter(), rich.TimeRemainingColumn())
    bar = rich.Progress(*columns, console=console, transient=not keep)
    bar.add_task("", total=None, visible=False)
    return bar
