"""What is wrong with a section, such as a whole recipe, as one line for each mistake.

A line says where it is, what we got, what is allowed and how to fix it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from lt_data.errors import shown

# what pydantic calls a value of the wrong type, and what a recipe needs in its place
NEEDED = {
    "string_type": "text is needed",
    "path_type": "a path is needed",
    "int_type": "a valid integer is needed",
    "int_parsing": "a valid integer is needed",
    "int_parsing_size": "a smaller number is needed",
    "int_from_float": "a valid integer is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "finite_number": "a finite number is needed",
    "too_short": "at least one value is needed",
    "bool_type": "allowed are true and false",
    "bool_parsing": "allowed are true and false",
}

Sections = list[type[BaseModel]]
# a file of something else has thousands of unknown keys, and none of them says more than the first
MOST_LINES: Final = 20
# characters of a key, or of a name that is compared with others
_LONGEST_NAME: Final = 60


@dataclass(frozen=True)
class OtherNames:
    """What other tools call things.

    Attributes:
        keys: A key of ours by its last part, or by all of it, in small letters.
        values: One of our values by theirs, in small letters and with hyphens.
        absent: What there is in place of a key that we do not have, by its last part, in small letters.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


NO_OTHERS: Final = OtherNames()


def error_lines(
    error: ValidationError, recipe: type[BaseModel], content: Mapping[str, Any], others: OtherNames = NO_OTHERS
) -> list[str]:
    """One line for each mistake, and the number of those beyond the first twenty.

    Args:
        error: What validating gave.
        recipe: The class that was validated, for the names of its keys.
        content: What was validated, for the names of its head, sampler and calibration.
        others: Names that are answered with ours.
    """
    lines: list[str] = []
    unknown: dict[tuple[str, ...], list[str]] = {}
    problems = error.errors()
    inside = {problem["loc"][:length] for problem in problems for length in range(len(problem["loc"]))}
    for problem in problems:
        if problem["loc"] in inside and problem["loc"]:
            # a list is called too short without the members that are wrong
            continue
        key = _key(problem["loc"], recipe)
        if problem["type"] == "extra_forbidden":
            unknown.setdefault(key[:-1], []).append(key[-1])
        else:
            lines.append(_line(problem, _spelled(key), _sections_at(key, recipe, content), others))
    left = sum(map(len, unknown.values()))
    for section, names in unknown.items():
        seen = names[: max(0, MOST_LINES - len(lines))]
        left -= len(seen)
        lines += _unknown(section, seen, recipe, content, others)
    left += max(0, len(lines) - MOST_LINES)
    return [*lines[:MOST_LINES], *[f"{left:,} more mistakes like these"] * (left > 0)]


def close_names(text: str, names: Iterable[str]) -> list[str]:
    """Up to three of ``names`` that hold something like ``text``, closest first."""

    def likeness(name: str) -> float:
        words, length = re.split("[_-]", name), len(re.split("[_-]", text))
        parts = ["_".join(words[i : i + length]) for i in range(max(1, len(words) - length + 1))]
        return max(difflib.SequenceMatcher(None, text, part).ratio() for part in parts)

    found = sorted((-likeness(name), name) for name in names)
    return [name for ratio, name in found[:3] if -ratio >= 0.6]


def closest(got: object, names: Iterable[str], others: Mapping[str, str] = {}) -> str | None:
    """The one of ``names`` that was meant, if any is like it; hyphens or underscores and large letters do not matter.

    Args:
        got: What was given.
        names: What is allowed.
        others: What other tools call some of them.
    """
    plain, by_plain = _plain(str(got)[:_LONGEST_NAME]), {_plain(name): name for name in names}
    if plain not in by_plain and others.get(plain) in by_plain.values():
        return others[plain]
    close = difflib.get_close_matches(plain, by_plain, n=1)
    return by_plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def section_name(kind: type[BaseModel]) -> str:
    """The name of a section that is one of several, for example ``bags``."""
    return str(get_args(kind.model_fields["name"].annotation)[0])


def _key(location: tuple[int | str, ...], recipe: type[BaseModel]) -> tuple[str, ...]:
    """The keys that lead to a problem, without the name by which pydantic tells apart sections."""
    parts = tuple(map(str, location))
    named = parts and len(_sections_of(recipe, parts[0])) > 1
    return (parts[0], *parts[2:]) if named else parts


def _spelled(key: Iterable[str]) -> str:
    """A dotted key, cut if it is longer than any."""
    text = ".".join(key)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _line(problem: Mapping[str, Any], key: str, kinds: Sections, others: OtherNames) -> str:
    """What is wrong with the value of a key; ``kinds`` are the sections that it can be, if it is a section."""
    kind, got = problem["type"], shown(problem["input"])
    if kind == "missing":
        return f"key '{key}' is missing; set it in the recipe or with {key}=VALUE"
    if kind == "value_error":
        return ": ".join(filter(None, [key, problem["msg"].removeprefix("Value error, ")]))
    if kind in ("union_tag_invalid", "literal_error"):
        return f"{key}: {_one_of(problem['ctx'].get('tag', problem['input']), problem['ctx'], others)}"
    if kind == "union_tag_not_found":
        return f"{key}: has no name; set {key}.name to one of {', '.join(map(section_name, kinds))}"
    if kinds:
        return f"{key}: got {got}; {_section_needed(key, kinds)}"
    if kind == "tuple_type":
        return f"{key}: got {got}; a list is needed{_as_list(key, problem['input'])}"
    return f"{key}: got {got}; {NEEDED.get(kind) or problem['msg'][:1].lower() + problem['msg'][1:]}"


