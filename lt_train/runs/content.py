"""What a checkpoint must hold, whoever wrote it: every entry is looked at once, before anything uses it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from lt_data.counts.training import UNKNOWN
from lt_data.errors import DataError
from lt_train.detectors.weight_files import is_plain_tensor
from lt_train.recipe.sections import has_sections

# problems of one kind that a message names
EXAMPLES = 3
# characters of a wrong value that a message shows
SHOWN = 40
ADVICE = "the file is damaged or was changed; give a checkpoint that this project wrote"


def check_content(content: Mapping[str, Any], path: Path) -> None:
    """Refuses a checkpoint with a missing, wrong or unusable entry.

    Args:
        content: What was read.
        path: Where from, for messages.

    Raises:
        DataError: One line for each entry that is not what this project writes.
    """
    present = {name: rule for name, rule in _PROGRESS.items() if name in content}
    problems = [
        f"{path}: {name} is {_shown(content, name)}; it must be {what}; {ADVICE}"
        for name, (is_right, what) in (_ALWAYS | present).items()
        if name not in content or not _holds(is_right, content[name])
    ]
    if problems:
        raise DataError(problems)


def _holds(is_right: Callable[[Any], bool], value: Any) -> bool:
    try:
        return is_right(value)
    # lists in lists in lists, or a tensor that PyTorch cannot compute with
    except RuntimeError:
        return False


def check_progress(content: Mapping[str, Any], path: Path, *, steps: int, averaged: bool) -> None:
    """Refuses a checkpoint that a training cannot go on from.

    Args:
        content: A checked checkpoint.
        path: Where from, for messages.
        steps: Of the whole run.
        averaged: Whether the run keeps an average of its weights.

    Raises:
        DataError: It has no state of a training, or one that is not of this run.
    """
    wanted = ("optimizer", "scaler", "done", "best", *(("trained_model", "averaged") if averaged else ()))
    missing = [name for name in wanted if name not in content]
    if missing:
        raise DataError(
            f"{path}: holds no {', '.join(missing)}, so no training can go on from it; start a new run from its "
            "weights with --init-from"
        )
    if content["done"] > steps or content.get("evaluated", 0) > content["done"]:
        raise DataError(
            f"{path}: says that {content['done']} steps are done and {content.get('evaluated', 0)} evaluated, the run "
            f"has {steps}; {ADVICE}"
        )


def load_weights_into(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Puts weights into the model that they belong to, every tensor of it.

    Raises:
        DataError: A tensor is missing, too many, or of another shape or kind; the model is left as it was.
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} has no place in the model" for name in state.keys() - own.keys()]
    problems += [
        f"{name} is {_kind(state[name])}, the model has {_kind(value)}"
        for name, value in own.items()
        if name in state and _kind(state[name]) != _kind(value)
    ]
    if problems:
        # sets have no order
        problems.sort()
        more = f" (and {len(problems) - EXAMPLES} more)" if len(problems) > EXAMPLES else ""
        raise DataError(
            f"{path}: does not hold the weights of the run's model: {'; '.join(problems[:EXAMPLES])}{more}; it is of "
            "another run or another version"
        )
    model.load_state_dict(state)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], path: Path) -> None:
    """Puts an optimiser's memory back; its options are the recipe's, which nobody changed.

    Raises:
        DataError: The memory is not that of the optimiser's numbers.
    """
    own = optimizer.state_dict()
    if not _fits(saved["state"], own["state"]) or _numbers(saved) != _numbers(own):
        raise DataError(f"{path}: optimizer holds the state of other weights than the run trains; {ADVICE}")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})


def load_scaler(scaler: GradScaler, saved: Mapping[str, Any], path: Path) -> None:
    """Puts the scale of the loss back, where the run scales it.

    Raises:
        DataError: The entry is none of a scaler.
    """
    own = scaler.state_dict()
    counted = own.keys() & {"_growth_tracker"}
    right = saved.keys() == own.keys() and all(
        _is_whole(value) if name in counted else _is_number(value) and value > 0 for name, value in saved.items()
    )
    if not right:
        raise DataError(f"{path}: scaler is {str(dict(saved))[:SHOWN]}, the run has {sorted(own)}; {ADVICE}")
    scaler.load_state_dict(dict(saved))


def _fits(saved: Mapping[Any, Any], own: Mapping[Any, Any]) -> bool:
    """Whether the state of every weight is there, in its shape; without momentum there is none."""
    saved = {number: state for number, state in saved.items() if state}
    return saved.keys() == own.keys() and all(
        saved[i].keys() == own[i].keys() and all(_same_kind(saved[i][name], value) for name, value in own[i].items())
        for i in own
    )


def _same_kind(saved: Any, own: Any) -> bool:
    if isinstance(own, Tensor):
        return isinstance(saved, Tensor) and _kind(saved) == _kind(own)
    return isinstance(saved, type(own))


def _numbers(optimizer: Mapping[str, Any]) -> list[Any]:
    return [group.get("params") for group in optimizer["param_groups"]]


def _kind(tensor: Tensor) -> str:
    kind = "numbers" if tensor.is_floating_point() else "whole numbers"
    return f"{'x'.join(map(str, tensor.shape)) or 'one'} {kind}"


def _shown(content: Mapping[str, Any], name: str) -> str:
    if name not in content:
        return "missing"
    value = content[name]
    if isinstance(value, str | int | float | None):
        return repr(value)[:SHOWN]
    if isinstance(value, Tensor):
        return "a tensor"
    broken = _first_broken(value) if name in ("model", "trained_model") and isinstance(value, Mapping) else None
    return f"a {type(value).__name__}" if broken is None else f"not whole ({broken[:SHOWN]!r} is wrong)"


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_record(value: Any) -> bool:
    """A dict of texts, numbers, lists and such dicts, as a recipe is."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return False


