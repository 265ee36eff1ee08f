"""Public names of a package that are imported when somebody asks for them (PEP 562)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """A public name of a package.

    Args:
        package: Its name.
        name: What is asked for.
        homes: Module of each public name.

    Raises:
        AttributeError: It is no public name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
