"""Everything that has to be known of lt-train on a GPU, in one command that keeps whatever was measured.

    python benchmarks/gpu.py --out DIR                # 7 minutes on one GPU
    python benchmarks/gpu.py --out DIR --only train-step --minutes 6
    python benchmarks/gpu.py --tiny                   # rehearses every part on the CPU, in 90 seconds on two cores

Nothing has to be installed but Python 3.11 or newer, PyTorch, torchvision and what a wheel of this package would ask
for; wheels that are unpacked on PYTHONPATH do. Every part is a process of its own with a time limit of its own. Of 7
minutes, drawing its data included, a part may take:

    part         minutes  what it does
    tests           0.65  the tests marked ``gpu``
    end-to-end      1.75  ``gpu_parts/end_to_end.py``: quickstart, fit, interrupts, eval, as a user types them
    train-step      2.40  ``train_step.py --cuda``: steps against torchvision's reference loop
    profile         0.80  ``gpu_parts/profile.py``: kernels, calls of the host, waits, share of the card's peak
    pieces          0.50  ``gpu_parts/pieces.py``: parts of a step against their peers
    features        0.90  ``features.py``: twelve epochs of BAGS from features against the direct way

What a part leaves of its time, or of another sum of ``--minutes``, those that follow share in these proportions.
When a part's time is over it is ended, and the rows that it has are kept; when all of it is over, the rest is named as
not run. A part that fails leaves its error, and the next one starts.

Writes into DIR: ``gpu.csv`` (the table that is printed last), ``gpu.log`` (every line of every part) and a table of
each part but the tests: ``end_to_end_cuda.csv``, ``train_step_cuda.csv``, ``profile_cuda.csv``, ``pieces_cuda.csv``,
``features_cuda.csv``;
with ``--tiny`` they end in ``_cpu``. A part replaces what an earlier call left of it there, other parts' figures stay,
and the log grows. Ctrl-C and SIGTERM end the part that runs, and what was measured is printed. Leaves with 1 unless
everything is ok: also if something was ended because its time was over, which the table tells from failures.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

# the minutes count from here: importing PyTorch takes some seconds on a bare machine
BEGUN = time.monotonic()
BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
OUT = Path("runs/gpu")
COLUMNS = ("part", "seconds", "what", "figure", "ratio", "peak_mib", "outcome")
# what a part that is ended has for tidying up, and below which none is started
GRACE, LEAST = 5.0, 10.0
WIDTH = 46
NOT_RUN = "not run: the time was over"


@dataclass(frozen=True)
class Line:
    """A figure that is worth a line of the last table."""

    what: str
    figure: str
    ratio: str = ""
    peak_mib: str = ""


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        minutes: Its share of the time.
        command: Its words, from the folder of results, the device, and whether it is a rehearsal.
        lines: What is worth reading of it, from its table and its last line.
    """

    minutes: float
    command: Callable[[Path, str, bool], list[str]]
    lines: Callable[[Path, str], list[Line]]


@dataclass
class Outcome:
    """How a part went."""

    part: str
    seconds: float = 0.0
    text: str = "ok"
    lines: list[Line] = field(default_factory=list)