def _as_list(key: str, value: object) -> str:
    """An example of what was given as a list, if it or what its commas part could stand in one."""
    numbers = isinstance(value, str) and re.fullmatch(r"[\d\s,]*\d[\d\s,]*", value)
    if isinstance(value, Mapping) or (isinstance(value, str) and not numbers):
        return ""
    return f", for example {key}=[{shown(value).strip(chr(39)) if numbers else shown(value)}]"


def _one_of(got: Any, context: Mapping[str, Any], others: OtherNames) -> str:
    """A value that is none of several, with those that are allowed and the closest."""
    allowed = context.get("expected_tags") or context["expected"]
    close = closest(got, re.findall("'([^']*)'", allowed), others.values)
    return f"got {shown(got)}; allowed are {allowed}" + (f"; did you mean '{close}'?" if close else "")


def _section_needed(key: str, kinds: Sections) -> str:
    if len(kinds) > 1:
        return f"allowed are {', '.join(map(section_name, kinds))}, or a mapping with one of them as its name"
    keys = list(kinds[0].model_fields)
    return f"it is a section with the keys {', '.join(keys)}; set one of them, for example {key}.{keys[0]}=VALUE"


def _unknown(
    section: tuple[str, ...],
    names: Sequence[str],
    recipe: type[BaseModel],
    content: Mapping[str, Any],
    others: OtherNames,
) -> Iterator[str]:
    """Keys of one section that it does not have."""
    kinds = _sections_at(section, recipe, content)
    if names and len(kinds) > 1:
        yield _not_an_option(section[0], names, kinds, _chosen(kinds, content.get(section[0])))
        return
    known = list(_all_keys(recipe, content))
    for name in names:
        key = (*section, name)
        meant = _meant(key, known, others)
        inner = _at(key, content)
        instead = others.absent.get(name.lower().replace("-", "_"))
        if instead is not None:
            yield f"unknown key '{_spelled(key)}'; {instead}; remove it"
            continue
        if isinstance(inner, Mapping):
            meant = [name for name in meant if all(f"{name[1:-1]}.{part}" in known for part in inner)]
        if meant or not isinstance(inner, Mapping) or not inner:
            yield f"unknown key '{_spelled(key)}'" + (f"; did you mean {' or '.join(meant)}?" if meant else "")
        else:
            # a section of another tool: what is in it says more
            yield from _unknown(key, list(inner)[:MOST_LINES], recipe, content, others)


def _meant(key: tuple[str, ...], known: Sequence[str], others: OtherNames) -> list[str]:
    """The keys that an unknown one may stand for, in quotes: up to three."""
    dotted, last = _spelled(key).lower(), key[-1][:_LONGEST_NAME].lower().replace("-", "_")
    same = [other for other in known if other.rpartition(".")[2] == last]
    if len(same) != 1:
        other = others.keys.get(dotted) or others.keys.get(last) or ""
        same = [other] if other in known else same
    return [f"'{name}'" for name in same[:3] or difflib.get_close_matches(_spelled(key), known, n=1)]


def _at(key: Iterable[str], content: Any) -> Any:
    for name in key:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _not_an_option(section: str, names: Sequence[str], kinds: Sections, kind: type[BaseModel]) -> str:
    """Options that the chosen head, sampler or calibration does not have: in one line, they have one cause."""
    # its own before those that it shares with others
    options = sorted([*kind.model_fields], key=lambda name: name not in kind.__annotations__)
    options.remove("name")
    close = difflib.get_close_matches(names[0], options, n=1)
    if len(names) == 1 and close:
        return f"unknown key '{_spelled((section, names[0]))}'; did you mean '{section}.{close[0]}'?"
    keys = ", ".join(f"'{_spelled((section, name))}'" for name in names[:5]) + ", ..." * (len(names) > 5)
    has = f"has {', '.join(options)}" if options else "has no options"
    owners = [f"{section}={section_name(other)}" for other in kinds if {*names} <= {*other.model_fields}]
    if len(names) > 1:
        # what is left of another one: its name alone was changed
        fixes = ["remove them", f"set {section}={section_name(kind)} to replace the whole section"]
    else:
        fixes = ["remove it"] + [f"choose {' or '.join(owners)}"] * bool(owners)
    return f"unknown key{'s' * (len(names) > 1)} {keys}: {section} {section_name(kind)} {has}; {', or '.join(fixes)}"


def _all_keys(section: type[BaseModel], content: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a section; of a head, sampler or calibration those of the chosen one."""
    for name in section.model_fields:
        yield prefix + name
        have = content.get(name) if isinstance(content, Mapping) else None
        kind = _chosen(_sections_of(section, name), have)
        if kind is not None:
            yield from _all_keys(kind, have, f"{prefix}{name}.")


def _sections_at(key: tuple[str, ...], recipe: type[BaseModel], content: Any) -> Sections:
    """The sections that a dotted key can be; none if it is no section."""
    kinds: Sections = [recipe]
    for name in key:
        kind = _chosen(kinds, content)
        kinds = _sections_of(kind, name) if kind is not None else []
        content = content.get(name) if isinstance(content, Mapping) else None
    return kinds


def _sections_of(section: type[BaseModel], name: str) -> Sections:
    return _sections_in(section.model_fields[name].annotation) if name in section.model_fields else []


def _chosen(kinds: Sections, content: Any) -> Any:
    """The only section, or the one whose name the content has."""
    if len(kinds) == 1:
        return kinds[0]
    wanted = content.get("name") if isinstance(content, Mapping) else None
    return next((kind for kind in kinds if section_name(kind) == wanted), None)


def _sections_in(annotation: Any) -> Sections:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _sections_in(part)]
