"""A plan for people: its steps with hours and bytes, before anything runs."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lt_train.studies.costs import ESTIMATED, Rates, estimates
from lt_train.studies.steps import Step, left_steps, read_record
from lt_train.studies.study import Study


def format_plan(study: Study, rates: Rates = ESTIMATED, *, of: str = "GPU", jobs: int = 1) -> str:
    """A line for each step and one for the sum.

    Args:
        study: What is going to be done.
        rates: Seconds per image, where no finished step says better.
        of: Whose hours these are.
        jobs: Steps that may run at once, each on one of them.
    """
    known = read_record(study.out)
    expected = estimates(study.steps, known, rates)
    left = {step.name for step in left_steps(study.steps, study.out)}
    lines, seconds, size, measured = [], dict[str, float](), 0.0, True
    for step, estimate in zip(study.steps, expected, strict=True):
        if step.name not in left:
            done = known.get(step.name)
            lines.append(
                f"{step.name}: done, in {done.seconds:,.0f} s" if done else f"{step.name}: not needed any more"
            )
            continue
        how = "measured here" if estimate.measured else "estimated"
        took = f"{shown_hours(estimate.seconds)} ({how})" if step.cost.images else "no time to speak of"
        lines += [f"{step.name}: {took}, {_bytes(step.cost.size)}", f"  {step.command}"]
        seconds[step.name] = estimate.seconds
        size += step.cost.size
        measured = measured and (estimate.measured or not step.cost.images)
    how = "by finished steps of this study" if measured else "an estimate, until a step of each kind is finished here"
    free = shutil.disk_usage(_there(study.out)).free
    at_once = f", {shown_hours(wall_seconds(study.steps, seconds, jobs))} with {jobs} steps at once" if jobs > 1 else ""
    time = f"{shown_hours(sum(seconds.values()))} of one {of} ({how}){at_once}"
    lines.append(f"to do: {time}, {_bytes(size)} on the disk, {_bytes(free)} free")
    return "\n".join(lines)


def wall_seconds(steps: Sequence[Step], seconds: Mapping[str, float], jobs: int) -> float:
    """How long steps take of which some run at once, each when what it needs is done and a place is free.

    Args:
        steps: Of a plan, in its order.
        seconds: Of those that are left, by name.
        jobs: How many may run at once.
    """
    left, running, now = [step for step in steps if step.name in seconds], list[tuple[float, str]](), 0.0
    while left or running:
        open_steps = {step.name for step in left} | {name for _, name in running}
        ready = [step for step in left if not open_steps & {*step.needs, *step.gathers}]
        for step in ready[: jobs - len(running)]:
            heapq.heappush(running, (now + seconds[step.name], step.name))
            left.remove(step)
        now, _ = heapq.heappop(running)
    return now


def shown_hours(seconds: float) -> str:
    """A duration for people."""
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def _there(out: Path) -> Path:
    return next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
