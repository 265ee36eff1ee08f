"""Twelve epochs of BAGS from features, making them included, against the direct way on the same machine.

    python benchmarks/features.py [--device cuda] [--images 64] [--tiny]

A few drawn images, ResNet-50 at 800 x 1333 (with ``--tiny`` a small detector at 64, which says nothing), worked up to
twelve epochs of any number of images: what is measured is seconds an image of a step of the direct way, of a step from
features, and of making features of both versions of an image; what is done once a run (starting, opening) is left out
on both sides. The direct way is ``lt-train fit method=bags``, which computes nothing that it does not need. On a CPU
these are seconds of the processor, which other processes hardly change.

Rows: ``first`` is the first method, for which features are made; ``further`` is each one after it. ``ratio`` is the
direct way's time divided by it. Two forward passes instead of twelve bound ``first`` by about 6.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from common.drawn_data import draw_data
from common.record import Table

from lt_train.data.dataset import make_loader
from lt_train.engine.fit import fit
from lt_train.engine.optim import lr_at
from lt_train.engine.state import start_state
from lt_train.engine.step import Draws, losses_of_images, train_step
from lt_train.features.cache import cache_run
from lt_train.features.training import open_training
from lt_train.processes import Processes
from lt_train.recipe.load import make_recipe
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import load_run_data, make_plan
from lt_train.runs.model import choose_device

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "features.csv"
COLUMNS = ("detector", "side", "images", "what", "s_per_image", "s_of_12_epochs_per_image", "ratio")
EPOCHS, CLASSES, OBJECTS = 12, 80, 7
# what the first of twelve epochs less two passes can give, and what is promised of both
Clock = Callable[[], float]
PROMISED = {"first": 4.0, "further": 50.0}


def recipe_of(annotations: Path, device: str, workers: int, *overrides: str, tiny: bool) -> Recipe:
    """The recipe of all runs."""
    files = {"annotations": str(annotations), "images": str(annotations.parent / "images")}
    small = {"name": "faster_rcnn_small", "min_size": [64], "max_size": 107}
    sides = small if tiny else {"name": "faster_rcnn_r50_fpn"}
    content = {
        "data": {"train": files, "workers": workers},
        "model": {"weights": "none", **sides},
        "optim": {"batch": 2, "base_batch": 2, "lr": 1e-4},
        "schedule": {"epochs": 1000, "decay": [999], "warmup": 0},
        "trackers": [],
        "device": device,
    }
    return make_recipe(content, overrides)


def steps_of(recipe: Recipe, start: Path, features: Path | None) -> Callable[[], int]:
    """Takes a step of a run, the direct way or from features; gives how many images it saw."""
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    device, total = choose_device(recipe.device), plan.total_steps()
    state = start_state(recipe, data, device, init_from=start, resume=False)
    known = None if features is None else open_training(features, recipe, data, state.model, Processes())
    state.features = known
    state.model.train()
    dataset = data.dataset if known is None else known.dataset
    loader = make_loader(dataset, Draws(plan, 0), workers=recipe.data.workers, pin_memory=device.type == "cuda")
    batches, planned = iter(loader), iter(plan.steps(0))

    def step() -> int:
        now = next(planned)
        lr = lr_at(now, recipe.optim, recipe.schedule, total)
        losses = train_step(
            state, now, batches, lr=lr, losses_of=losses_of_images if known is None else known.losses_of
        )
        # waits for the device
        losses.read()
        return now.images

    return step


def seconds_per_image(step: Callable[[], int], steps: int, clock: Clock) -> float:
    """After two steps that are not counted."""
    for _ in range(2):
        step()
    begun = clock()
    images = sum(step() for _ in range(steps))
    return (clock() - begun) / images


def seconds_to_make(run: Path, out: Path, images: int, clock: Clock) -> float:
    """Seconds an image of both versions, from the first one to the last digest."""
    times: list[float] = []
    cache_run(run, out, tell=lambda line: times.append(clock()))
    return (clock() - times[-1]) / images


def measure(
    folder: Path, device: str, *, images: int, steps: int, workers: int, tiny: bool
) -> Iterator[tuple[str, float]]:
    """Seconds an image of each part."""
    clock = time.perf_counter if device == "cuda" or workers else time.process_time
    annotations = draw_data(folder / "data", images=images, classes=CLASSES, objects=OBJECTS)
    begin = recipe_of(annotations, device, workers, "schedule.iterations=1", "schedule.decay=[]", tiny=tiny)
    start = folder / "softmax"
    fit(begin, start)
    bags = recipe_of(annotations, device, workers, "method=bags", tiny=tiny)
    yield "direct", seconds_per_image(steps_of(bags, start, None), steps, clock)
    yield "making features", seconds_to_make(start, folder / "features", images, clock)
    yield "from features", seconds_per_image(steps_of(bags, start, folder / "features"), 4 * steps, clock)


def worked_up(found: dict[str, float]) -> dict[str, float]:
    """Seconds an image of twelve epochs: the direct way, the first method from features, and each further one."""
    further = EPOCHS * found["from features"]
    return {"direct": EPOCHS * found["direct"], "first": found["making features"] + further, "further": further}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Table  [default: benchmarks/results/features.csv].")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--images", type=click.IntRange(4), default=8, show_default=True, help="Drawn images.")
@click.option("--steps", type=click.IntRange(1), default=4, show_default=True, help="Timed steps of two images.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Loader processes.")
@click.option("--tiny", is_flag=True, help="A rehearsal.")
def main(out: Path | None, device: str, images: int, steps: int, workers: int, tiny: bool) -> None:
    """Measure and write the table; says whether what is promised was reached."""
    if tiny and out is None:
        raise click.UsageError("--tiny says nothing that is worth keeping; name a file by --out.")
    detector, side = ("faster_rcnn_small", "64") if tiny else ("faster_rcnn_r50_fpn", "800 x 1333")
    table = Table(out or RESULTS, COLUMNS, device)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        for what, seconds in measure(Path(folder), device, images=images, steps=steps, workers=workers, tiny=tiny):
            found[what] = seconds
            table.add(detector, side, images, what, seconds, None, None)
    sums = worked_up(found)
    for what, seconds in sums.items():
        table.add(detector, side, images, what, None, seconds, sums["direct"] / seconds)
    for what, least in PROMISED.items():
        ratio = sums["direct"] / sums[what]
        word = "reached" if ratio >= least else "missed"
        sys.stdout.write(f"{what}: {ratio:.1f} times less than the direct way, {least:g} are promised: {word}\n")


if __name__ == "__main__":
    main()
