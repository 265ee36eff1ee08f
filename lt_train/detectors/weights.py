"""Weights from files and by name.

What fits is loaded, what depends on the classes starts anew, everything else is an error.
Keys are torchvision's; checkpoints of this project, torchvision's detectors and bare ResNets all load. What other tools
write gets these keys first, see :mod:`lt_train.detectors.foreign`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lt_data.errors import DataError
from lt_train.detectors.foreign.names import EXAMPLES, SEMANTIC, TRUNK, any_begins, some
from lt_train.detectors.published import published_weights
from lt_train.detectors.table import FAMILIES, detector_of_weights, family_of_weights, trunk_of_weights
from lt_train.detectors.trunks.deformable import OFFSET
from lt_train.detectors.weight_files import Categories, read_weights

HEAD = "roi_heads.head"
SECOND_HEAD = "roi_heads.calibrated."
PLAIN = "weights with plain convolutions where the model's are deformable: their offsets start at 0, which is the same"


@dataclass(frozen=True)
class LoadReport:
    """What came out of loading weights.

    Attributes:
        loaded: Tensors taken over.
        reinitialised: Layers that keep their initial values, in the model's order.
        reasons: Why each of them does.
        notes: What to know of the file, one sentence each.
    """

    loaded: int
    reinitialised: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_weights(model: Any, source: str | Path, *, own_categories: Categories | None = None) -> LoadReport:
    """Loads weights by name or from a file.

    Args:
        model: A freshly built :class:`~lt_train.detectors.detector.LongTailDetector`.
        source: ``none``; ``imagenet`` or ``coco``, see :func:`~lt_train.detectors.published.published_weights`; or the
            path of a state dict, or of a checkpoint of this project, torchvision's references, Lightning, mmdetection
            or detectron2.
        own_categories: Dataset id and name of the model's labels 1..C. If the source names its categories too and
            they differ, every layer that depends on the classes keeps its initial values.

    Raises:
        RecipeError: A name is asked for that the model has no weights of.
        DataError: The file cannot be had or read, or a weight is missing, unexpected, of another shape or
            not of finite fractions.
    """
    if source == "none":
        return LoadReport(0, ())
    path = published_weights(model, str(source)) if source in ("imagenet", "coco") else source
    found = read_weights(path)
    report = _load(model, found.state, str(source), others=_difference(own_categories, found.categories))
    return replace(report, notes=(*found.notes, *report.notes))


def initialise_from(
    model: Any,
    state: Mapping[str, Tensor],
    *,
    own_categories: Categories | None = None,
    source_categories: Categories | None = None,
    fresh_classifier: bool = False,
    where: str = "state dict",
) -> LoadReport:
    """Start a model from the weights of another one, for example stage 2 from stage 1.

    The classifier starts anew if its width or the meaning of its logits differs; box regressor and mask logits if the
    number of classes does; all three if the categories differ. A layer that starts anew keeps the values that it was
    built with, nothing is drawn here. The head's buffers stay the new model's.

    Args:
        model: A freshly built :class:`~lt_train.detectors.detector.LongTailDetector`.
        state: State dict of the other model.
        own_categories: Dataset id and name of the model's labels 1..C; ``None`` is unknown and differs from nothing.
        source_categories: The same for the other model, see :func:`checkpoint_categories`.
        fresh_classifier: Whether the classifier starts anew even if it could be taken over.
        where: What the weights are from, for messages.

    Raises:
        DataError: A weight is missing, unexpected, of another shape or of whole numbers, or the cosines of the
            classifiers have other factors.
    """
    others = _difference(own_categories, source_categories)
    return _load(model, state, where, others=others, fresh_classifier=fresh_classifier)


def _difference(own: Categories | None, other: Categories | None) -> str:
    """Where two lists of categories part; empty where they do not, or one is unknown."""
    if own is None or other is None:
        return ""
    pairs = zip_longest(map(tuple, own), map(tuple, other))
    label, ours, theirs = next(((i, *pair) for i, pair in enumerate(pairs, 1) if not _same(*pair)), (0, None, None))
    if not label:
        return ""
    was, now = (_named(category) for category in (theirs, ours))
    return f"the categories are others: label {label} was {was}, is {now}"


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two categories are one, as far as is known."""
    if ours and theirs and None in (ours[0], theirs[0]):
        return bool(ours[1] == theirs[1])
    return bool(ours == theirs)


def _named(category: Any) -> str:
    if not category:
        return "missing"
    return f"id {category[0]} {category[1]!r}" if category[0] is not None else repr(category[1])


