"""What both commands share: error lines and exit codes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click

from lt_data.errors import LtError
from lt_data.mending.kinds import kinds_for
from lt_data.text_tables import fitted, wrapped
from lt_train.launch import leave_code, speaks

INPUT_IS_WRONG = 1
# EX_TEMPFAIL of sysexits.h: the same command can go on later
RESUMABLE = 75
# a problem of a file that has a code
_OF_A_FILE: Final = re.compile(r"(?P<file>.+?): (?P<code>LT\d{3}): ")
NO_MEMORY = "out of memory; close other programs, or use a machine with more"
HELP: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
OTHER_DATA_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("build", "coco-lt", "make", "create"), "build-coco-lt"),
    **dict.fromkeys(("stats", "statistics", "groups", "count"), "group-stats"),
    **dict.fromkeys(("validate", "lint"), "check"),
    **dict.fromkeys(("demo", "synthetic"), "demo-pool"),
    **dict.fromkeys(("convert", "voc", "yolo", "voc2coco", "yolo2coco"), "import"),
    **dict.fromkeys(("weights", "reweight"), "class-weights"),
    **dict.fromkeys(("rfs", "factors"), "repeat-factors"),
    **dict.fromkeys(("view", "browse", "visualise", "visualize"), "show"),
    **dict.fromkeys(("compare",), "diff"),
    **dict.fromkeys(("folds", "kfold", "cross-validation", "train-val"), "split"),
    **dict.fromkeys(("fix", "repair", "clean", "sanitize"), "mend"),
    **dict.fromkeys(("join", "concat", "combine"), "merge"),
    **dict.fromkeys(("subset", "select"), "filter"),
}
OTHER_TRAIN_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("train", "training", "run", "finetune", "tune"), "fit"),
    **dict.fromkeys(("test", "val", "validate", "evaluate", "evaluation", "metrics"), "eval"),
    **dict.fromkeys(("infer", "inference", "detect", "demo-image"), "predict"),
    **dict.fromkeys(("demo", "example"), "quickstart"),
    **dict.fromkeys(("new", "start", "setup", "draft"), "init"),
    **dict.fromkeys(("check", "env", "info", "checks"), "doctor"),
    **dict.fromkeys(("calibration", "post-hoc"), "calibrate"),
    **dict.fromkeys(("features", "extract", "embed"), "cache"),
    **dict.fromkeys(("grid", "ablate", "ablation", "search"), "sweep"),
    **dict.fromkeys(("paper", "tables", "benchmark"), "reproduce"),
    **dict.fromkeys(("models", "list", "zoo", "configs"), "recipes"),
    **dict.fromkeys(("show", "cfg"), "config"),
    **dict.fromkeys(("diff",), "compare"),
}


TABLE_OR_JSON = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


def fraction(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuses what is no number from 0 to 1; a range of click lets NaN pass."""
    if value is not None and not 0 <= value <= 1:
        raise click.BadParameter(f"{value} is not in the range 0<=x<=1.", ctx, param)
    return value


class Terminated(KeyboardInterrupt):
    """Somebody asked this process to end, or its terminal went away."""


class FilePath(click.Path):
    """A path for the library to open: what is wrong with the file is the library's to say."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses an empty text, which would be the working directory."""
        if value == "":
            self.fail("the path is empty; give one, or leave the option out.", param, ctx)
        return super().convert(value, param, ctx)


