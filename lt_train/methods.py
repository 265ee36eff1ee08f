"""Methods: presets that fill keys of a recipe; explicit keys beat them.

Each is a head, a sampler, a calibration, and a regime: what is trained, from where, and for how long.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

BASELINE = "--init-from RUN, a softmax baseline"
MODEL: Final = "Faster R-CNN R50-FPN"
TRAINED: Final = {
    "all": "all but conv1 and layer1",
    "head+reg": "the two fully connected layers, classifier and box regressor",
    "classifier": "the classifier",
    "none": "nothing: fitted to a trained run",
}


@dataclass(frozen=True)
class Method:
    """One entry of ``lt-train methods``.

    Attributes:
        summary: One sentence.
        source: Where the method comes from.
        fills: Recipe keys and the values they take unless the recipe or the command line sets them.
        needs: What has to exist before, for people.
        keeps_classifier: Whether it goes on from the classifier of that run, so that a fresh one makes no sense.
        row: Number of the model in the comparison of BAGS (CVPR 2020); 0 for what it does not compare.
        published: How ``lt_train.evaluation.published`` calls the method; empty where nothing was published.
    """

    summary: str
    source: str
    fills: Mapping[str, Any]
    needs: str = "nothing"
    keeps_classifier: bool = False
    row: int = 0
    published: str = ""

    @property
    def starts_from_run(self) -> bool:
        """Whether it is a second stage, which goes on from a trained run."""
        return self.needs != "nothing"


def _fills(head: str, sampler: str = "shuffle", calibration: str = "none", train: str = "all") -> dict[str, Any]:
    return {
        "head": {"name": head},
        "sampler": {"name": sampler},
        "calibration": {"name": calibration},
        "train": train,
    }


# 10 epochs at a hundredth of the baseline's rate, one decay
_TUNE: Final = {"optim": {"lr": 1e-4}, "schedule": {"epochs": 10, "decay": [7]}}
_BETA_1: Final = {"name": "bags", "others_ratio": 1.0}
_BALANCED: Final = {"name": "reweight", "weighting": "effective-number", "beta": 0.999}

METHODS: Final[Mapping[str, Method]] = {
    "softmax": Method(
        summary="Softmax cross-entropy over all classes and the background: the baseline.",
        source="Faster R-CNN (NeurIPS 2015), Mask R-CNN (ICCV 2017)",
        fills=_fills("softmax"),
        row=1,
        published="softmax",
    ),
    "x2": Method(
        summary="The baseline trained as long again: what more training alone gives.",
        source="BAGS (CVPR 2020), model 2",
        fills=_fills("softmax"),
        needs=BASELINE,
        row=2,
        published="softmax x2",
    ),
    "finetune-tail": Method(
        summary="The baseline tuned on the classes with fewer than 100 instances alone.",
        source="BAGS (CVPR 2020), model 3",
        fills={**_fills("softmax"), "data": {"classes_below": 100}, **_TUNE},
        needs=BASELINE,
        keeps_classifier=True,
        row=3,
        published="finetune tail",
    ),
    "rfs": Method(
        summary="Repeat-factor sampling: images with rare categories are seen more often.",
        source="LVIS (CVPR 2019), appendix B",
        fills=_fills("softmax", "repeat-factor"),
        row=4,
        published="RFS",
    ),
    "rfs-finetune": Method(
        summary="Repeat-factor sampling for a second training that starts from the baseline.",
        source="BAGS (CVPR 2020), model 5",
        fills=_fills("softmax", "repeat-factor"),
        needs=BASELINE,
        row=5,
        published="RFS-finetune",
    ),
    "class-aware": Method(
        summary="Class-aware sampling: a class is drawn, then one of its images, so that all classes are seen alike.",
        source="Relay Backpropagation (ECCV 2016)",
        fills=_fills("softmax", "class-aware"),
    ),
    "reweight": Method(
        summary="Softmax cross-entropy in which a region counts by the inverse count of its class.",
        source="BAGS (CVPR 2020), model 6",
        fills=_fills("reweight"),
        needs=BASELINE,
        row=6,
        published="re-weight",
    ),
    "reweight-cls": Method(
        summary="Re-weighting by the effective number of instances; only the classifier is trained.",
        source="Class-Balanced Loss (CVPR 2019); BAGS, model 7",
        fills={**_fills("reweight", train="classifier"), "head": _BALANCED},
        needs=BASELINE,
        row=7,
        published="re-weight-cls",
    ),
    "focal": Method(
        summary="Sigmoid focal loss for every class: easy regions are played down.",
        source="Focal Loss (ICCV 2017); BAGS, model 8",
        fills=_fills("focal"),
        needs=BASELINE,
        row=8,
        published="focal",
    ),
    "focal-cls": Method(
        summary="Sigmoid focal loss; only the classifier is trained.",
        source="Focal Loss (ICCV 2017); BAGS, model 9",
        fills=_fills("focal", train="classifier"),
        needs=BASELINE,
        row=9,
        published="focal-cls",
    ),
    "ncm-fc": Method(
        summary="Nearest class mean: cosine to the mean feature of each class, second fully connected layer.",
        source="BAGS (CVPR 2020), model 10",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "fc"}},
        needs=BASELINE,
        row=10,
        published="NCM-fc",
    ),
    "ncm-conv": Method(
        summary="Nearest class mean on the pooled feature map of a region.",
        source="BAGS (CVPR 2020), model 11",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "conv"}},
        needs=BASELINE,
        row=11,
        published="NCM-conv",
    ),
    "tau-norm": Method(
        summary="Every row of the classifier, the background's too, divided by its length to the power tau.",
        source="Decoupling (ICLR 2020); BAGS, model 12",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "normalise"}},
        needs=BASELINE,
        row=12,
        published="tau-norm",
    ),
    "tau-norm-select": Method(
        summary="Tau-normalised scores only for regions that the baseline calls foreground and tau-norm calls tail.",
        source="BAGS (CVPR 2020), model 13",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "select-tail"}},
        needs=BASELINE,
        row=13,
        published="tau-norm-select",
    ),
    "bags": Method(
        summary="Balanced group softmax: one softmax per group of classes with similar instance counts.",
        source="BAGS (CVPR 2020), section 3",
        fills=_fills("bags", train="classifier"),
        needs=BASELINE,
        row=14,
        published="BAGS",
    ),
    "bags-train-cls": Method(
        summary="BAGS with one 'others' per positive; a fresh classifier is trained.",
        source="BAGS (CVPR 2020), supplement, table 1, row 1",
        fills={**_fills("bags", train="classifier"), "head": _BETA_1},
        needs=BASELINE,
        published="BAGS beta 1, train classifier",
    ),
    "bags-train-head": Method(
        summary="The same, with the box head and regressor trained too.",
        source="BAGS (CVPR 2020), supplement, table 1, row 2",
        fills={**_fills("bags", train="head+reg"), "head": _BETA_1},
        needs=BASELINE,
        published="BAGS beta 1, train head",
    ),
    "bags-tune-head": Method(
        summary="A run of bags-train-cls goes on at a low rate with the box head and regressor.",
        source="BAGS (CVPR 2020), supplement, table 1, row 3",
        fills={**_fills("bags", train="head+reg"), "head": _BETA_1, **_TUNE},
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune head",
    ),
    "bags-tune-all": Method(
        summary="A run of bags-train-cls goes on at a low rate with everything.",
        source="BAGS (CVPR 2020), supplement, table 1, row 4",
        fills={**_fills("bags"), "head": _BETA_1, **_TUNE},
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune all",
    ),
}


@dataclass(frozen=True)
class Defaults:
    """What a recipe has where neither the file nor a method says anything.

    Attributes:
        values: By key; sections as mappings. Without the sections that have a name.
        names: Name of each section that has one: head, sampler, calibration.
        options: Options of those sections, by section and name.
    """

    values: Mapping[str, Any]
    names: Mapping[str, str]
    options: Mapping[str, Mapping[str, Mapping[str, Any]]]


def fill(content: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the keys of ``preset`` that it does not have; options of another head are not filled in.

    A key that is there is explicit, null too; a section that is null says nothing.
    """
    filled = dict(content)
    for key, value in preset.items():
        have = filled.get(key)
        if isinstance(value, Mapping) and isinstance(have, Mapping):
            if have.get("name", value.get("name")) == value.get("name"):
                filled[key] = fill(have, value)
        elif key not in filled or (have is None and isinstance(value, Mapping)):
            filled[key] = value
    return filled


