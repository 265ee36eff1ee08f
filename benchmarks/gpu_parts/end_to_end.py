"""The command line on a device, as a user has it: the quickstart, a run of Mask R-CNN R50-FPN, interrupts, evaluation.

- ``quickstart``: a short one; AP of its two runs in percent.
- ``same AP``: the quickstart's softmax run, measured by ``lt-train eval`` on the CPU and on the device with TF32
  switched off: AP has to agree within 0.1 percent points. The quickstart's own figure is that of the device with
  PyTorch's defaults.
- ``fit``: drawn JPEGs of 640 x 480 pixels, a quarter of them upright, 80 classes, resized to 800 x 1333, bf16 with NHWC
  feature maps, 16 images a step. One run of 48 steps, interrupted (SIGINT) after 16 and after 32 and resumed each time
  with another number of loader processes: 12, 8, 4. For each: images per second and the share of the time spent
  waiting for data, medians over stretches of four steps without the first one, and the most memory.
- ``eval``: ``lt-train eval`` of that run.

A job that fails leaves its error, and those that do not need it go on.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common.drawn_data import draw_data
from common.peer_training import reference_model
from common.record import Table

COLUMNS = ("job", "quantity", "value")
ROOT = Path(__file__).resolve().parents[2]
SAME_AP = 0.1
RESUMABLE = 75
IMPATIENCE = 0.1


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        iterations: Of the quickstart.
        recipe: Of ``fit``.
        workers: Loader processes of the parts of the run.
        steps: After which each of them but the last is interrupted.
        total: Steps of the run.
        warmup: Of each part, not counted.
        log_every: Steps between figures, of which a GPU can do some without being waited for.
        images: That are drawn for training.
        val: That are drawn for the evaluation.
        overrides: Of the recipe.
    """

    iterations: int = 120
    recipe: str = "mask_rcnn_r50_fpn_coco_lt"
    workers: tuple[int, ...] = (12, 8, 4)
    steps: int = 16
    total: int = 48
    warmup: int = 4
    log_every: int = 4
    images: int = 96
    val: int = 32
    overrides: tuple[str, ...] = ("compute.precision=bf16", "compute.channels_last=true")


SMALL = (
    "model.name=mask_rcnn_small",
    "model.min_size=[64]",
    "model.max_size=107",
    "optim.batch=2",
    "optim.base_batch=2",
)
TINY = Size(10, workers=(1, 0), steps=3, total=30, warmup=1, log_every=1, images=4, val=2, overrides=SMALL)


class JobError(Exception):
    """A job did not do what it has to."""


def measure(path: Path, device: str, *, tiny: bool) -> list[str]:
    """Writes the table.

    Args:
        path: The CSV file.
        device: ``cpu`` or ``cuda``.
        tiny: A rehearsal at the smallest size.

    Returns:
        A line for every job that failed.
    """
    table, size, failed = Table(path, COLUMNS, device), TINY if tiny else Size(), []
    with tempfile.TemporaryDirectory() as folder:
        for job in (fit, quickstart, same_ap, evaluate):
            try:
                job(table, Path(folder), device, size)
            except JobError as error:
                failed.append(f"{job.__name__}: {error}")
                sys.stderr.write(f"{failed[-1]}\n")
            except Exception as error:
                traceback.print_exc()
                failed.append(f"{job.__name__}: {type(error).__name__}: {error}")
    return failed


def quickstart(table: Table, folder: Path, device: str, size: Size) -> None:
    """The whole job once."""
    words = ("quickstart", "--device", device, "--iterations", size.iterations, "--out", "quickstart")
    table.add("quickstart", "seconds", timed(lambda: lt_train(*words, cwd=folder)))
    for run in ("softmax", "bags"):
        for kind, ap in ap_of(folder / "quickstart" / run / "eval").items():
            table.add("quickstart", f"{run}, {kind} AP", ap)


def same_ap(table: Table, folder: Path, device: str, size: Size) -> None:
    """The same checkpoint on both devices."""
    run = folder / "quickstart" / "softmax"
    if not run.exists():
        raise JobError("needs the quickstart's run")
    found = {}
    for where in dict.fromkeys(("cpu", device)):
        out = folder / f"eval-{where}"
        lt_train("eval", run, "--device", where, "--out", out, cwd=folder, NVIDIA_TF32_OVERRIDE="0")
        found[where] = ap_of(out)
        for kind, ap in found[where].items():
            table.add("same AP", f"{where}, {kind} AP", ap)
    # a rehearsal on the CPU compares with what the run measured
    own = ap_of(run / "eval") if device == "cpu" else found[device]
    for kind, ap in found["cpu"].items():
        table.add("same AP", f"{kind} difference", abs(ap - own[kind]))
    check_same_ap(found["cpu"], own, "on the CPU", f"on {device}")