def _load(
    model: Any, source: Mapping[str, Tensor], where: str, *, others: str, fresh_classifier: bool = False
) -> LoadReport:
    state = dict(source)
    if "conv1.weight" in state and not any(key.startswith("backbone.") for key in state):
        state = {f"{TRUNK}{key}": value for key, value in state.items() if not key.startswith("fc.")}
    trunk_only = bool(state) and all(key.startswith(TRUNK) for key in state)
    _check_same_detector(model, state, where, trunk_only=trunk_only)
    own = model.state_dict()
    _check_shapes(model, own, state, where)
    _check_numbers(model, own, state, where)
    anew = _layers_anew(model, own, state, others="" if trunk_only else others)
    for layer in model.classifiers():
        if not trunk_only and (why := "asked for" if fresh_classifier else _other_kind(layer, own, state)):
            anew.setdefault(layer, why)
    _check_fixed_scales(model, state, anew, where)
    state = {k: v for k, v in state.items() if not k.startswith(model.own_state) and k.rpartition(".")[0] not in anew}
    missing, unexpected = _copy(model, state, where)
    if trunk_only:
        beside_trunk = _layers(key for key in missing if not key.startswith((TRUNK, *model.own_state)))
        anew |= dict.fromkeys(beside_trunk, "the weights are of a trunk alone")
    left_out = {key for key in missing if key.rpartition(".")[0] in anew and (trunk_only or key in source)}
    # a linear classifier is a scaled one whose factors are 1; one of another kind starts anew
    left_out |= {f"{layer}.scale" for layer in model.classifiers()}
    plain = [] if any(OFFSET in key for key in state) else [key for key in missing if OFFSET in key]
    missing = [key for key in missing if not key.startswith(model.own_state) and key not in {*left_out, *plain}]
    problems = some(missing, "is missing; needed is every layer of the model")
    problems += some(unexpected, "has no place in the model; choose its own model")
    if problems:
        raise DataError(f"weights {where}: {problem}" for problem in problems)
    taken = {k for k in own if not k.startswith(model.own_state) and not k.endswith("num_batches_tracked")} - {*plain}
    loaded = sum(k.rpartition(".")[0] not in anew for k in taken)
    return LoadReport(loaded, tuple(anew), tuple(anew.values()), (PLAIN,) * bool(plain))


def _check_same_detector(model: Any, state: Mapping[str, Tensor], where: str, *, trunk_only: bool) -> None:
    """Refuses weights of another detector, or of another one's trunk, in one line, not tensor by tensor.

    Raises:
        DataError: They are those of another one.
    """
    own = model.state_dict()
    _check_deformable(own, state, where)
    ours, trunk = detector_of_weights(own), trunk_of_weights(state)
    if ours is None or trunk is None:
        return
    family = family_of_weights(own) if trunk_only else family_of_weights(state)
    theirs = f"{family}_{trunk}"
    if family is None or theirs == ours:
        _check_semantic(own, state, where, trunk_only=trunk_only)
        return
    what = f"the trunk of {theirs}" if trunk_only else f"a {FAMILIES[family].kind} ({theirs})"
    raise DataError(
        f"weights {where}: they are of {what}, the recipe's model is {ours}; set model.name={theirs}, or give weights "
        f"of a {ours}"
    )


