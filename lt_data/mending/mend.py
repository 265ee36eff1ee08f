"""Putting right what ``lt-data check`` finds: read ``mend`` first.

Each kind of mend is a function that drafts edits of a document. They are applied one after the other until none finds
anything to do, so mending what was mended changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lt_data.annotations.loose import replace_not_finite
from lt_data.annotations.records import LISTS
from lt_data.checks.check import check_read
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError, RecipeError
from lt_data.files.reading import Bytes, check_unchanged, map_file, stamp_of
from lt_data.files.writing import check_output_file, write_csv, write_whole
from lt_data.mending.boxes import areas, boxes, clip
from lt_data.mending.document import Document, fields_of, value_of
from lt_data.mending.draft import Change, Draft
from lt_data.mending.ids import ids, repeated_ids
from lt_data.mending.kinds import KINDS, in_order
from lt_data.mending.masks import masks
from lt_data.mending.numbers import numbers, without_not_finite
from lt_data.mending.objects import counts, empty_categories, negative_lists, root_category, same_object
from lt_data.mending.references import equal_categories, equal_images, moved_ids, unlisted
from lt_data.mending.result import MendReport, NewId, new_ids_of, write_changes
from lt_data.progress import SILENT, Progress

_NOT_FINITE: Final = "not-finite"
_MENDS: Final[dict[str, Callable[[Draft], None]]] = {
    "numbers": numbers,
    "ids": ids,
    "masks": masks,
    "equal-categories": equal_categories,
    "equal-images": equal_images,
    "moved-ids": moved_ids,
    "unlisted": unlisted,
    "repeated-ids": repeated_ids,
    "boxes": boxes,
    "clip": clip,
    "areas": areas,
    "same-object": same_object,
    "root-category": root_category,
    "empty-categories": empty_categories,
    "negative-lists": negative_lists,
    "counts": counts,
}
# what one round makes possible, the next one does; each leaves less to do
_MOST_ROUNDS: Final = 10


def mend(
    path: Path | str,
    out: Path | str | None = None,
    *,
    fix: Sequence[str] | None = None,
    changes: Path | str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> MendReport:
    """Puts right what is wrong with an annotation file and leaves every other byte as it is.

    Args:
        path: A COCO or LVIS file, or a dataset directory.
        out: The file to write, ``.json``; nothing is written without. Where ids change, ``NAME.ids.csv`` beside it
            says which were which: list, record, old_id, new_id.
        fix: Kinds of mends, see :data:`lt_data.mending.kinds.KINDS`, which are all; needed if a file is written, else
            all unless given.
        changes: Write every change to this ``.csv`` or ``.json`` file too, dropped records in full.
        force: Replace these files if they are there.
        progress: Told of bytes.

    Returns:
        Every change, and what ``lt-data check`` finds in the result.

    Raises:
        DataError: The file cannot be read, or has no records to work on.
        OutputError: A file cannot be written, or is there already.
        RecipeError: There is no such kind of mend, or none is named and a file is to be written.
    """
    if fix is None and out is not None:
        raise RecipeError(f"fix: got none; name what is put right in {out}, of {', '.join(KINDS)}")
    kinds = in_order(KINDS if fix is None else fix)
    path = annotations_path(Path(path))
    out, changes = (None if each is None else Path(each) for each in (out, changes))
    _check_outputs(path, out, changes, force=force)
    stamp = stamp_of(path)
    data = map_file(path, progress)
    progress.step("mending")
    document, done = mended(path, data, kinds, progress)
    progress.step("checking the result")
    new_ids = _new_ids(path, data, document, done)
    report = MendReport(path, kinds, tuple(done), tuple(new_ids), check_read(path, document.data, document.read))
    check_unchanged(path, stamp)
    _write(report, document, out, changes)
    return report


def ids_path(out: Path) -> Path:
    """The file beside an output that says which id became which."""
    return out.with_name(f"{out.stem}.ids.csv")


def _check_outputs(path: Path, out: Path | None, changes: Path | None, *, force: bool) -> None:
    if out is not None:
        check_output_file(out, force=force, inputs=[path], suffixes=(".json",))
        check_output_file(ids_path(out), force=force, inputs=[path])
    if changes is not None:
        taken = [path] if out is None else [path, out, ids_path(out)]
        check_output_file(changes, force=force, inputs=taken, suffixes=(".csv", ".json"))


def mended(path: Path, data: Bytes, kinds: Sequence[str], progress: Progress = SILENT) -> tuple[Document, list[Change]]:
    """The bytes of a file with everything of these kinds put right, and what was changed.

    Args:
        path: What to call the file.
        data: Its bytes.
        kinds: Of mends, in order.
        progress: Told of every kind that changed something, and of bytes: the file is read again after each.

    Raises:
        DataError: It is no annotation file, or has NaN or Infinity in it and is not to lose them.
    """
    document, changes = _readable(path, data, kinds, progress)
    for _ in range(_MOST_ROUNDS):
        before = document
        for kind in kinds:
            if kind != _NOT_FINITE:
                draft = Draft(document, kind)
                _MENDS[kind](draft)
                document = draft.done()
                changes += draft.changes
                if draft.changes:
                    progress.step(f"{kind}: {len(draft.changes):,} changed, reading the result")
        if document is before:
            return document, changes
    raise DataError(f"{path}: mending finds no end; choose fewer kinds with --fix")


def _readable(path: Path, data: Bytes, kinds: Sequence[str], progress: Progress) -> tuple[Document, list[Change]]:
    if _NOT_FINITE in kinds:
        return without_not_finite(path, data, progress)
    if replace_not_finite(data, lambda _: b"null") is not data:
        raise DataError(f"{path}: NaN or Infinity stands for a number; add the kind {_NOT_FINITE}, which writes null")
    return Document.of(path, data, progress), []


def _new_ids(path: Path, data: Bytes, document: Document, changes: Sequence[Change]) -> list[NewId]:
    if not any(change.field == "id" for change in changes):
        return []
    old = Document.of(path, replace_not_finite(data, lambda _: b"null"))
    return new_ids_of(_ids(old), _ids(document), document.origin)


def _ids(document: Document) -> dict[str, list[Any]]:
    return {key: [value_of(fields_of(record).get("id")) for record in document.records[key]] for key in LISTS}


def _write(report: MendReport, document: Document, out: Path | None, changes: Path | None) -> None:
    if changes is not None:
        write_whole(changes, lambda work: write_changes(work, report.changes), make_folder=True)
    if out is None:
        return
    if report.new_ids:
        write_whole(ids_path(out), lambda work: write_csv(work, NewId._fields, report.new_ids), make_folder=True)
    write_whole(out, lambda work: work.write_bytes(document.data), make_folder=True, advice="choose another --out")
