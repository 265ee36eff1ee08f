"""Starting a run or going on with one: what ``--resume`` means, and which interrupts can be resumed.

Nothing heavy is imported before it is needed, so that an interrupt of these imports is answered too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lt_data.errors import RecipeError
from lt_train.engine.interrupts import Interrupted
from lt_train.launch import several_started

if TYPE_CHECKING:
    from lt_train.processes import Processes

Resume = Literal["never", "always", "auto"]


def start_or_resume(
    recipe: str | Path,
    overrides: Sequence[str],
    out: Path,
    *,
    resume: Resume = "never",
    init_from: Path | None = None,
    force: bool = False,
    root: Path | None = None,
    from_features: Path | None = None,
) -> bool:
    """Trains a recipe in a new run directory, or goes on with the run that is there.

    Args:
        recipe: Bare name of a shipped recipe, or a path to a YAML file.
        overrides: ``dotted.key=value`` texts.
        out: The run directory.
        resume: ``auto`` goes on if there is a checkpoint to go on from, and starts otherwise: what a scheduler starts
            again may have been stopped before its first checkpoint, and then there is nothing to lose in ``out``.
        init_from: A run directory or checkpoint whose weights a new run starts from.
        force: Replace a run that exists; not with ``resume``.
        root: What relative paths of the recipe are relative to, see :func:`lt_train.recipe.load.load_noted`.
        from_features: What ``lt-train cache --out`` was given, to train a classifier without opening an image.

    Returns:
        Whether the run is finished, as far as this process can say: of several processes the first.

    Raises:
        LtError: As :func:`lt_train.engine.fit.fit`.
        RecipeError: ``force`` together with ``resume``.
        Interrupted: The run was interrupted, and can be resumed.
        KeyboardInterrupt: It was interrupted, and has nothing to be resumed from.
    """
    if force and resume != "never":
        raise RecipeError("--resume and --force exclude each other: one keeps the run, the other replaces it")
    has_checkpoint = any(out.glob("checkpoints/*.pt"))
    goes_on = resume == "always" or (resume == "auto" and has_checkpoint)
    nothing_to_lose = resume == "auto" and not has_checkpoint
    force = force or nothing_to_lose

    def work(processes: Processes | None = None) -> bool:
        from lt_train.recipe.load import load_noted

        loaded, notes = load_noted(recipe, overrides, root=root)
        from lt_train.engine.fit import fit_together

        fit_together(
            loaded,
            out,
            processes,
            init_from=init_from,
            resume=goes_on,
            force=force,
            from_features=from_features,
            notes=notes,
        )
        return True

    try:
        if not several_started():
            return work()
        from lt_train.processes import run_together

        return run_together(work) or False
    except Interrupted:
        raise
    except KeyboardInterrupt:
        # a run that goes on has a checkpoint before it is started
        if goes_on and has_checkpoint:
            raise Interrupted("before the first step; continue with --resume") from None
        raise