def _is_recipe(value: Any) -> bool:
    return _is_record(value) and has_sections(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float) or _is_record(value)


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and _first_broken(value) is None


def _first_broken(weights: Mapping[Any, Any]) -> str | None:
    """The first entry that is no tensor of finite numbers by a name."""
    return next((str(name) for name, value in weights.items() if not isinstance(name, str) or not _finite(value)), None)


def _finite(value: Any) -> bool:
    return is_plain_tensor(value) and bool(value.isfinite().all())


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("state"), Mapping):
        return False
    groups, states = value.get("param_groups"), value["state"].values()
    return (
        isinstance(groups, list)
        and all(isinstance(group, Mapping) and _is_record(group) for group in groups)
        and all(isinstance(state, Mapping) for state in states)
        and all(_finite(entry) for state in states for entry in state.values() if isinstance(entry, Tensor))
    )


def _are_categories(value: Any) -> bool:
    columns = {"ids": int, "names": str, "instances": int, "images": int, "frequencies": str}
    if not _is_record(value) or not all(isinstance(value.get(name), list) for name in columns):
        return False
    right = all(type(item) is kind for name, kind in columns.items() for item in value[name])
    lengths = {len(value[name]) for name in columns}
    return (
        right
        and len(lengths) == 1
        and lengths != {0}
        and len(set(value["ids"])) == len(value["ids"])
        and all(abs(number) < 2**63 for name in ("ids", "instances", "images") for number in value[name])
        and all(number >= 0 for number in value["instances"])
        and all(number >= 0 or number == UNKNOWN for number in value["images"])
        and set(value["frequencies"]) <= {"r", "c", "f"}
        and isinstance(value.get("frequency_source"), str)
    )


_Rule = tuple[Callable[[Any], bool], str]

_WEIGHTS: Final[_Rule] = (_are_weights, "tensors of finite numbers by name")
_WHOLE: Final[_Rule] = (_is_whole, "a whole number of at least 0")
_ALWAYS: Final[dict[str, _Rule]] = {
    "model": _WEIGHTS,
    "recipe": (_is_recipe, "a recipe"),
    "categories": (_are_categories, "the ids, names and counts of the training categories"),
    "train_sha256": (_is_sha256, "the SHA-256 of the training file"),
}
# of a training; a calibration has "unseen" alone, which older versions lack
_PROGRESS: Final[dict[str, _Rule]] = {
    "optimizer": (_is_optimizer, "the state of the optimiser in finite numbers"),
    "scaler": (_is_record, "the state of the loss scale"),
    "done": _WHOLE,
    "best": (lambda value: value is None or _is_number(value), "a number or nothing"),
    "best_step": _WHOLE,
    "waited": _WHOLE,
    "evaluated": _WHOLE,
    "trained_model": _WEIGHTS,
    "averaged": _WHOLE,
    "unseen": _WHOLE,
    "val_sha256": (lambda value: value is None or _is_sha256(value), "the SHA-256 of the validation file or nothing"),
}
