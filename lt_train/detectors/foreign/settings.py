"""Settings of other tools that change what weights mean and not their shapes, compared with what this model has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_data.errors import shown

ABSENT = object()
# of a list that is compared: an alias in a file can make a short text long
MOST_PARTS = 16


@dataclass(frozen=True)
class Setting:
    """A setting that has to be as it is here.

    Attributes:
        path: Its keys, joined by dots. What a last key ``type`` has is a class, and compared without its package.
        value: What it is here.
        meaning: What that is, for messages.
        others: Values that mean the same for weights.
    """

    path: str
    value: Any
    meaning: str
    others: tuple[Any, ...] = ()

    @property
    def allowed(self) -> str:
        """What it may be, for messages."""
        values = (self.value, *self.others)
        return f"{'are' if self.others else 'is'} {', '.join(map(shown, values))}"

    def takes(self, value: Any) -> bool:
        """Whether a value is one of those."""
        own = class_name(value) if self.path.endswith(".type") else plain(value)
        return any(own == plain(allowed) for allowed in (self.value, *self.others))


def setting(config: object, path: str) -> Any:
    """The value under the keys of a path, or ``ABSENT``; numbers count the members of a list."""
    for key in path.split("."):
        if isinstance(config, list | tuple) and key.isdecimal() and int(key) < len(config):
            config = config[int(key)]
        elif isinstance(config, Mapping) and key in config:
            config = config[key]
        else:
            return ABSENT
    return config


def other_settings(config: object, needed: Sequence[Setting], *, where: str) -> list[str]:
    """One line for each setting that is there with another value."""
    found = [(row, setting(config, row.path)) for row in needed]
    return [
        f"weights {where}: they were trained with {row.path}={shown(value)}; allowed {row.allowed}, since this model "
        f"has {row.meaning}"
        for row, value in found
        if value is not ABSENT and not row.takes(value)
    ]


def class_name(value: object) -> object:
    """A class's name without its package or module: ``mmdet.ResNet`` is a ``ResNet``."""
    return value.rpartition(".")[2] if isinstance(value, str) else value


def mappings(config: object) -> Iterator[Mapping[Any, Any]]:
    """Every mapping in a configuration, the outer one first."""
    if isinstance(config, Mapping):
        yield config
    parts = config.values() if isinstance(config, Mapping) else config if isinstance(config, list | tuple) else ()
    for part in parts:
        yield from mappings(part)


def plain(value: Any, levels: int = 3) -> Any:
    """Tuples as lists, so that configurations of both kinds compare; ``ABSENT`` for lists that no setting has."""
    if not isinstance(value, list | tuple):
        return value
    if not levels or len(value) > MOST_PARTS:
        return ABSENT
    return [plain(part, levels - 1) for part in value]
