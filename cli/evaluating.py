"""What ``lt-train eval`` does with a results file, and what it shows of every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lt_data.terminal import Bar

from .options import fraction, leave, show_text, tell

if TYPE_CHECKING:
    from lt_train.evaluation.measure import Choices, Measured

CONFUSION_SCORE = click.option(
    "--confusion-score",
    type=float,
    callback=fraction,
    default=0.3,
    show_default=True,
    help="Detections above it count in the tables of confusions.",
)


def evaluate_results(
    predictions: Path,
    annotations: Path,
    trained_on: dict[str, Any],
    groups: str | None,
    choices: Choices,
    out: Path | None,
    force: bool,
) -> None:
    """Measures a results file of any framework, and shows what came of it."""
    from lt_train.evaluation.measure import evaluate_predictions

    with Bar("reading", "bytes") as progress:
        measured = evaluate_predictions(
            predictions,
            annotations,
            **trained_on,
            groups=groups,
            choices=choices,
            out=out,
            force=force,
            progress=progress,
        )
    show_measured(measured, out)


def evaluate_several(runs: Sequence[Path], features: Path, **how: Any) -> None:
    """Measures several runs together, and shows each as soon as it is measured.

    Args:
        runs: Run directories.
        features: Of the run that they start from.
        **how: Of :func:`lt_train.features.systems.evaluate_systems`.
    """
    from lt_train.features.systems import evaluate_systems

    def each(run: Path, measured: Measured, out: Path) -> None:
        click.echo(f"{run}:")
        show_measured(measured, out)

    done = evaluate_systems(runs, features, each=each, **how)
    if done is None:
        return
    for run in done.left_out:
        tell("note", f"{run}: is measured already; left out")
    if done.problems:
        leave(*done.problems)


def show_measured(measured: Measured, out: Path | None) -> None:
    """Shows an evaluation, and draws its pictures where it was written."""
    for problem in measured.skipped:
        tell("warning", f"left out: {problem.line}")
    for note in measured.notes:
        tell("note", note)
    for warning in measured.warnings:
        tell("warning", warning)
    show_text(measured.text)
    if out is not None:
        from lt_train.report.run_report import draw_evaluation

        # the directory of a run's own evaluation is called eval in each
        place = out.resolve()
        draw_evaluation(out, place.parent.name if place.name == "eval" else place.name)
    click.echo(f"written: {out}" if out is not None else "nothing written; give --out for the per-class table")
