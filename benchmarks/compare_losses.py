"""Whether a change of the engine changes a loss: every loss of the first steps of three runs, on two commits.

    python benchmarks/compare_losses.py COMMIT [COMMIT]    # the second is the working tree unless given

Runs are those of ``lt-train fit`` with one thread on the CPU, on a small drawn pool that both sides share: 20 steps of
the recipe ``quickstart``, 20 of its second stage with BAGS from that run, and 3 of Mask R-CNN R50-FPN with two images
of 128 pixels. The losses of a step are read from ``metrics.jsonl``, which has all of their digits. Prints every step
side by side with the largest relative difference, and leaves with 1 if a bit differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
# named, for what a recipe leaves open has changed between versions
GROUPS = "data.groups=[10,30,100]"
QUICK = ("schedule.iterations=20", "schedule.decay=[15]", "schedule.warmup=5", GROUPS)
R50 = (
    *(
        "schedule.iterations=3",
        "schedule.decay=[]",
        "schedule.warmup=0",
        "model.weights=none",
        GROUPS,
    ),
    *("model.min_size=[128]", "model.max_size=128", "optim.batch=2", "optim.base_batch=2", "data.workers=0"),
)
# name, recipe and overrides, and the run that it starts from
RUNS = (
    ("quickstart", ("quickstart", *QUICK), None),
    ("quickstart, BAGS", ("quickstart", "method=bags", *QUICK), "quickstart"),
    ("R50-FPN", ("mask_rcnn_r50_fpn_coco_lt", *R50), None),
)
# what a line of metrics.jsonl holds beside losses
NO_LOSSES = ("step", "epoch", "lr", "images_per_second", "data_wait", "memory_gib", "time")

Losses = list[dict[str, float]]


def checkout(commit: str | None, folder: Path) -> Path:
    """The files of a commit, or the working tree."""
    if commit is None:
        return ROOT
    folder.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        raise click.UsageError(packed.stderr.decode().strip())
    subprocess.run(["tar", "-x"], cwd=folder, input=packed.stdout, check=True)
    return folder


def call(code: Path, command: str, *words: object, cwd: Path) -> None:
    """``lt-data`` or ``lt-train`` of a checkout."""
    start = f"from cli.{command} import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", start, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise click.ClickException(f"{code}: {words[0]} failed\n{done.stderr}")


def losses_of(code: Path, pool: Path, folder: Path) -> dict[str, Losses]:
    """Every run's losses."""
    folder.mkdir()
    files = (f"data.train.annotations={pool}/annotations.json", f"data.train.images={pool}/images", "data.val=null")
    found = {}
    for name, (recipe, *overrides), start in RUNS:
        words = ["fit", recipe, *overrides, *files, "log_every=1", "device=cpu", "--out", folder / name]
        call(code, "train", *words, *(["--init-from", folder / start] if start else []), cwd=folder)
        lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        found[name] = [{k: v for k, v in line.items() if k not in NO_LOSSES} for line in lines]
    return found


def differences(name: str, a: Losses, b: Losses) -> int:
    """Prints the steps of a run; how many of them differ."""
    if len(a) != len(b):
        raise click.ClickException(f"{name}: {len(a)} steps on one side, {len(b)} on the other")
    differing = 0
    for step, (ours, theirs) in enumerate(zip(a, b, strict=True), start=1):
        differing += ours != theirs
        shares = (abs(ours.get(k, 0) - theirs.get(k, 0)) / max(abs(ours.get(k, 0)), 1e-12) for k in {**ours, **theirs})
        told = "equal" if ours == theirs else f"differ by {max(shares):.1e}"
        click.echo(f"{name}, step {step}: {ours['loss']!r} {theirs['loss']!r} {told}")
    return differing


@click.command()
@click.argument("commits", nargs=-1, required=True, metavar="COMMIT [COMMIT]")
def main(commits: tuple[str, ...]) -> None:
    """Compares."""
    if len(commits) > 2:
        raise click.UsageError("give one commit, or two")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sides = [checkout(commit, folder / f"code-{i}") for i, commit in enumerate((*commits, None)[:2])]
        call(sides[1], "data", "demo-pool", "--out", folder / "pool", "--images", "80", cwd=folder)
        a, b = (losses_of(code, folder / "pool", folder / f"runs-{i}") for i, code in enumerate(sides))
    differing = sum(differences(name, a[name], b[name]) for name in a)
    if differing:
        raise click.ClickException(f"the losses of {differing} steps differ")
    click.echo("every loss is equal to the last bit")


if __name__ == "__main__":
    main()
