"""The pictures of a run directory."""

from __future__ import annotations

import json
from pathlib import Path

from lt_train.report.curves import plot_loss_curves
from lt_train.report.group_bars import plot_group_ap


def draw_run_report(report: Path, name: str, *, losses: Path | None, metrics: Path) -> None:
    """Draws loss curves and, where there is an evaluation, AP per group.

    Args:
        report: Directory for the pictures.
        name: What the run is called in them.
        losses: ``metrics.jsonl`` of the run, or ``None`` if it took no step.
        metrics: ``metrics.json`` of its evaluation; need not exist.
    """
    report.mkdir(exist_ok=True)
    if losses is not None:
        plot_loss_curves(report / "loss_curves.png", {name: losses})
    if metrics.is_file():
        content = json.loads(metrics.read_text(encoding="utf-8"))
        for kind in ("bbox", "segm"):
            if kind in content:
                plot_group_ap(report / f"group_ap_{kind}.png", {name: content}, iou_type=kind)
