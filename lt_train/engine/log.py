"""What a run says while it works: a progress bar or plain lines, ``train.log``, ``metrics.jsonl``, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lt_train.engine.run_dir import RunDir, write_text


def make_bar(console: Console, label: str) -> Progress:
    """A progress bar with an ETA that hides itself when the console is no terminal."""
    return Progress(
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as in ``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def drop_later_metrics(run: RunDir, done: int) -> None:
    """Removes the lines of ``metrics.jsonl`` beyond a step: a resumed run writes them again."""
    if run.metrics.is_file():
        lines = run.metrics.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= done]
        write_text(run.metrics, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """The step of a line; infinite for one that was cut off when the run was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class RunLog:
    """Writes every line of a run to where people and programs look for it.

    Use as a context manager; on leaving, files are closed.

    Args:
        run: The run directory.
        total: Steps of the whole run; 0 for one that takes none and needs no bar.
        every: Steps between lines.
        console: Where people read; standard error unless given.
    """

    def __init__(self, run: RunDir, *, total: int, every: int, console: Console | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.console = console or Console(stderr=True)
        self.total = total
        self.every = every
        self._log: TextIO = run.log.open("a", encoding="utf-8")
        self._metrics: TextIO = run.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run.path / "tensorboard"))  # type: ignore[no-untyped-call]
        self._bar = make_bar(self.console, "training")
        self._task = self._bar.add_task("", total=total, note="")
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> RunLog:
        if self.total:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if error is not None:
            self._write_line(f"stopped: {type(error).__name__}: {error}")
        self._log.close()
        self._metrics.close()
        self._board.close()  # type: ignore[no-untyped-call]

    def line(self, text: str) -> None:
        """A line for people."""
        self._write_line(text)
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _write_line(self, text: str) -> None:
        self._log.write(f"{datetime.now().isoformat(timespec='seconds')} {text}\n")
        self._log.flush()

    def is_due(self, index: int) -> bool:
        """Whether a step gets a line; the first and the last always do."""
        return index == 0 or (index + 1) % self.every == 0 or index + 1 == self.total

    def advance(self, done: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=done)

    def step(self, index: int, epoch: int, values: Mapping[str, float]) -> None:
        """The losses and the learning rate of a step."""
        now = time.monotonic()
        self._first = self._first or (index, now)
        first_index, start = self._first
        eta = (now - start) / max(index - first_index, 1) * (self.total - index - 1)
        self.record({"step": index + 1, "epoch": epoch, **values})
        losses = "  ".join(
            f"{name.removeprefix('loss_')} {value:.4f}" for name, value in values.items() if name != "lr"
        )
        self._bar.update(self._task, note=f"loss {values['loss']:.3f}")
        text = f"step {index + 1}/{self.total}  eta {duration(eta) if index > first_index else '?'}"
        text = f"{text}  {losses}  lr {values['lr']:.2e}"
        if self._bar.disable:
            self.line(text)
        else:
            self._write_line(text)

    def record(self, values: Mapping[str, Any]) -> None:
        """A line for programs; numbers go to TensorBoard too."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._metrics.write(json.dumps({**finite, "time": round(time.time(), 3)}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            if isinstance(value, float) and name != "epoch":
                self._board.add_scalar(name, value, int(values["step"]))  # type: ignore[no-untyped-call]
