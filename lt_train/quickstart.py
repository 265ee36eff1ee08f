"""The whole job once, in minutes on two CPU cores, without any download: read ``quickstart`` for the order of things.

A procedural pool is drawn, a long-tailed dataset is built from it with the LVIS v0.5 distribution, a softmax baseline
is trained from scratch, BAGS is trained from it (stage 2: the classifier only), and both are measured on a separate
pool in which every class is equally frequent. The table is what was measured, whatever that is.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Final

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build
from lt_data.counts.group_stats import format_stats, group_stats
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import annotations_path
from lt_data.dataset.options import BuildOptions
from lt_data.errors import OutputError
from lt_data.synthetic.pool import write_pool
from lt_data.terminal import Bar, say
from lt_train.engine.fit import fit
from lt_train.launch import refuse_several
from lt_train.recipe.load import load_recipe, make_recipe
from lt_train.recipe.sections import Recipe
from lt_train.report.curves import plot_loss_curves
from lt_train.report.group_bars import plot_group_ap
from lt_train.report.sample_predictions import plot_sample_predictions
from lt_train.report.two_runs import format_runs, mean_comparison
from lt_train.runs.directory import RunDir, next_free_directory, write_text
from lt_train.runs.model import choose_device

DEFAULT_OUT: Final = Path("runs/quickstart")
RECIPE: Final = "quickstart"
CATEGORIES: Final = 24
# the pool's own tail is nearly as long as the target's, so that few labels of rare shapes are dropped
POOL_IMAGES: Final = 700
POOL_EXPONENT: Final = 2.0
POOL_LEAST: Final = 2
VAL_IMAGES: Final = 160
VAL_LEAST: Final = 10
# the validation pool must never share an image with the training pool
VAL_SEED_OFFSET: Final = 1_000_000
SCALE: Final = "0.08"
# the groups of the runs are those that the build writes
EDGES: Final = (10, 30, 100)
NAMES: Final = ("softmax", "BAGS")


def quickstart(
    out: Path | None = None,
    *,
    seed: int = 0,
    seeds: int = 1,
    iterations: int | None = None,
    device: str | None = None,
) -> tuple[Path, str]:
    """Draws, builds, trains and compares.

    Args:
        out: New directory; ``runs/quickstart``, or the next free number, unless given.
        seed: First seed; it decides the data and the training.
        seeds: How many seeds to run, one after the other.
        iterations: Steps of the baseline, the recipe's unless given; stage 2 takes as many.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; the recipe's, the processor, unless given.

    Returns:
        The directory and the comparison as text.

    Raises:
        OutputError: ``out`` exists.
        RecipeError: There is no such device.
    """
    refuse_several("the quickstart")
    if device is not None:
        # found out before anything is drawn
        choose_device(device)
    if out is not None and out.exists():
        raise OutputError(f"{out}: exists; the quickstart never overwrites, choose another --out")
    out = out or next_free_directory(DEFAULT_OUT)
    pairs = []
    for number in range(seeds):
        where = out if seeds == 1 else out / f"seed-{seed + number}"
        recipe = quickstart_recipe(where, seed + number, iterations, device)
        pairs.append(run_seed(where, recipe))
    table = _table(pairs)
    write_text(out / "comparison.txt", f"{table}\n")
    return out, table


def run_seed(out: Path, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """One seed: data, two runs, pictures.

    Args:
        out: New directory.
        recipe: Of the baseline, from ``quickstart_recipe``; its seed is that of the data too.

    Returns:
        Metrics of the baseline and of BAGS.
    """
    say(f"[1/5] drawing a pool of {POOL_IMAGES} training and {VAL_IMAGES} validation images")
    _draw(out, recipe.seed)
    say("[2/5] building the long-tailed dataset: lt-data build-coco-lt")
    _build(out, recipe)
    say("[3/5] softmax baseline: lt-train fit")
    softmax = fit(recipe, out / "softmax")
    say("[4/5] BAGS, stage 2: lt-train fit method=bags --init-from")
    assert softmax is not None, "internal error: one process does all"
    bags = fit(stage_two(recipe), out / "bags", init_from=softmax.path)
    assert bags is not None, "internal error: one process does all"
    say("[5/5] pictures")
    metrics = (read_metrics_of(softmax), read_metrics_of(bags))
    draw_report(out, recipe, softmax, bags)
    return metrics


def quickstart_recipe(out: Path, seed: int, iterations: int | None = None, device: str | None = None) -> Recipe:
    """The recipe ``quickstart`` on the data in a directory.

    Args:
        out: Directory of the quickstart.
        seed: Of the training.
        iterations: Steps; the recipe's unless given. The decay stays at the same share of the run.
        device: Of the training; the recipe's unless given.
    """
    overrides = [
        f"data.train.annotations={json.dumps(str(out / 'data'))}",
        f"data.train.images={json.dumps(str(out / 'pool' / 'images'))}",
        f"data.val.annotations={json.dumps(str(out / 'val' / 'annotations.json'))}",
        f"data.val.images={json.dumps(str(out / 'val' / 'images'))}",
        f"seed={seed}",
        *([] if device is None else [f"device={device}"]),
    ]
    recipe = load_recipe(RECIPE, overrides)
    if iterations is None:
        return recipe
    return load_recipe(RECIPE, [*overrides, *_schedule(recipe, iterations)])


def stage_two(recipe: Recipe) -> Recipe:
    """The same recipe, equally long, with BAGS: only the classifier is trained, on frozen features."""
    plain = recipe.model_dump(exclude={"head", "sampler", "train"}, mode="json")
    return make_recipe(plain, ["method=bags"])


def _schedule(recipe: Recipe, steps: int) -> list[str]:
    """Overrides for another length, with decay and warm-up at the same share of it."""
    old = recipe.schedule.iterations or 1
    decay = [milestone * steps // old for milestone in recipe.schedule.decay]
    warmup = recipe.schedule.warmup_steps(old) * steps // old
    return [f"schedule.iterations={steps}", f"schedule.decay={decay}", f"schedule.warmup={warmup}"]


def _draw(out: Path, seed: int) -> None:
    with Bar("drawing") as bar:
        draw = partial(write_pool, categories=CATEGORIES, progress=bar)
        draw(
            out / "pool",
            images=POOL_IMAGES,
            exponent=POOL_EXPONENT,
            minimum_instances=POOL_LEAST,
            instances_per_image=(3, 7),
            seed=seed,
        )
        draw(
            out / "val",
            images=VAL_IMAGES,
            exponent=0.0,
            minimum_instances=VAL_LEAST,
            instances_per_image=(1, 3),
            seed=seed + VAL_SEED_OFFSET,
        )


def _build(out: Path, recipe: Recipe) -> None:
    options = BuildOptions(seed=recipe.seed, scale=SCALE, edges=EDGES)
    built = build_coco_lt(out / "pool" / "annotations.json", out / "data", options=options)
    say(format_build(built))
    say(format_stats(group_stats(out / "data")))


def read_metrics_of(run: RunDir) -> dict[str, Any]:
    """The content of a run's ``eval/metrics.json``."""
    content: dict[str, Any] = json.loads((run.evaluation / "metrics.json").read_text(encoding="utf-8"))
    return content