def _check_deformable(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuses weights of deformable convolutions for a model that has plain ones.

    Raises:
        DataError: They have offsets, and the model has none.
    """
    if any(OFFSET in key for key in state) and not any(OFFSET in key for key in own):
        raise DataError(
            f"weights {where}: they have deformable convolutions, the recipe's model has plain ones; set "
            "model.dcn=c3-c5, or give weights without"
        )


def _check_semantic(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str, *, trunk_only: bool) -> None:
    """Refuses weights with a semantic branch for a model that has none, and the other way round: regions look at it.

    Raises:
        DataError: One of the two has it.
    """
    theirs, ours = any_begins(state, SEMANTIC), any_begins(own, SEMANTIC)
    if theirs == ours or trunk_only:
        return
    there, here, semantic = ("a", "none", "stuff") if theirs else ("no", "one", "none")
    raise DataError(
        f"weights {where}: they have {there} semantic branch, the recipe's model has {here}; set "
        f"model.semantic={semantic}, or give weights {'without' if theirs else 'with one'}"
    )


def _check_shapes(model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuses weights of other shapes; a layer of other classes may have another number of rows, all of it the same.

    Raises:
        DataError: A weight has another shape.
    """
    wrong = []
    for key, value in own.items():
        if key.startswith(model.own_state) or key not in state or state[key].shape == value.shape:
            continue
        layer = key.rpartition(".")[0]
        if key.endswith(".scale") and layer in model.classifiers():
            # of another kind of classifier, which starts anew
            continue
        if layer not in model.class_layers or not _other_rows(layer, own, state):
            wrong.append((key, tuple(state[key].shape), tuple(value.shape)))
    lines = [
        f"weights {where}: {key} is {theirs}, the model has {ours}; choose the model that the weights belong to"
        for key, theirs, ours in wrong[:EXAMPLES]
    ]
    more = len(wrong) - EXAMPLES
    if lines:
        raise DataError(lines + [f"weights {where}: and {more} more have another shape"] * (more > 0))


def _check_numbers(model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuses whole numbers where the model has fractions: those of a quantised model, without its scales.

    Raises:
        DataError: A weight is of whole numbers.
    """
    weights = [key for key, value in own.items() if key in state and value.is_floating_point()]
    wrong = [key for key in weights if not key.startswith(model.own_state) and not state[key].is_floating_point()]
    problem = "holds whole numbers, the model has fractions; give weights that are not quantised"
    if wrong:
        raise DataError(f"weights {where}: {line}" for line in some(wrong, problem))


def _copy(model: nn.Module, state: Mapping[str, Tensor], where: str) -> tuple[list[str], list[str]]:
    """Copy what fits; keys that are missing and keys that are unexpected. Renames keys of older torchvision files."""
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise DataError(f"weights {where}: {line}" for line in lines) from None
    return result.missing_keys, result.unexpected_keys


def _layers_anew(model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, others: str) -> dict[str, str]:
    """Class-dependent layers that cannot be taken over, in the model's order, and why."""
    layers = [layer for layer in model.class_layers if f"{layer}.weight" in own]
    if others:
        return dict.fromkeys(layers, others)
    anew = {
        layer: f"it has {len(state[f'{layer}.weight'])} rows, {len(own[f'{layer}.weight'])} are needed"
        for layer in layers
        if _other_rows(layer, own, state)
    }
    classifiers = model.classifiers()
    other_classes = any(layer not in classifiers for layer in anew)
    layout = [f"{prefix}.{name}" for prefix, head in model.heads().items() for name in head.layout_buffers]
    other_layout = any(key in state and not torch.equal(state[key].cpu(), own[key].cpu()) for key in layout)
    # equal widths do not make equal logits
    if other_classes or other_layout:
        why = "the number of classes is another" if other_classes else "its logits stand for other groups"
        anew = {**{layer: why for layer in classifiers if layer not in anew}, **anew}
    return anew


def _kind(layer: str, state: Mapping[str, Tensor]) -> str:
    """Which classifier a layer is, see :mod:`lt_train.classifiers`."""
    factors = state.get(f"{layer}.scale")
    if factors is None:
        return "linear"
    return "scaled" if factors.ndim == 1 and len(factors) == len(state[f"{layer}.weight"]) else "cosine"


def _other_kind(layer: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Why the rows of a classifier mean another thing here; empty where they do not."""
    if f"{layer}.weight" not in state or f"{layer}.weight" not in own:
        return ""
    theirs, ours = _kind(layer, state), _kind(layer, own)
    # a linear layer is a scaled one with factors of 1
    alike = theirs == ours or (theirs, ours) == ("linear", "scaled")
    return "" if alike else f"it is {theirs}, {ours} is needed"


def _check_fixed_scales(model: Any, state: Mapping[str, Tensor], anew: Iterable[str], where: str) -> None:
    """Refuses cosines whose factor is another one than the recipe's, where the recipe does not train it.

    Neither can win unsaid: under another factor the classifier has other scores, and without it the option no effect.

    Raises:
        DataError: It is another.
    """
    fixed = dict(model.named_buffers())
    for layer in set(model.classifiers()) - set(anew):
        ours, theirs = fixed.get(f"{layer}.scale"), state.get(f"{layer}.scale")
        if ours is not None and theirs is not None and not ours.is_meta and float(ours) != float(theirs):
            raise DataError(
                f"weights {where}: the cosines of {layer} have the factor {float(theirs)}, the recipe's is "
                f"{float(ours)}; set head.scale={float(theirs)} or head.learn_scale=true to go on from it, or "
                "head.fresh_classifier=true"
            )


def _other_rows(layer: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether a layer of other classes differs in the rows of its weight and its bias, and in nothing else."""
    parts = (f"{layer}.weight", f"{layer}.bias")
    if not all(part in own and part in state and state[part].ndim for part in parts):
        return False
    rows = {len(state[part]) for part in parts}
    same = all(state[part].shape[1:] == own[part].shape[1:] for part in parts)
    return same and len(rows) == 1 and rows != {len(own[parts[0]])}


def _layers(keys: Iterable[str]) -> list[str]:
    """Layer names of the keys, each once, in order."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
