"""Requests to end (Ctrl-C, SIGTERM, SIGHUP) that wait for the end of a step, where a checkpoint is exact."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STANDARD_ERROR = 2
# seconds in which several signals are one
AS_ONE = 2.0
TOLD = "interrupted: the run ends after this step; after 2 seconds another signal ends it at once, without a checkpoint"


class Interrupted(KeyboardInterrupt):
    """A run was asked to end and has a checkpoint that it can be resumed from."""


class Interrupts:
    """While it is entered, the first signal waits until :meth:`deliver`; a second one acts at once.

    Signals within two seconds of the first count as one: launchers send what the whole group of processes got already.

    A signal acts by its own handler, the one that was there before. One that has none in Python (ignored by ``nohup``,
    or the system's default) is left alone, and so are all of them outside of the main thread, where none arrives.

    Args:
        show: Shows a line where people look, if something is drawn there that a line of our own would tear apart, and
            says whether it did; called by the signal's handler, so it may set something and no more.
    """

    def __init__(self, show: Callable[[str], bool] = lambda _: False) -> None:
        self._show = show
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._waiting: int | None = None
        self._first = -math.inf
        self._at_once = False
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            # a handler that acted may have set another one, which stays
            if signal.getsignal(number) == self._take:
                signal.signal(number, handler)
        if error is None:
            self.deliver()

    @property
    def waiting(self) -> bool:
        """Whether a signal waits to be delivered."""
        return self._waiting is not None

    def deliver(self) -> None:
        """Lets a signal act that waits; what its handler raises, as a rule ``KeyboardInterrupt``, comes from here."""
        number, self._waiting = self._waiting, None
        if number is not None:
            self._handlers[number](number, None)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets every signal act when it comes: what is done meanwhile changes no state."""
        self._at_once = True
        try:
            self.deliver()
            yield
        finally:
            self._at_once = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or os.getpid() != self._process:
            self._handlers[number](number, frame)
            return
        if self.waiting:
            if time.monotonic() - self._first > AS_ONE:
                self._handlers[number](number, frame)
            return
        self._waiting, self._first = number, time.monotonic()
        if self._show(TOLD):
            return
        # nothing that is buffered: the signal may have come in the middle of a write
        with suppress(OSError):
            os.write(STANDARD_ERROR, f"\n{TOLD}\n".encode())
