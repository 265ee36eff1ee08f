"""The names of the files in a dataset directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lt_data.errors import DataError

ANNOTATIONS = "annotations.json"


CATEGORIES = "categories.csv"


GROUPS = "groups.json"


REPEAT_FACTORS = "repeat_factors.csv"


BUILD = "build.json"


ENVIRONMENT = "environment.json"


ALIGNMENT_PLOT = "alignment.png"


VALIDATION = "val.json"


IMAGES = "images"


CARD = "README.md"


OWN_FILES = frozenset(
    (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS, BUILD, ENVIRONMENT, ALIGNMENT_PLOT, VALIDATION, IMAGES, CARD)
)


# files whose digest build.json holds
RECORDED: Final = (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS, VALIDATION)


def is_dataset_dir(path: Path) -> bool:
    """Whether a path is a directory that holds the annotations and groups of a build."""
    path = Path(path)
    return (path / ANNOTATIONS).is_file() and (path / GROUPS).is_file()


def annotations_path(path: Path) -> Path:
    """The annotation file of a dataset directory, or the path itself if it is no directory.

    Raises:
        DataError: There is none in the directory.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / ANNOTATIONS).is_file():
        raise DataError(f"{path}: no {ANNOTATIONS} in it; give a dataset directory or an annotation file")
    return path / ANNOTATIONS