def draw_report(out: Path, recipe: Recipe, softmax: RunDir, bags: RunDir) -> None:
    """Loss curves, AP per group and predictions of both runs, as PNG files in ``report``."""
    report = out / "report"
    report.mkdir()
    runs = dict(zip(NAMES, (softmax, bags), strict=True))
    groups = [group.name for group in read_groups(out / "data")[1]]
    metrics_of = {name: run.metrics for name, run in runs.items()}
    plot_loss_curves(report / "loss_curves.png", metrics_of, head_groups=dict.fromkeys(NAMES, groups))
    metrics = {name: read_metrics_of(run) for name, run in runs.items()}
    for kind in ("bbox", "segm"):
        plot_group_ap(report / f"group_ap_{kind}.png", metrics, iou_type=kind)
    assert recipe.data.val is not None
    plot_sample_predictions(
        report / "predictions.png",
        annotations=annotations_path(recipe.data.val.annotations),
        images=recipe.data.val.images,
        predictions={name: run.evaluation / "predictions.json" for name, run in runs.items()},
        dataset=out / "data",
    )


def _table(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    if len(pairs) == 1:
        return format_runs(*pairs[0], names=NAMES, iou_types=("bbox", "segm"))
    return mean_comparison(pairs, names=NAMES, iou_types=("bbox", "segm"))