def table_of(part: str, out: Path, device: str) -> Path:
    """The file of a part's figures."""
    return out / f"{part.replace('-', '_')}_{device}.csv"


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table, none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def tests(out: Path, device: str, tiny: bool) -> list[str]:
    """Only files that hold such tests: others need packages that may not be here."""
    files = [str(f) for f in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in f.read_text(encoding="utf-8")]
    options = ("-m", "gpu", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    return [sys.executable, "-m", "pytest", *options, *files]


def lines_of_tests(path: Path, last: str) -> list[Line]:
    """What pytest counted."""
    counted = re.findall(r"\d+ (?:passed|failed|skipped|errors?)\b", last)
    return [Line("tests marked gpu", ", ".join(counted))]


def train_step(out: Path, device: str, tiny: bool) -> list[str]:
    """Fewer steps than the script alone takes."""
    options = ["--tiny"] if tiny else ["--cuda", "--warmup", "6", "--steps", "20"]
    path = table_of("train-step", out, device)
    return [sys.executable, str(BENCHMARKS / "train_step.py"), *options, "--out", str(path)]


def lines_of_train_step(path: Path, last: str) -> list[Line]:
    """Every contestant of every job."""
    return [
        Line(
            f"{row['classes']}:{row['trains']}, {row['contestant']}",
            f"{row['images_per_s']} images/s",
            row["ratio"],
            row["peak_mib"],
        )
        for row in rows_of(path)
    ]


def features(out: Path, device: str, tiny: bool) -> list[str]:
    """Images enough for a few steps."""
    options = ["--tiny", "--steps", "2"] if tiny else ["--device", "cuda", "--images", "64", "--steps", "20"]
    path = table_of("features", out, device)
    return [sys.executable, str(BENCHMARKS / "features.py"), *options, "--out", str(path)]


def lines_of_features(path: Path, last: str) -> list[Line]:
    """Seconds an image, and how many times less than the direct way."""
    return [
        Line(row["what"], f"{row['s_per_image'] or row['s_of_12_epochs_per_image']} s an image", row["ratio"])
        for row in rows_of(path)
    ]


def inside(part: str) -> Callable[[Path, str, bool], list[str]]:
    """The command of a part that this script runs itself, in another process."""

    def command(out: Path, device: str, tiny: bool) -> list[str]:
        words = [sys.executable, str(Path(__file__).resolve()), "--run", part, "--out", str(out)]
        return words + ["--tiny"] * tiny

    return command


def lines_of_end_to_end(path: Path, last: str) -> list[Line]:
    """Everything."""
    return [Line(f"{row['job']}: {row['quantity']}", row["value"]) for row in rows_of(path)]


def lines_of_profile(path: Path, last: str) -> list[Line]:
    """The sums."""
    kinds = ("matrix product", "step", "kernels")
    return [
        Line(f"{row['classes']} {row['kind']}".strip(), f"{row['ms']} ms, share {row['share'] or 'unknown'}")
        for row in rows_of(path)
        if row["kind"] in kinds
    ]


def lines_of_pieces(path: Path, last: str) -> list[Line]:
    """lt-train's."""
    return [
        Line(f"{row['piece']}, {row['classes']}".rstrip(", "), f"{row['ms']} ms", row["ratio"], row["peak_mib"])
        for row in rows_of(path)
        if row["contestant"] == "lt-train"
    ]


PARTS = {
    "tests": Part(0.65, tests, lines_of_tests),
    "end-to-end": Part(1.75, inside("end-to-end"), lines_of_end_to_end),
    "train-step": Part(2.4, train_step, lines_of_train_step),
    "profile": Part(0.8, inside("profile"), lines_of_profile),
    "pieces": Part(0.5, inside("pieces"), lines_of_pieces),
    "features": Part(0.9, features, lines_of_features),
}


class Kit:
    """Runs parts.

    Args:
        out: The folder of results.
        device: ``cpu`` or ``cuda``.
        minutes: For all parts.
        names: The parts, in their order.
    """

    def __init__(self, out: Path, device: str, minutes: float, names: Iterable[str]) -> None:
        self.out, self.device = out, device
        self.outcomes = [Outcome(name, text=NOT_RUN) for name in PARTS if name in names]
        self._deadline = BEGUN + 60 * minutes
        self._log: IO[str] = (out / "gpu.log").open("a", encoding="utf-8")
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        # parts of a rehearsal end at the same time
        self._writing = threading.Lock()
        again = {outcome.part for outcome in self.outcomes}
        self._kept = [list(row.values()) for row in rows_of(out / "gpu.csv") if row["part"] not in again]

    def run(self) -> None:
        """All parts; a rehearsal takes two at a time, which are not timed."""
        tiny = self.device == "cpu"
        self.record()
        # parts leave their weights and data here, also if they are killed
        with tempfile.TemporaryDirectory(prefix="gpu-") as folder, ThreadPoolExecutor(2 if tiny else 1) as pool:
            self._folder = folder
            try:
                for done in [pool.submit(self._run_part, outcome, tiny) for outcome in self.outcomes]:
                    done.result()
            except BaseException:
                self._stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._running):
                    end(process, at_once=True)
                raise
        self._log.close()

    def _limit(self, outcome: Outcome) -> float:
        """Seconds that a part may take: its share of what is left for it and those that follow, which all tidy up."""
        following = self.outcomes[self.outcomes.index(outcome) :]
        left = self._deadline - time.monotonic() - GRACE * len(following)
        return left * PARTS[outcome.part].minutes / sum(PARTS[o.part].minutes for o in following)

    def _run_part(self, outcome: Outcome, tiny: bool) -> None:
        limit, part = self._limit(outcome), PARTS[outcome.part]
        if self._stopped or limit < min(LEAST, 60 * part.minutes):
            return
        say(f"{outcome.part}: up to {limit:.0f} s ...")
        begun = time.monotonic()
        try:
            path = table_of(outcome.part, self.out, self.device)
            path.unlink(missing_ok=True)
            code, last = self._run_command(outcome.part, part.command(self.out, self.device, tiny), limit)
            outcome.lines = part.lines(path, last)
        except Exception as error:
            code, last = 1, f"{type(error).__name__}: {error}"
        outcome.seconds = time.monotonic() - begun
        outcome.text = "ok" if code == 0 else last or f"exit status {code}"
        if self._stopped:
            outcome.text = "ended: somebody asked for it"
        elif code is None:
            outcome.text = f"ended after {limit:.0f} s: its time was over"
        elif outcome.part == "tests" and not tiny and (code or "passed" not in last or "skipped" in last):
            outcome.text = f"not every test passed: {last}"
        say(f"{outcome.part}: {outcome.seconds:.0f} s, {outcome.text}")
        self.record()

    def _run_command(self, name: str, command: list[str], limit: float) -> tuple[int | None, str]:
        """Its exit status, ``None`` if its time was over, and the last line that it wrote."""
        paths = [str(ROOT), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PYTHONUNBUFFERED": "1",
                "TMPDIR": self._folder,
                # parts of a rehearsal run beside each other, and threads of one would wait for those of the other
                **({"OMP_NUM_THREADS": "1"} if self.device == "cpu" else {}),
            },
            # its loaders and contestants end with it
            start_new_session=True,
        )
        self._running.add(process)
        last: list[str] = []
        reader = threading.Thread(target=self._keep, args=(name, process, last), daemon=True)
        reader.start()
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        end(process, at_once=code is not None)
        reader.join(GRACE)
        self._running.discard(process)
        return code, last[0] if last else ""

    def _keep(self, name: str, process: subprocess.Popen[str], last: list[str]) -> None:
        """Every line goes to the log as it comes."""
        assert process.stdout is not None
        for line in process.stdout:
            # a part that outlives the kit writes to nobody
            with suppress(ValueError):
                self._log.write(f"{name} | {line.rstrip()}\n")
                self._log.flush()
            if line.strip():
                last[:] = [line.strip()]

    def record(self) -> None:
        """Writes what is known so far, after what an earlier call knows of other parts."""
        from common.record import Table

        with self._writing:
            table = Table(self.out / "gpu.csv", COLUMNS, self.device, shown=False, kept=self._kept)
            for outcome in self.outcomes:
                for line in outcome.lines or [Line("", "")]:
                    figures = (line.what, line.figure, line.ratio, line.peak_mib)
                    table.add(outcome.part, round(outcome.seconds), *figures, outcome.text)

    def format(self) -> str:
        """The table that is printed last."""
        header = f"{'part':<11} {'s':>4}  {'what':<{WIDTH}} {'figure':<24} {'ratio':>6} {'MiB':>7}"
        lines = [header, "-" * len(header)]
        for outcome in self.outcomes:
            lines.append(f"{outcome.part:<11} {outcome.seconds:>4.0f}  {outcome.text[:100]}")
            lines += [
                f"{'':<16}  {line.what[:WIDTH]:<{WIDTH}} {line.figure[:24]:<24} {line.ratio:>6} {line.peak_mib:>7}"
                for line in outcome.lines
            ]
        return "\n".join(lines)


