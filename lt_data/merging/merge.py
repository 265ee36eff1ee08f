"""Several COCO or LVIS files as one: read ``merge`` first.

The first file keeps its ids. In the others, categories take the id that their name has already, ids that are taken
become new ones, and every record whose ids stay keeps its bytes.

Shapes: N images, A annotations of a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.annotations.problems import problem_lines
from lt_data.annotations.records import LISTS
from lt_data.checks.check import check_data
from lt_data.checks.image_lists import NEGATIVE, NOT_EXHAUSTIVE
from lt_data.dataset.names import ANNOTATIONS
from lt_data.errors import DataError, RecipeError
from lt_data.files.reading import contains
from lt_data.files.writing import check_output_file, write_csv, write_whole
from lt_data.merging.parts import Part
from lt_data.merging.result import MergeReport, MovedId
from lt_data.merging.same_images import Twin, same_images
from lt_data.merging.union import Categories, Ids, Licenses
from lt_data.merging.writing import counted_anew, listed, merged_bytes, new_license
from lt_data.progress import SILENT, Progress


class _Licensed(msgspec.Struct):
    license: Any = None


OnSame = Literal["refuse", "join", "keep"]
_LICENSES, _INFO = "licenses", "info"
_MOST_NAMED: Final = 3


def merge(
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    images: Sequence[Path | str] = (),
    on_same: OnSame = "refuse",
    force: bool = False,
    progress: Progress = SILENT,
) -> MergeReport:
    """Writes several annotation files as one.

    Categories are one where their names are. ``info`` is the files' own where it is one, else a record that holds all
    of them; licenses are one where their contents are. LVIS's counts and frequencies are counted again.

    Args:
        paths: COCO or LVIS files, dataset directories, or folders of ``.json`` files, which are taken in the order of
            their names' characters.
        out: The file to write, ``.json``; where ids change, ``NAME.ids.csv`` beside it says which were which: input,
            file, list, old_id, new_id.
        images: Image folders, one for all files or one for each: images are then the same where the bytes of their
            files are, else where name and size are.
        on_same: What becomes of an image that several files list: refuse, ``join`` (its annotations go to the first
            record), ``keep`` (all records stay).
        force: Replace these files if they are there.
        progress: Told of files.

    Raises:
        DataError: A file cannot be read, there are not two, names of categories repeat within one, or files list the
            same image and nothing is said about it.
        OutputError: A file cannot be written, or is there already.
        RecipeError: ``on_same`` is none of these.
    """
    if on_same not in get_args(OnSame):
        raise RecipeError(f"on_same: got {on_same!r}; allowed are {', '.join(get_args(OnSame))}")
    out = Path(out)
    sources = sources_of([Path(path) for path in paths])
    for target in (out, _ids_path(out)):
        check_output_file(target, force=force, inputs=sources, suffixes=() if target != out else (".json",))
    files = [_read(path, place, len(sources), progress) for place, path in enumerate(sources, start=1)]
    twins = same_images(files, [Path(folder) for folder in images])
    _refuse_same(files, twins, on_same)
    categories, licenses = _union(files)
    parts = _parts(files, twins if on_same == "join" else [], categories, licenses)
    members, notes = _members(files, licenses)
    notes += [*_notes(files, twins, categories), *_license_notes(parts)]
    data = counted_anew(out, merged_bytes(parts, members, categories.records))
    progress.step("checking the result")
    after = check_data(out, data)
    if lines := problem_lines(after, structural=True):
        raise DataError(lines)
    moved = [each for part in parts for each in part.moved()]
    if moved:
        write_whole(_ids_path(out), lambda work: write_csv(work, MovedId._fields, moved), make_folder=True)
    write_whole(out, data, make_folder=True, advice="choose another --out")
    return MergeReport(out, tuple(part.summary() for part in parts), tuple(moved), tuple(notes), after)


def sources_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are merged: those of a folder in the order of their names' characters.

    Raises:
        DataError: A folder has none, or there are fewer than two in all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
        elif (path / ANNOTATIONS).is_file():
            found.append(path / ANNOTATIONS)
        else:
            names = sorted(each.name for each in path.iterdir() if each.suffix.lower() == ".json" and each.is_file())
            if not names:
                raise DataError(f"{path}: no .json files in it; give files, or the folder that holds them")
            found += [path / name for name in names if not name.startswith(".")]
    if len(found) < 2:
        raise DataError(f"{', '.join(map(str, paths))}: {len(found)} file; give two or more, or a folder of them")
    return found


def _ids_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.ids.csv")


def _read(path: Path, place: int, count: int, progress: Progress) -> AnnotationFile:
    file = read_annotations(path)
    names = file.categories.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{path}: more than one category is called {twice!r}, and categories are merged by name; rename them, or "
            "make them one with lt-data mend --fix equal-categories"
        )
    _refuse_unlisted(file)
    progress(place, count)
    return file


def _refuse_unlisted(file: AnnotationFile) -> None:
    """Refuses lists of images that name a category that the file lacks: it may come to mean another file's."""
    if not any(contains(file.data, key.encode()) for key in (NEGATIVE, NOT_EXHAUSTIVE)):
        return
    known = set(file.categories.ids.tolist())
    for row, record in enumerate(file.image_records):
        fields = msgspec.json.decode(record)
        for key in (NEGATIVE, NOT_EXHAUSTIVE):
            if isinstance(listed := fields.get(key), list) and any(i not in known for i in listed):
                raise DataError(
                    f"{file.path}: images[{row}]: {key} names a category that the file lacks; take such ids out with "
                    "lt-data mend --fix unlisted"
                )


