"""The YAML of recipes: plain values, few of them, and every mistake one line.

YAML can do more than a recipe needs, and some of that is a trap: ``1:30`` is ninety, a date is an object, a key may be
given twice and the last one counts, a tag makes whatever it names, and an alias stands for a million values on one
line. None of that is taken here; text looks like text, and ``1e-4`` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Any, ClassVar, Final, cast

import yaml

from lt_data.errors import RecipeError, shown

# characters of a file: labels of ten thousand classes, one a line, are half of it
MOST_CHARACTERS: Final = 2**18
# values with those that aliases repeat
MOST_VALUES: Final = 50_000
# sections, lists and keys inside each other; a recipe has three
DEEPEST: Final = 20
# digits of a whole number of 64 bits
_MOST_DIGITS: Final = 18
_LONGEST_PROBLEM: Final = 150

_PREFIX: Final = "tag:yaml.org,2002:"
_INT, _FLOAT, _STR, _MERGE = (f"{_PREFIX}{kind}" for kind in ("int", "float", "str", "merge"))
_KEPT: Final = {f"{_PREFIX}null", f"{_PREFIX}bool", _MERGE}


class _Refused(yaml.MarkedYAMLError):
    """YAML that is none for a recipe; what is wrong and how to mend it."""


class _Loader(yaml.SafeLoader):
    """Composes a tree of plain values and refuses whatever is not, before anything is made of it."""

    # without octal numbers (010), those of base 60 (1:30) and dates, which are text here
    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in rows if tag in _KEPT]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node, if it and what it repeats are few values."""
        event = self.peek_event()
        self._check_event(event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            size = self._sizes.get(id(node)) if isinstance(event, yaml.AliasEvent) else self._size(node)
            if size is None:
                raise _refusal(event, "a value that holds itself", "write it out")
            self._sizes[id(node)] = size
            if size > MOST_VALUES:
                raise _refusal(event, f"more than {MOST_VALUES:,} values, aliases counted", "write fewer")
        return node

    def _size(self, node: yaml.Node) -> int:
        return 1 + sum(self._sizes[id(part)] for part in _parts(node))

    def _check_event(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = tag.replace(_PREFIX, "!!")
            raise _refusal(event, f"the tag {shown(name)}", "write the value without it, text in quotes")
        if self._depth == DEEPEST:
            raise _refusal(event, f"values nested deeper than {DEEPEST} levels", "no key needs that")

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A number of 64 bits, or text that a file may hold."""
        event = self.peek_event()
        node = super().compose_scalar_node(anchor)
        if node.tag == _INT and len(node.value.lstrip("+-")) > _MOST_DIGITS:
            got = f"a number of {len(node.value.lstrip('+-'))} digits"
            raise _refusal(event, got, f"write one of at most {_MOST_DIGITS}, or text in quotes")
        if "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise _refusal(event, "text with a character that no file can hold", "take it out")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping from text, each key once."""
        node = super().compose_mapping_node(anchor)
        found = set()
        for key, _ in node.value:
            if key.tag not in (_STR, _MERGE):
                got = shown(key.value) if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                raise _refusal(key, f"{got} as a key", "keys are names; put it in quotes if it is one")
            if key.value in found:
                raise _refusal(key, f"the key {shown(key.value)} a second time", "keep one")
            found.add(key.value)
        return node


_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^([-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+|[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)"
               r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)  # fmt: skip


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _refusal(at: yaml.Event | yaml.Node, got: str, fix: str) -> _Refused:
    return _Refused(problem=f"got {got}; {fix}", problem_mark=cast(Any, at.start_mark))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text: mappings of text, lists, text, numbers, booleans and nulls.

    Args:
        text: One document.
        where: What every message starts with.

    Raises:
        RecipeError: It is not YAML, or more than a recipe needs.
    """
    if len(text) > MOST_CHARACTERS:
        raise RecipeError(f"{where}: longer than {MOST_CHARACTERS:,} characters; a recipe is a short file of keys")
    try:
        return deepcopy(_parsed(text))
    except _Refused as error:
        raise RecipeError(f"{where}: {_place(error)}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        raise RecipeError(f"{where}: not YAML ({_place(error)}: {_short(error.problem or error.context)})") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML ({_short(error)})") from None


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """A sweep reads the same few recipes for each of its runs."""
    return yaml.load(text, Loader=_Loader)


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"


def _short(problem: object) -> str:
    words = " ".join(str(problem).split())
    return words if len(words) <= _LONGEST_PROBLEM else f"{words[:_LONGEST_PROBLEM]}..."
