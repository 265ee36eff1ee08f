"""Where the numbers of a run go besides ``metrics.jsonl``: programs that draw them while it works."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lt_data.errors import OutputError, RecipeError
from lt_data.versions import install_command


class Tracker(Protocol):
    """What a run asks of a tracker; making one imports what it needs and writes nothing."""

    def start(self, run: Path, config: Mapping[str, Any], *, done: int = 0) -> None:
        """Begins, or goes on after a resume.

        Args:
            run: The run directory, which exists.
            config: The resolved recipe as numbers, text, lists and dicts.
            done: Steps taken before; numbers of later ones come again.

        Raises:
            RecipeError: The tracker cannot start here.
        """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after so many steps; one step may be told of several times."""

    def close(self, *, failed: bool) -> None:
        """The run has ended, or was stopped."""


class TensorBoardTracker:
    """Event files in ``tensorboard/`` of the run directory.

    Raises:
        RecipeError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        self._module = _imported("torch.utils.tensorboard", tracker="tensorboard", extra="train")

    def start(self, run: Path, config: Mapping[str, Any], *, done: int = 0) -> None:
        """Opens the event file; see :class:`Tracker`."""
        self._folder, self._hook = run / "tensorboard", threading.excepthook
        threading.excepthook = self._in_thread
        # viewers forget the steps that a hard stop left after the checkpoint
        self._writer = self._module.SummaryWriter(str(self._folder), purge_step=done + 1 if done else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar for each value."""
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            raise self._refusal(error) from None

    def close(self, *, failed: bool) -> None:
        """Closes the event file."""
        try:
            self._writer.close()
        except OSError as error:
            # the run ends with the reason that it had
            if not failed:
                raise self._refusal(error) from None
        finally:
            threading.excepthook = self._hook

    def _in_thread(self, raised: threading.ExceptHookArgs) -> None:
        """Prints no traceback for a full disk: the thread that writes keeps its error, and the next call raises it."""
        if not issubclass(raised.exc_type, OSError):
            self._hook(raised)

    def _refusal(self, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"{self._folder}: cannot be written ({reason}); make room on its disk, or set trackers=[]")


class WandbTracker:
    """Weights & Biases, through its own client: what it sends and where to follows its own settings.

    Raises:
        RecipeError: The client is not installed.
    """

    def __init__(self) -> None:
        self._wandb = _imported("wandb", tracker="wandb", extra="wandb")

    def start(self, run: Path, config: Mapping[str, Any], *, done: int = 0) -> None:
        """Starts a run named like the directory; one that was cut off there goes on. See :class:`Tracker`."""
        try:
            self._run = self._wandb.init(name=run.resolve().name, dir=str(run), config=dict(config), resume="auto")
        except self._wandb.Error as error:
            raise RecipeError(
                f"trackers: 'wandb' cannot start ({' '.join(str(error).split())}); run wandb login, set "
                "WANDB_MODE=offline to send nothing, or leave it out: trackers=[tensorboard]"
            ) from None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values at the step."""
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """Finishes the run; one that failed can go on after a resume."""
        self._run.finish(exit_code=int(failed))


TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}


def make_trackers(names: Sequence[str]) -> tuple[Tracker, ...]:
    """Trackers by name, in the order of the names; nothing is written or sent before they start.

    Args:
        names: Keys of ``TRACKERS``.

    Raises:
        RecipeError: What a tracker needs is not installed.
    """
    return tuple(TRACKERS[name]() for name in names)


def _imported(module: str, *, tracker: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(
            f"trackers: '{tracker}' cannot be imported here ({' '.join(str(error).split())}); run: "
            f"{install_command(extra)}, or take it out of trackers"
        ) from None
