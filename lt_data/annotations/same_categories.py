"""Whether a file has the categories of another one; if not, every label of it would be wrong.

Shapes: C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import IntArray
from lt_data.errors import DataError


def check_same_categories(file: AnnotationFile, ids: IntArray, names: Sequence[str], *, other: str) -> None:
    """Refuses a file whose category ids or names differ from those of another file.

    Args:
        file: The file that is checked.
        ids: Dataset ids of the categories of the other file, [C], in any order.
        names: Their C names.
        other: What to call the other file in the message.

    Raises:
        DataError: They differ; the first differences are named.
    """
    have = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))
    want = dict(zip(ids.tolist(), names, strict=True))
    wrong = [key for key in sorted({*have, *want}) if have.get(key) != want.get(key)]
    if wrong:
        shown = "; ".join(f"id {key}: {_named(have, key)} here, {_named(want, key)} there" for key in wrong[:3])
        raise DataError(
            f"{file.path}: {len(wrong)} categories differ from {other}'s ({shown}); "
            "use a file with the same category list"
        )


def _named(names: Mapping[int, str], key: int) -> str:
    """A name in quotation marks, so that a class called missing is told from one that is not there."""
    return repr(names[key]) if key in names else "no such category"
