"""The commands ``lt-data`` and ``lt-train``: parse, call one public function, print."""

from __future__ import annotations

import sys
from types import TracebackType


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while the commands are still being imported: later on they answer it themselves."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


# in front of all other imports of this package, which take a few tenths of a second
sys.excepthook = _without_traceback