def end(process: subprocess.Popen[str], *, at_once: bool) -> None:
    """Ends a part and whatever it started."""
    for number in (signal.SIGKILL,) if at_once else (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def stop(number: int, _: object) -> None:
    """SIGTERM and SIGHUP end the kit as Ctrl-C does."""
    raise KeyboardInterrupt


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_inside(part: str, out: Path, device: str, tiny: bool) -> None:
    """A part in this process; leaves with its failures."""
    if part == "end-to-end":
        from gpu_parts.end_to_end import measure
    elif part == "profile":
        from gpu_parts.profile import measure
    else:
        from gpu_parts.pieces import measure
    if failed := measure(table_of(part, out, device), device, tiny=tiny):
        raise SystemExit("; ".join(failed))


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, show_default=True, help="Folder.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=7.0, show_default=True, help="For all.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Only these parts.")
@click.option("--tiny", is_flag=True, help="A rehearsal on the CPU.")
@click.option("--run", type=click.Choice(list(PARTS)), hidden=True)
def main(out: Path, minutes: float, only: tuple[str, ...], tiny: bool, run: str | None) -> None:
    """Measures what there is to know of a GPU."""
    device = "cpu" if tiny else "cuda"
    out = out.resolve()
    if run is not None:
        run_inside(run, out, device, tiny)
        return
    if not tiny:
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError("no CUDA device is visible here; --tiny rehearses every part on the CPU")
    try:
        out.mkdir(parents=True, exist_ok=True)
        kit = Kit(out, device, minutes, only or PARTS)
    except OSError as error:
        raise click.UsageError(f"--out {out}: {error.strerror or error}") from None
    # a shell starts what it puts into the background with SIGINT ignored, and so would be every part
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with suppress(KeyboardInterrupt):
        kit.run()
    kit.record()
    say(f"\n{kit.format()}\n\nwritten: {out}")
    if any(outcome.text != "ok" for outcome in kit.outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