class GroupsOption(click.Option):
    """``--groups``, which was called ``--edges`` and is still taken by that name; the help has the one it has now."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The name and what it is for."""
        record = super().get_help_record(ctx)
        return record and (record[0].replace("--edges, ", "").replace(", --edges", ""), record[1])

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The name in messages."""
        return "'--groups'"


def groups_option(**attributes: Any) -> Callable[[Any], Any]:
    """The option ``--groups`` of commands whose functions call it ``edges``."""
    return click.option("--groups", "--edges", "edges", cls=GroupsOption, **attributes)


class CommandGroup(click.Group):
    """Commands whose errors are lines, from parsing and their first import on.

    Args:
        other_names: What other tools call a command, in small letters with hyphens, and what it is called here.
    """

    def __init__(self, *args: Any, other_names: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.other_names = other_names or {}
        self.arguments: tuple[str, ...] = ()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; one that is called otherwise elsewhere is named."""
        name = args[0].lower().replace("_", "-")
        known = self.other_names.get(name) or (name if name in self.commands else None)
        if args[0] not in self.commands and known is not None:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{known}'?")
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Any:
        """Parses and runs."""
        self.arguments = tuple(sys.argv[1:] if args is None else args)
        # inside too: no signal ends the process before its code is left
        with code_left(), error_lines(), signals_as_interrupts(), code_left():
            return super().main(args, *others, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parses; here, because click would print a word of its own for an interrupt."""
        with error_lines():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command."""
        with error_lines():
            return super().invoke(ctx)


@contextmanager
def code_left() -> Iterator[None]:
    """Leaves the exit code for the process that started this one as one of several, see ``lt_train.launch``."""
    try:
        yield
    except SystemExit as end:
        leave_code(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP an exception, as Ctrl-C is, so that what is half written is removed.

    A signal that somebody handles or ignores already (``nohup``) is left alone, and processes started by a fork die of
    theirs as they would without this.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    else:
        numbers = []
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        # one is enough: a second must not stop the tidying
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def error_lines() -> Iterator[None]:
    """Prints each problem on a line of its own and leaves with exit code 1, without a traceback."""
    try:
        yield
    except LtError as error:
        leave(*error.problems, notes=_mends_for(error.problems))
    except BrokenPipeError:
        leave()
    except OSError as error:
        where = error.filename or _where_raised(error)
        leave(f"{where}: {error.strerror or error}" if where else str(error.strerror or error))
    except MemoryError:
        leave(NO_MEMORY)
    except ImportError as error:
        # what the linker says of a library that has no room
        if "failed to map segment" not in str(error):
            raise
        leave(NO_MEMORY)
    except KeyboardInterrupt as interrupt:
        _end_as_asked(interrupt)
    except SystemError as error:
        # what compiled code makes of an interrupt that came while it worked
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        _end_as_asked(error.__cause__)


def _end_as_asked(interrupt: KeyboardInterrupt) -> NoReturn:
    if isinstance(interrupt, Terminated):
        stop("terminated")
    # a terminal shows ^C and leaves the cursor after it
    if sys.stderr.isatty():
        click.echo(err=True)
    stop("interrupted")


def _where_raised(error: OSError) -> str:
    """What an error that names no file is about, if that can be known: whatever is printed, click prints."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return "standard output" if frame.f_code is click.echo.__code__ else ""


def _mends_for(problems: Sequence[str]) -> Iterator[str]:
    """The command that may put annotation files right which were refused."""
    found: dict[str, list[str]] = {}
    for match in filter(None, map(_OF_A_FILE.match, problems)):
        found.setdefault(match["file"], []).append(match["code"])
    for file, codes in found.items():
        if kinds := kinds_for(codes):
            yield f"lt-data mend {shlex.quote(file)} --fix {','.join(kinds)} may put some of it right"


def leave(*problems: str, code: int = INPUT_IS_WRONG, notes: Iterable[str] = ()) -> NoReturn:
    """Ends the process with a line for each problem, and notes behind them."""
    # the terminal itself may be what is gone
    with suppress(OSError):
        for problem in problems:
            tell("error", problem)
        for note in notes:
            tell("note", note)
    _drop_unwritten()
    sys.exit(code)


def stop(word: str, code: int = INPUT_IS_WRONG) -> NoReturn:
    """Ends the process because somebody asked for it, which is no error; of several processes the first says so."""
    with suppress(OSError):
        if speaks():
            click.echo(word, err=True)
    leave(code=code)


def show_text(text: str, style: str = "table") -> None:
    """What a command found, on standard output: text for people fits a terminal, CSV and JSON stay as they are."""
    click.echo(fitted(text) if style == "table" else text)


def tell(kind: str, text: str) -> None:
    """A note, a warning or an error on standard error: in a terminal it breaks at words, elsewhere it is one line."""
    line = f"{kind}: {text}"
    if sys.stderr.isatty():
        line = wrapped(line, "  ", shutil.get_terminal_size().columns)
    click.echo(line, err=True)


def _drop_unwritten() -> None:
    """What standard output could not take must not fail a second time when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
