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


def install_command(extra: str) -> str:
    """What to type for an optional part of this package: from the folder that it was installed from, if there is one.

    Args:
        extra: Such as ``train``.
    """
    import json
    from importlib import metadata
    from pathlib import Path
    from urllib.parse import unquote, urlsplit

    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e '{checkout}[{extra}]'"
    try:
        origin = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}").get("url", "")
    except (metadata.PackageNotFoundError, ValueError):
        origin = ""
    folder = unquote(urlsplit(origin).path) if origin.startswith("file:") else ""
    return f"pip install '{folder if Path(folder).is_dir() and folder else PACKAGE}[{extra}]'"
