"""A recipe file with a reason beside every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lt_data.errors import one_line
from lt_train.drafting.choices import Choice


def content_of(choices: Sequence[Choice]) -> dict[str, Any]:
    """The recipe that choices make, as a file would hold it."""
    return _nested(choices, lambda choice: choice.value)


def commented(choices: Sequence[Choice], opening: Sequence[str]) -> str:
    """The file.

    Args:
        choices: Values with their reasons, in the order of the file.
        opening: Lines in front, as comments.
    """
    head = [f"# {one_line(line)}".rstrip() for line in opening]
    sections = _nested(choices, lambda choice: choice)
    body: list[str] = []
    for key, value in sections.items():
        body += ["", *_lines({key: value}, "")]
    return "\n".join([*head, *body]) + "\n"


def _nested(choices: Sequence[Choice], leaf: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for choice in choices:
        *sections, name = choice.key.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = leaf(choice)
    return content


def _lines(content: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Choice):
            yield f"{indent}{key}: {_spelled(value.value)}  # {one_line(value.why)}"
        else:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")


def _spelled(value: Any) -> str:
    """A value on one line, as YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()
