"""The methods as text, with what was published of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final

from lt_data.text_tables import wrapped
from lt_train.recipe.method import KINDS, VARIANTS, Kind, Method
from lt_train.recipe.methods import METHODS, MODEL, TRAINED, fills

# a heading for each kind, in the order of the list
_HEADINGS: Final[Mapping[Kind, str]] = {
    "baseline": "Baselines: a plain softmax",
    "sampler": "Samplers: how often an image is seen",
    "whole network": "Whole network: other losses and heads",
    "classifier only": "Classifier only (second stage), or with the box head: the rest is frozen",
    "post-hoc": "Post-hoc: nothing is trained (lt-train calibrate RUN --method METHOD)",
}


def format_methods() -> str:
    """All methods as text, grouped by kind: the name and what it does."""
    width = max(map(len, METHODS))
    lines: list[str] = []
    for kind in KINDS:
        lines += [_HEADINGS[kind], ""]
        lines += [_entry(name, method, width) for name, method in METHODS.items() if method.kind == kind]
        lines += [""]
    notes = (
        "* goes on from a trained run: --init-from RUN.",
        "Numbers in brackets are the models of BAGS (CVPR 2020).",
        "lt-train methods METHOD says what it trains and needs, its source, and what was published.",
    )
    return "\n".join([*lines, *map(wrapped, notes)])


def _entry(name: str, method: Method, width: int) -> str:
    """A method in the list: name, whether it goes on from a run, summary."""
    mark = "*" if method.starts_from_run else " "
    return wrapped(f"  {name:<{width}} {mark} {_summary(method)}", indent=" " * (width + 5))


def _summary(method: Method) -> str:
    return f"({method.row}) {method.summary}" if method.row else method.summary


def format_method(name: str) -> str:
    """One method as text: what it does, trains and needs, its source, and what was published.

    Args:
        name: A key of ``METHODS``.
    """
    method = METHODS[name]
    facts = {
        "kind": method.kind,
        "trains": TRAINED[method.equal["train"]],
        "needs": method.needs,
        "source": method.source,
        "published": _published(method, _published_rows()),
    }
    width = max(map(len, facts)) + 2
    lines = [wrapped(f"{key:<{width}}{text}", indent=" " * width) for key, text in facts.items()]
    paper = "SimCal" if name == "simcal" else "BAGS"
    variants = f"variant=code and variant=text fill what the released code of {paper} and its text have otherwise."
    notes = ["", wrapped(variants)] if any(fills(name, variant) != fills(name) for variant in VARIANTS) else []
    return "\n".join([wrapped(f"{name}: {_summary(method)}"), "", *lines, *notes])


def _published(method: Method, rows: Sequence[Mapping[str, str]]) -> str:
    """The published box AP of a method, per data set."""
    found = [
        f"{row['dataset']} {row['AP']}"
        for row in rows
        if row["method"] == method.published and row["iou_type"] == "bbox" and row["model"] == MODEL
    ]
    if not found:
        return "nothing in the tables of BAGS; docs/more-methods.md has what others published"
    return f"box AP in percent, {MODEL}: {', '.join(found)}"


def _published_rows() -> list[dict[str, str]]:
    """The published tables, read as files: importing the evaluation would take numpy."""
    tables = resources.files("lt_train").joinpath("evaluation", "published")
    rows: list[dict[str, str]] = []
    for name in ("lvis.csv", "coco_lt.csv"):
        rows += csv.DictReader(io.StringIO(tables.joinpath(name).read_text(encoding="utf-8")))
    return rows
