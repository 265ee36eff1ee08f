"""Putting a run back to a checkpoint: all of it is of this run, or the one before is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_data.counts.categories import counts_to_plain
from lt_data.errors import MOST_SHOWN, DataError, RecipeError, shown
from lt_train.engine.resume import Begun, read_older
from lt_train.engine.state import RunState, val_sha256
from lt_train.recipe.paths import changed_paths
from lt_train.recipe.sections import Recipe
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.content import ADVICE, check_progress, load_optimizer, load_scaler, load_weights_into
from lt_train.runs.data import RunData
from lt_train.runs.directory import RunDir, write_text
from lt_train.runs.log import drop_later_metrics, metric_lines, step_of
from lt_train.runs.metadata import check_resumed

# a run may go on with another number of workers, on another device, with other log lines and trackers, without images
# that cannot be read any more
FREE_TO_CHANGE = (
    *("device", "log_every", "trackers", "data.workers", "eval.batch"),
    *("data.on_bad_image", "data.most_bad_images"),
)
# where groups and repeat factors come from may change too if they are the same ones, which data.json tells
SOURCES = ("data.groups", "sampler.factors", "sampler.threshold")
# differences that a message names
MOST_DIFFERENCES = 10


def restore_state(state: RunState, run: RunDir, begun: Begun, recipe: Recipe, data: RunData, *, steps: int) -> None:
    """Puts a run back to its newest checkpoint that is whole and its own; anything that cannot be restored is an error.

    Args:
        state: A started state; changed.
        run: The run.
        begun: Its newest whole checkpoint; where it is of something else, an older one is taken and a note says so.
        recipe: What to go on with.
        data: Likewise.
        steps: Of the whole run.

    Raises:
        DataError: The data is not what the run was started with.
        RecipeError: The recipe is another one.
    """
    begun = _restore_newest(state, run, begun, recipe, data, steps=steps)
    state.notes += begun.notes
    state.last_is_whole = begun.path == run.last
    # older versions did not note it in the checkpoint
    state.evaluated = int(
        begun.content["evaluated"] if "evaluated" in begun.content else _last_evaluation(run, state.done)
    )
    state.saved = state.done
    if state.processes.is_first:
        drop_later_metrics(run, state.done)
        _drop_lost_evaluation(run, state.evaluated)
        _check_best(state, run, begun)


def _restore_newest(state: RunState, run: RunDir, begun: Begun, recipe: Recipe, data: RunData, *, steps: int) -> Begun:
    """Restores the first checkpoint that is of this run, which it returns."""
    try:
        _restore(state, run, begun, recipe, data, steps=steps)
        return begun
    except (DataError, RecipeError) as error:
        first = error
    # what to do about it is said only where no other checkpoint will do
    reason = first.problems[0].partition(";")[0].removeprefix("--resume: ").removeprefix(f"{begun.path}: ")
    for older in read_older(run, begun, f"{begun.path}: {reason}"):
        try:
            _restore(state, run, older, recipe, data, steps=steps)
            return older
        except (DataError, RecipeError):
            continue
    # another recipe or other data is refused by all of them alike
    raise first


def _restore(state: RunState, run: RunDir, begun: Begun, recipe: Recipe, data: RunData, *, steps: int) -> None:
    content, path = begun.content, begun.path
    _check_same_run(content, begun.plain, recipe, data)
    _check_categories(content, path, data)
    check_resumed(run.data, content["recipe"], data.train.file, data.groups, data.factors)
    check_progress(content, path, steps=steps, averaged=state.ema is not None)
    _put_back(state, content, path)


def _check_same_run(content: Mapping[str, Any], began: Mapping[str, Any], recipe: Recipe, data: RunData) -> None:
    was_asked, is_asked = (changed_paths(each, _place_is_free) for each in (began, recipe.to_plain()))
    changed = _differences(was_asked, is_asked)
    if changed:
        more = [f"and {len(changed) - MOST_DIFFERENCES} keys more"] if len(changed) > MOST_DIFFERENCES else []
        raise RecipeError(
            [f"--resume: {line}" for line in changed[:MOST_DIFFERENCES] + more]
            + ["--resume continues the same run; start a new one from its weights with --init-from"]
        )
    # older versions did not note the validation file
    was = {"train": content["train_sha256"], "val": content.get("val_sha256", val_sha256(data))}
    now = {"train": data.train.file.sha256, "val": val_sha256(data)}
    for part, source in (("train", data.train), ("val", data.val)):
        if was[part] != now[part] and source is not None:
            raise DataError(
                f"--resume: {source.file.path} is not the file the run was started with (sha256 differs); put that "
                "one back, or start a new run from its weights with --init-from"
            )


def _place_is_free(_: str, path: str) -> str:
    """What of a path is compared: files may lie elsewhere, and what annotations hold is compared by itself."""
    return Path(path).absolute().name


def _check_categories(content: Mapping[str, Any], path: Path, data: RunData) -> None:
    """Refuses a checkpoint whose classes would be other categories than those of the same training file."""
    was, now = content["categories"], counts_to_plain(data.train.counts)
    if any(was[name] != now[name] for name in ("ids", "names")):
        raise DataError(f"{path}: categories are not those of {data.train.file.path}, its training file; {ADVICE}")


def _put_back(state: RunState, content: Mapping[str, Any], path: Path) -> None:
    if state.ema is not None:
        load_weights_into(state.result, content["model"], path)
        state.ema.n_averaged.fill_(content["averaged"])
    load_weights_into(state.model, content["model" if state.ema is None else "trained_model"], path)
    load_optimizer(state.optimizer, content["optimizer"], path)
    load_scaler(state.scaler, content["scaler"], path)
    state.done, state.best = content["done"], content["best"]
    # older versions did not note them
    state.best_step, state.waited = content.get("best_step", 0), content.get("waited", 0)
    # older versions held nothing out
    state.unseen = content.get("unseen", 0)


def _check_best(state: RunState, run: RunDir, begun: Begun) -> None:
    """Replaces a best checkpoint that is lost where the one gone on from is of its step, else forgets its AP."""
    problem = None if state.best is None else _problem_of_best(run.best, state.best)
    if problem is None:
        return
    if state.evaluated == state.done and _selected_at(run, state.done) == state.best:
        save_checkpoint(run.best, dict(begun.content))
        state.notes.append(f"warning: {problem}; it is written anew from {begun.path.name}, which is of the same step")
    else:
        state.best = None
        state.notes.append(
            f"warning: {problem}; the run goes on without it and keeps the best of the evaluations to come"
        )


def _problem_of_best(path: Path, ap: float) -> str | None:
    try:
        content = load_checkpoint(path)
    except DataError as error:
        return error.problems[0].partition(";")[0]
    # one of an evaluation that no other checkpoint knows of may be better
    if "best" in content and content["best"] is not None and content["best"] >= ap:
        return None
    return f"{path}: is not the checkpoint of the run's best figure, {ap:g}"


def _selected_at(run: RunDir, step: int) -> float | None:
    """The figure by which the best checkpoint is chosen, as ``metrics.jsonl`` has it of a step."""
    measured = {name: value for r in _records(run) if r["step"] == step for name, value in r.items()}
    names = ("eval/selected", "eval/segm_AP", "eval/bbox_AP")
    return next((measured[name] for name in names if name in measured), None)


def _drop_lost_evaluation(run: RunDir, evaluated: int) -> None:
    """Removes what ``metrics.jsonl`` has of an evaluation that a checkpoint knows nothing of: it is done again."""
    if run.metrics.is_file():
        kept = [r for r in _records(run) if r["step"] <= evaluated or not _is_evaluation(r)]
        write_text(run.metrics, "".join(f"{json.dumps(record)}\n" for record in kept))


def _last_evaluation(run: RunDir, done: int) -> int:
    """The last step up to ``done`` that ``metrics.jsonl`` has an evaluation of; 0 without one."""
    records = [json.loads(line) for line in metric_lines(run) if step_of(line) <= done]
    return max((int(r["step"]) for r in records if _is_evaluation(r)), default=0)


def _records(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in metric_lines(run)]


def _is_evaluation(record: dict[str, Any]) -> bool:
    return any(name.startswith("eval/") for name in record)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted({*old, *new}):
        name, a, b = prefix + key, old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{name}.")
        elif a != b and name not in (*FREE_TO_CHANGE, *SOURCES):
            lines.append(f"{name[:MOST_SHOWN]} was {shown(a)}, is now {shown(b)}")
    return lines