def _refuse_same(files: Sequence[AnnotationFile], twins: Sequence[Twin], on_same: OnSame) -> None:
    if not twins or on_same == "keep":
        return
    if on_same == "refuse":
        raise DataError(
            f"{_of_twins(files, twins)}; put their annotations together with --on-same join, or list each twice with "
            "--on-same keep"
        )
    for twin in twins:
        lists = [_lists(files[number], row) for number, row in (twin[:2], twin[2:])]
        if lists[0] != lists[1]:
            raise DataError(
                f"{files[twin.file].path}: images[{twin.row}]: its {NEGATIVE} or {NOT_EXHAUSTIVE} differ from those in "
                f"{files[twin.first_file].path}; make them one first, or use --on-same keep"
            )


def _of_twins(files: Sequence[AnnotationFile], twins: Sequence[Twin]) -> str:
    shown = ", ".join(repr(files[twin.file].file_names[twin.row]) for twin in twins[:_MOST_NAMED])
    more = ", ..." if len(twins) > _MOST_NAMED else ""
    first = twins[0]
    return (
        f"{files[first.file].path}: {len(twins):,} images are in an earlier file too, {files[first.first_file].path} "
        f"for example ({shown}{more})"
    )


def _lists(file: AnnotationFile, row: int) -> list[list[str]]:
    """The lists of an LVIS image, by the names of categories."""
    names = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))
    record = msgspec.json.decode(file.image_records[row])
    return [sorted(names.get(i, str(i)) for i in record.get(key) or []) for key in (NEGATIVE, NOT_EXHAUSTIVE)]


def _union(files: Sequence[AnnotationFile]) -> tuple[Categories, Licenses]:
    return Categories(file.categories.ids for file in files), Licenses(file.members.get(_LICENSES) for file in files)


def _parts(
    files: Sequence[AnnotationFile], joined: Sequence[Twin], categories: Categories, licenses: Licenses
) -> list[Part]:
    image_ids, annotation_ids = Ids(f.image_ids for f in files), Ids(f.annotation_ids for f in files)
    parts: list[Part] = []
    for number, file in enumerate(files):
        twins = [twin for twin in joined if twin.file == number]
        is_twin = np.zeros(len(file.image_ids), bool)
        is_twin[[twin.row for twin in twins]] = True
        new = file.image_ids.copy()
        new[~is_twin] = image_ids.take(file.image_ids[~is_twin])
        for twin in twins:
            new[twin.row] = parts[twin.first_file].image_ids[twin.first_row]
        before = len(categories.records)
        known = categories.take(file.categories.names, file.categories.ids, file.category_records)
        parts.append(
            Part(
                number=number,
                file=file,
                image_ids=new,
                joined=is_twin,
                annotation_ids=annotation_ids.take(file.annotation_ids),
                categories=known,
                licenses=licenses.take(file.members.get(_LICENSES)) if licenses.any else None,
                new_categories=len(categories.records) - before,
            )
        )
    return parts


def _members(files: Sequence[AnnotationFile], licenses: Licenses) -> tuple[dict[str, bytes], list[str]]:
    """What stands beside the three lists, and what of it is left out."""
    members: dict[str, bytes] = {}
    notes = []
    for file in files:
        for name, raw in file.members.items():
            if name in (*LISTS, _INFO) or (name == _LICENSES and licenses.records):
                continue
            if members.setdefault(name, bytes(raw)) != bytes(raw):
                notes.append(f"{file.path}: {name!r} is another one than in an earlier file, and is left out")
    if licenses.records:
        members = {_LICENSES: listed(licenses.records), **members}
    infos = list(dict.fromkeys(bytes(file.members[_INFO]) for file in files if _INFO in file.members))
    if infos:
        together = b'{"description": "merged", "merged": ' + listed(infos) + b"}"
        members = {_INFO: infos[0] if len(infos) == 1 else together, **members}
    return members, notes


def _license_notes(parts: Sequence[Part]) -> list[str]:
    notes = []
    for part in parts:
        known = part.licenses
        stated = [msgspec.json.decode(record, type=_Licensed).license for record in part.file.image_records]
        lost = 0 if known is None else sum(old is not None and new_license(known, old) is None for old in stated)
        if lost:
            notes.append(f"{part.file.path}: {lost:,} images name a license that the file lacks; they have none now")
    return notes


def _notes(files: Sequence[AnnotationFile], twins: Sequence[Twin], categories: Categories) -> list[str]:
    notes = [f"{_of_twins(files, twins)}"] if twins else []
    if differing := list(dict.fromkeys(categories.differing)):
        shown = ", ".join(map(repr, differing[:_MOST_NAMED])) + (", ..." if len(differing) > _MOST_NAMED else "")
        notes.append(
            f"{len(differing):,} categories of one name have other fields that differ ({shown}); the first stay"
        )
    return notes
