"""What is wrong with a recipe, as one line for each mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError


def error_lines(error: ValidationError, recipe: type[BaseModel], tags: set[str]) -> Iterator[str]:
    """One line for each pydantic problem: key, what we got, what is allowed.

    Args:
        error: What validating gave.
        recipe: The class that was validated, for the names of its keys.
        tags: Names of the members of unions: they stand in a location but are no keys that the user wrote.
    """
    for problem in error.errors():
        parts = [str(p) for p in problem["loc"] if str(p) not in tags]
        key = ".".join(parts)
        if problem["type"] == "extra_forbidden":
            yield f"unknown key '{key}'{_did_you_mean(parts, recipe)}"
        elif problem["type"] == "missing":
            yield f"key '{key}' is missing; set it in the recipe or with {key}=VALUE"
        elif problem["type"] == "value_error":
            yield ": ".join(filter(None, [key, problem["msg"].removeprefix("Value error, ")]))
        else:
            yield f"{key}: got {problem['input']!r}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _did_you_mean(parts: list[str], recipe: type[BaseModel]) -> str:
    close = difflib.get_close_matches(".".join(parts), list(_all_keys(recipe)), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in _sections_in(field.annotation):
            yield from _all_keys(kind, f"{prefix}{name}.")


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _sections_in(part)]
