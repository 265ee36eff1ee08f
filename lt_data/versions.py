"""The version of this package, and of those that it works with."""

from __future__ import annotations

from typing import Final

from lt_data import __version__

PACKAGE: Final = "lt-detection"


def version_of(package: str) -> str | None:
    """The version of a package by its name in the registry.

    That of this package is the one of the code that runs, which need not be installed. Other packages have one where
    they are installed, or unpacked with their metadata.

    Args:
        package: Such as ``lt-detection`` or ``torch``.

    Returns:
        The version, or ``None`` if nothing tells it.
    """
    if package == PACKAGE:
        return __version__
    # its import takes as long as a small evaluation
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
