"""The methods as text, with what was published of each."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources

from lt_data.text_tables import WIDTH, wrapped
from lt_train.recipe.methods import METHODS, MODEL, TRAINED, Method


def format_methods() -> str:
    """All methods as text: what each does, trains and needs, and what was published."""
    width = max(map(len, METHODS))
    rows = _published_rows()
    blocks = []
    for name, method in METHODS.items():
        number = f"({method.row}) " if method.row else ""
        lines = [
            f"{number}{method.summary}",
            f"trains {TRAINED[method.equal['train']]}; needs {method.needs}",
            f"{method.source}{_published(method, rows)}",
        ]
        indent = " " * (width + 2)
        block = "\n".join(wrapped(line, width=WIDTH - len(indent)) for line in lines)
        blocks.append(textwrap.indent(block, indent).replace(indent, f"{name:<{width}}  ", 1))
    intro = f"Numbers in brackets are the models of BAGS (CVPR 2020); published figures are box AP in percent, {MODEL}."
    variants = "variant=code and variant=text fill what the paper's released code and its text have otherwise."
    return "\n".join([*blocks, "", wrapped(intro), wrapped(variants)])


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
