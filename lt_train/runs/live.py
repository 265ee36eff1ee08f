"""The figures of a step for people: in one line, and as a table that stays at the foot of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

REFRESHES_PER_SECOND = 4
# what is no loss: its name and text for people
OTHERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "lr": ("lr", "{:.2e}".format),
    "images_per_second": ("images/s", "{:.2f}".format),
    "data_wait": ("waiting for data", lambda share: f"{100 * share:.0f} %"),
    "memory_gib": ("memory", "{:.2f} GiB".format),
}


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, as in ``1:02:03``; a question mark for what is not known."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def figures(values: Mapping[str, float]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Names and texts for people: the losses, then what is no loss."""
    losses = [(key.replace("loss_", "", 1), f"{value:.4f}") for key, value in values.items() if key not in OTHERS]
    others = [(name, text(values[key])) for key, (name, text) in OTHERS.items() if key in values]
    return losses, others


class LiveTable:
    """The state of a training; while it is shown, it is drawn a few times a second, below all lines.

    Args:
        console: A terminal.
        total: Steps of the whole run.
        done: Steps that were taken before.
    """

    def __init__(self, console: Console, *, total: int, done: int = 0) -> None:
        self.console = console
        self.total, self.done = total, done
        self.epoch: int | None = None
        self.seconds_left: float | None = None
        self.values: Mapping[str, float] = {}
        self.below = ""
        self._live: Live | None = None

    def start(self) -> None:
        """Shows the table."""
        self._live = Live(self, console=self.console, refresh_per_second=REFRESHES_PER_SECOND)
        self._live.start()

    @property
    def is_shown(self) -> bool:
        """Whether the table is on the screen."""
        return self._live is not None

    def stop(self, *, keep: bool) -> None:
        """Draws the table a last time, and leaves it on the screen or takes it away; nothing if it is not shown."""
        if self._live is not None:
            self._live.transient = not keep
            # what is going to happen has happened when the table is drawn the last time
            self.below = ""
            self._live.stop()
            self._live = None

    def __rich__(self) -> Group:
        return Group(self._progress(), self._figures(), *[Text(self.below)] * bool(self.below))

    def _progress(self) -> Table:
        row = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None, None):
            row.add_column(ratio=ratio, no_wrap=True)
        epoch = "" if self.epoch is None else f"epoch {self.epoch + 1}"
        bar = ProgressBar(total=self.total, completed=self.done)
        row.add_row(f"step {self.done}/{self.total}", bar, epoch, f"ETA {duration(self.seconds_left)}")
        return row

    def _figures(self) -> Table:
        """Losses on the left, the rest on the right."""
        table = Table.grid(padding=(0, 2))
        for _ in range(2):
            table.add_column(no_wrap=True)
            table.add_column(no_wrap=True, justify="right")
        for loss, other in zip_longest(*figures(self.values), fillvalue=("", "")):
            table.add_row(*loss, *other)
        return table