def change_method(
    content: Mapping[str, Any], method: str, defaults: Defaults
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What stays of a recipe file when it is given another method: the values that somebody chose.

    A complete or resolved recipe holds every key, so a value is chosen only if it is neither what the file's own
    method fills nor the default. The other keys that a method fills are left out, to be filled anew.

    Args:
        content: The file; its sections with a name are mappings.
        method: The other method; with the file's own, or one that does not exist, everything stays.
        defaults: Of the recipe.

    Returns:
        The content, and a note for each section whose chosen options have no place beside the method.
    """
    was = str(content.get("method", "softmax"))
    if method == was or method not in METHODS:
        return dict(content), ()
    old: Mapping[str, Any] = METHODS[was].fills if was in METHODS else {}
    new = METHODS[method].fills
    kept, notes = _with_pair(content, _chosen(content, old, new, defaults.values)), []
    renewed = _renewed(content, kept, {**defaults.values, **new}, defaults.values)
    if renewed:
        notes.append(
            f"note: method={method} sets anew what the recipe had as a default or from method {was}: "
            + ", ".join(renewed)
        )
    for section in defaults.names:
        if isinstance(content.get(section), Mapping):
            kept[section], dropped = _chosen_section(section, content[section], old, new, defaults)
            if dropped:
                notes.append(
                    f"note: method={method} has {section}={new[section]['name']}; dropped from the recipe: "
                    + ", ".join(dropped)
                )
    return kept, tuple(notes)


def _chosen(
    content: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """``content`` without values that were not chosen, of the keys that either method fills."""
    kept = dict(content)
    for key in {*old, *new} & {*defaults} & {*content}:
        have, default = content[key], defaults[key]
        if isinstance(default, Mapping) and isinstance(have, Mapping):
            kept[key] = _chosen(have, old.get(key, {}), new.get(key, {}), default)
        elif have == default or (key in old and have == old[key]):
            del kept[key]
    return kept


def _with_pair(content: Mapping[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """``kept`` with both of epochs and decay if either was chosen: a decay belongs to a length."""
    have, stays = content.get("schedule"), kept.get("schedule")
    pair = ("epochs", "decay")
    if not isinstance(have, Mapping) or not isinstance(stays, Mapping) or not any(key in stays for key in pair):
        return kept
    return {**kept, "schedule": {**stays, **{key: have[key] for key in pair if key in have}}}


def _renewed(
    content: Mapping[str, Any],
    kept: Mapping[str, Any],
    new: Mapping[str, Any],
    defaults: Mapping[str, Any],
    prefix: str = "",
) -> list[str]:
    """Values of a file that were left out and will be others, as KEY=VALUE."""
    lines = []
    for key, have in content.items():
        if key in defaults and isinstance(have, Mapping) and isinstance(defaults[key], Mapping):
            values = {**defaults[key], **(new.get(key) or {})}
            lines += _renewed(have, kept.get(key, {}), values, defaults[key], f"{prefix}{key}.")
        elif key in defaults and key not in kept and new.get(key) != have:
            lines.append(f"{prefix}{key}={_spelled(have)}")
    return lines


def _chosen_section(
    section: str, have: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], defaults: Defaults
) -> tuple[dict[str, Any], list[str]]:
    """What stays of a section with a name, and the chosen options that do not, as KEY=VALUE."""
    preset = old.get(section, {"name": defaults.names[section]})
    name = have.get("name", preset["name"])
    given = [defaults.options[section].get(str(name), {}), preset if preset["name"] == name else {}]
    chosen = {
        key: value
        for key, value in have.items()
        if key != "name" and not any(key in source and source[key] == value for source in given)
    }
    if name == new[section]["name"]:
        return chosen, []
    if name not in (preset["name"], defaults.names[section]):
        return dict(have), []
    return {}, [f"{section}.{key}={_spelled(value)}" for key, value in chosen.items()]


def _spelled(value: Any) -> str:
    """A value as a recipe spells it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def beaten_keys(method: str, recipe: Mapping[str, Any]) -> list[str]:
    """Keys of a resolved recipe whose values beat those of its method, one line each."""
    return list(_beaten(METHODS[method].fills, recipe, method, ""))


def _beaten(preset: Mapping[str, Any], have: Mapping[str, Any], method: str, prefix: str) -> list[str]:
    lines = []
    for key, value in preset.items():
        other_name = isinstance(value, Mapping) and value.get("name") != have[key].get("name")
        if isinstance(value, Mapping) and not other_name:
            lines += _beaten(value, have[key], method, f"{prefix}{key}.")
        elif have[key] != value:
            got, wanted = (have[key]["name"], value["name"]) if isinstance(value, Mapping) else (have[key], value)
            beats = f"beats {_spelled(wanted)} of method {method}"
            lines.append(f"note: {prefix}{key}={_spelled(got)} is set explicitly and {beats}")
    return lines


def format_methods() -> str:
    """All methods as text: what each does, trains and needs, and what was published."""
    width = max(map(len, METHODS))
    rows = _published_rows()
    blocks = []
    for name, method in METHODS.items():
        number = f"({method.row}) " if method.row else ""
        lines = [
            f"{number}{method.summary}",
            f"trains {TRAINED[method.fills['train']]}; needs {method.needs}",
            f"{method.source}{_published(method, rows)}",
        ]
        blocks.append("\n".join([f"{name:<{width}}  {lines[0]}", *(f"{'':<{width}}  {line}" for line in lines[1:])]))
    intro = f"Numbers in brackets are the models of BAGS (CVPR 2020); published figures are box AP in percent, {MODEL}."
    return "\n".join([*blocks, "", intro])


def _published(method: Method, rows: Sequence[Mapping[str, str]]) -> str:
    """The published box AP of a method, per data set."""
    found = [
        f"; {row['dataset']} {row['AP']}"
        for row in rows
        if row["method"] == method.published and row["iou_type"] == "bbox" and row["model"] == MODEL
    ]
    return "".join(found) or "; nothing published"


def _published_rows() -> list[dict[str, str]]:
    """The published tables, read as files: importing the evaluation would take numpy."""
    tables = resources.files("lt_train").joinpath("evaluation", "published")
    rows: list[dict[str, str]] = []
    for name in ("lvis.csv", "coco_lt.csv"):
        rows += csv.DictReader(io.StringIO(tables.joinpath(name).read_text(encoding="utf-8")))
    return rows
