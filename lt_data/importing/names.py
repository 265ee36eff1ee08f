"""The names of the classes: a text file with one a line, or ``names`` of a YAML file as YOLO has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lt_data.annotations.findings import shown
from lt_data.errors import DataError

# looked for in the source, where YOLO needs names
USUAL: Final = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
_YAML: Final = (".yaml", ".yml")


def find_names(source: Path) -> Path:
    """The one file of names in a folder.

    Raises:
        DataError: There is none, or there are several.
    """
    found = [source / name for name in USUAL if (source / name).is_file()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        there = f"{len(found)} files of names ({names})" if found else "no file of names"
        raise DataError(f"{source}: {there}, of {', '.join(USUAL)}; give the right one with --names")
    return found[0]


def read_names(path: Path) -> dict[int, str]:
    """Class numbers, counted from 0 in text files and lists, and their names, in the order of the numbers.

    Raises:
        DataError: The file cannot be read, has no names, or two of one name.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give the file of names") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; save the names as UTF-8") from None
    names = _of_yaml(path, text) if path.suffix.lower() in _YAML else dict(enumerate(text.rstrip().splitlines()))
    names = {number: name.strip() for number, name in sorted(names.items())}
    if not any(names.values()):
        raise DataError(f"{path}: holds no names; write one a line")
    if empty := [number for number, name in names.items() if not name]:
        raise DataError(f"{path}: class {empty[0]} has no name (lines count from 0); name every class")
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise DataError(f"{path}: the name {shown(twice[0])} is used more than once; give each class its own")
    return names


def _of_yaml(path: Path, text: str) -> dict[int, str]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not YAML ({reason}); mend it, or give a text file with one name a line") from None
    names: Any = content.get("names") if isinstance(content, dict) else None
    pairs = (
        list(names.items()) if isinstance(names, dict) else list(enumerate(names)) if isinstance(names, list) else []
    )
    wrong = [pair for pair in pairs if type(pair[0]) is not int or pair[0] < 0 or not isinstance(pair[1], str)]
    if wrong:
        number, name = wrong[0]
        raise DataError(
            f"{path}: names has {shown(number)}: {shown(name)}; numbers from 0 and texts are allowed, write a name "
            "that YAML takes for something else in quotes"
        )
    if not pairs:
        raise DataError(f"{path}: has no names; write a list or numbers and names under 'names'")
    count = content.get("nc", len(pairs))
    if count != len(pairs):
        raise DataError(f"{path}: nc is {shown(count)}, and there are {len(pairs)} names; make them agree")
    return dict(pairs)


def _pairs(names: Any) -> list[tuple[Any, Any]]:
    """Numbers and names of a mapping or a list; none of anything else."""
    if isinstance(names, dict):
        return list(names.items())
    return list(enumerate(names)) if isinstance(names, list) else []
