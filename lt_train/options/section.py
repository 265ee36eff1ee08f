"""A section: named options with a default, a range and a sentence each.

The options of a head, sampler or calibration are a section that stands beside its code and imports no torch. A recipe
is made of sections, and ``make_head`` and ``make_calibration`` check what they are given by the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from lt_data.errors import DataError, RecipeError
from lt_data.groups import check_edges, parse_edges
from lt_train.options.errors import error_lines, section_name


class Section(BaseModel):
    """Options that belong together: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, content: Any) -> Any:
        """Refuses what Python would count as 1 and 0: ``yes`` and ``off`` are booleans in YAML."""
        if not isinstance(content, Mapping):
            return content
        wrong = [
            InitErrorDetails(type=PydanticCustomError("float_type", "a number is needed"), loc=(name,), input=value)
            for name, value in content.items()
            if name in cls.model_fields and _has_boolean(value) and _is_number(cls.model_fields[name].annotation)
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return content


def _has_boolean(value: Any) -> bool:
    return any(isinstance(part, bool) for part in (value if isinstance(value, list | tuple) else [value]))


def _is_number(annotation: Any) -> bool:
    """Whether numbers are taken, alone or in a list, and booleans are not."""
    types = set(_types_in(annotation))
    return bool(types & {int, float}) and bool not in types


def _types_in(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _types_in(part)


S = TypeVar("S", bound=Section)


def make_section(section: type[S], options: Mapping[str, Any], *, where: str) -> S:
    """The section with these options, checked as those of a recipe are.

    Args:
        section: One of several that have a ``name``, which is not among the options.
        options: Values by name; NumPy's numbers and arrays are taken as Python's.
        where: What every message starts with, for example ``head bags``.

    Raises:
        RecipeError: An option is unknown or a value is not allowed: one line each.
    """
    known = option_defaults(section)
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise RecipeError(f"{where}: unknown option {key!r}; allowed are {allowed}" for key in unknown)
    plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in options.items()}
    try:
        return section.model_validate({"name": section_name(section), **plain})
    except ValidationError as error:
        raise RecipeError(f"{where}: {line}" for line in error_lines(error, section, plain)) from None


def option_defaults(section: type[Section]) -> dict[str, Any]:
    """Options of a section that has a name, and their defaults; its own before those that it shares with others."""
    names = sorted(section.model_fields, key=lambda key: key not in section.__annotations__)
    return {key: section.model_fields[key].default for key in names if key != "name"}


def numeric_options(section: type[Section]) -> tuple[str, ...]:
    """Options of a section that are numbers."""
    return tuple(key for key, field in section.model_fields.items() if field.annotation in (int, float))


def sections_of(union: Any) -> dict[str, type[Section]]:
    """The sections of a union by their ``name``."""
    return {section_name(kind): kind for kind in get_args(get_args(union)[0])}


def plain_defaults(section: type[Section]) -> dict[str, Any]:
    """Defaults of a section as YAML would give them; a key without one, or with a section that has a name, has none."""
    plain: dict[str, Any] = {}
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            plain[key] = plain_defaults(field.annotation)
        elif not field.is_required() and not isinstance(field.default, Section):
            plain[key] = list(field.default) if isinstance(field.default, tuple) else field.default
    return plain


def checked_edges(edges: tuple[int, ...]) -> tuple[int, ...]:
    """Bounds between groups, in the words of pydantic.

    Raises:
        ValueError: They are not ascending positive numbers.
    """
    try:
        return check_edges(edges)
    except DataError as error:
        # the key is said by whoever says what is wrong with a section
        raise ValueError(error.problems[0].removeprefix("edges: ")) from None


def _edges_of_text(value: Any) -> Any:
    """Bounds as they are typed for ``--groups``, numbers or a preset; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return parse_edges(value)
    except DataError as error:
        raise ValueError(error.problems[0].removeprefix("--groups: ")) from None


# bounds between groups of classes: positive and ascending instance counts
Edges = Annotated[tuple[int, ...], BeforeValidator(_edges_of_text), AfterValidator(checked_edges)]
