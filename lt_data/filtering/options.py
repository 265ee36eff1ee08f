"""Which part of an annotation file is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FilterOptions:
    """What is kept; all of it unless something is given.

    Attributes:
        categories: Names or ids of the categories to keep; the others go with their annotations.
        drop_categories: Names or ids of categories to drop instead.
        min_size: Objects whose box is narrower or lower than so many pixels go; crowds stay.
        images: A pattern of shell style (``*``, ``?``, ``[...]``) for ``file_name``, or a text file with one
            ``file_name`` a line; other images go with their annotations.
        min_instances: Categories with fewer objects than this in what is left go.
        drop_empty: Images that are left without annotations go too, those that had none before among them.
    """

    categories: tuple[str, ...] = ()
    drop_categories: tuple[str, ...] = ()
    min_size: float = 0.0
    images: str | Path | None = None
    min_instances: int = 0
    drop_empty: bool = False