def check_same_ap(a: dict[str, float], b: dict[str, float], of_a: str, of_b: str) -> None:
    """Refuses AP that differ.

    Raises:
        JobError: They do.
    """
    words = {kind: f"{kind} AP is {ap:.2f} {of_a} and {b[kind]:.2f} {of_b}" for kind, ap in a.items()}
    differing = [words[kind] for kind in a if abs(a[kind] - b[kind]) > SAME_AP]
    if differing:
        raise JobError("; ".join(differing))


def fit(table: Table, folder: Path, device: str, size: Size) -> None:
    """One run in several parts."""
    words = [size.recipe, *recipe_of(folder, device, size), "--out", "run"]
    for number, workers in enumerate(size.workers):
        last = number == len(size.workers) - 1
        before = steps_done(folder)
        resume = ["--resume"] if number else []
        fit_until(None if last else before + size.steps, folder, [*words, f"data.workers={workers}", *resume])
        steps = [line for line in logged(folder) if line["step"] > before + size.warmup]
        if not steps:
            raise JobError(f"no step is left to measure with {workers} workers")
        for quantity in ("images_per_second", "data_wait"):
            value = statistics.median(line[quantity] for line in steps)
            table.add("fit", f"{workers} workers, {quantity.replace('_', ' ')}", value)
        table.add("fit", f"{workers} workers, peak GiB", steps[-1]["memory_gib"])
    if steps_done(folder) != size.total:
        raise JobError(f"the run ended at step {steps_done(folder)} of {size.total}")


def logged(folder: Path) -> list[dict[str, Any]]:
    """What the run has written of its steps."""
    file = folder / "run/metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    # the last line may be half there
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in found if "data_wait" in line]


def steps_done(folder: Path) -> int:
    """The last step that is logged."""
    return max((line["step"] for line in logged(folder)), default=0)


def recipe_of(folder: Path, device: str, size: Size) -> list[str]:
    """Overrides of the run, and its data and weights."""
    overrides = [f"device={device}", f"log_every={size.log_every}", "optim.lr=0.001", *size.overrides]
    overrides += [f"schedule.iterations={size.total}", "schedule.decay=[]", "schedule.warmup=0"]
    for seed, (part, images) in enumerate((("train", size.images), ("val", size.val))):
        file = draw_data(folder / part, images=images, classes=80, objects=7, portraits=0.25, seed=seed)
        overrides += [f"data.{part}.annotations={file}", f"data.{part}.images={file.parent / 'images'}"]
    if "model.name=mask_rcnn_small" in size.overrides:
        return [*overrides, "model.weights=none"]
    torch.manual_seed(0)
    torch.save(reference_model(80, 800, 1333).state_dict(), folder / "weights.pt")
    return [*overrides, f"model.weights={folder / 'weights.pt'}"]


def fit_until(step: int | None, folder: Path, words: Sequence[object]) -> None:
    """Runs ``lt-train fit``, and interrupts it when a step is logged."""
    with start("fit", *words, cwd=folder) as process:
        while step is not None and process.poll() is None:
            if steps_done(folder) >= step:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(IMPATIENCE)
    wanted = 0 if step is None else RESUMABLE
    if process.returncode != wanted:
        raise JobError(f"lt-train fit left with {process.returncode} instead of {wanted}")


def evaluate(table: Table, folder: Path, device: str, size: Size) -> None:
    """Of the run."""
    if not (folder / "run/checkpoints/last.pt").exists():
        raise JobError("needs the run of fit")
    words = ("eval", "run", "--out", "again")
    table.add("eval", "seconds", timed(lambda: lt_train(*words, cwd=folder)))
    check_same_ap(ap_of(folder / "run/eval"), ap_of(folder / "again"), "in the run", "by lt-train eval")
    # hardly trained, its AP may be 0: detections are there in any case
    own, again = (detections_of(folder / path) for path in ("run/eval", "again"))
    table.add("eval", "detections", again)
    if not 0.98 * own <= again <= 1.02 * own or not own:
        raise JobError(f"the run has {own} detections, lt-train eval {again}")


def detections_of(evaluation: Path) -> int:
    """How many were measured."""
    return int(json.loads((evaluation / "metrics.json").read_text())["counts"]["detections"])


def ap_of(evaluation: Path) -> dict[str, float]:
    """AP in percent of boxes and masks."""
    metrics: dict[str, Any] = json.loads((evaluation / "metrics.json").read_text())
    return {kind: 100 * (metrics[kind]["AP"] or 0.0) for kind in ("bbox", "segm")}


def timed(call: Callable[[], None]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def start(*words: object, cwd: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts ``lt-train`` of this checkout; what it says goes to the log."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "cli.train", *map(str, words)]
    sys.stdout.write(f"lt-train {' '.join(map(str, words))}\n")
    sys.stdout.flush()
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment, "PYTHONPATH": path})


def lt_train(*words: object, cwd: Path, **environment: str) -> None:
    """Runs ``lt-train`` to its end.

    Raises:
        JobError: It failed.
    """
    with start(*words, cwd=cwd, **environment) as process:
        process.wait()
    if process.returncode:
        raise JobError(f"lt-train {words[0]} left with {process.returncode}")
