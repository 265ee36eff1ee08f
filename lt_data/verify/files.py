"""Verifying whole files of a dataset directory: card, picture, environment, validation file, image folder.

It also looks for what is missing, and for what no build writes.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from lt_data import __version__
from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.build.card import CardFacts, render_card, stated_licences
from lt_data.dataset.names import ALIGNMENT_PLOT, ANNOTATIONS, BUILD, CARD, ENVIRONMENT, IMAGES, OWN_FILES, VALIDATION
from lt_data.dataset.record import BuildRecord, read_environment
from lt_data.errors import DataError
from lt_data.files.image_content import why_unreadable
from lt_data.files.image_files import find_images
from lt_data.groups import make_groups, names_sentence
from lt_data.progress import Progress
from lt_data.verify.mismatch import Mismatch, differing_bytes
from lt_data.verify.report import Checks, Dataset
from lt_data.versions import PACKAGE

# what a PNG file ends with: a chunk without content, and its checksum
PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# names of foreign files that are listed
LISTED: Final = 5


def check_files(directory: Path, record: BuildRecord, checks: Checks) -> None:
    """What can be said of the files without the annotations."""
    checks.run(BUILD, "every file of a build is there", _check_presence(directory, record))
    if (directory / ALIGNMENT_PLOT).is_file():
        checks.run(ALIGNMENT_PLOT, "present and whole", _check_picture(directory / ALIGNMENT_PLOT))
        checks.skip(
            f"{ALIGNMENT_PLOT}: what it shows",
            "pictures are not redrawn, as each version of matplotlib draws other bytes",
            f"lt-data plot {directory} --kind alignment --out OTHER, and look at both",
        )
    if (directory / ENVIRONMENT).is_file():
        checks.run(ENVIRONMENT, "keys, and the name of the pool", _check_environment(directory, record))
        checks.skip(
            f"{ENVIRONMENT}: date, versions, command, paths and other values",
            "nothing in the directory tells when, where and with what it was made",
            "ask who made it",
        )
    _note_foreign(directory, record, checks)


def _check_presence(directory: Path, record: BuildRecord) -> Iterator[Mismatch]:
    """The data files are looked for with their digests."""
    for name in (ENVIRONMENT, ALIGNMENT_PLOT, CARD):
        if not (directory / name).is_file():
            yield Mismatch(name, "file", "nothing", "a file")
    if record.inputs.val is None and (directory / VALIDATION).exists():
        yield Mismatch(VALIDATION, "file", "a file", f"nothing, as {BUILD} has no such input")
    if (directory / IMAGES).exists() and not (directory / IMAGES).is_dir():
        yield Mismatch(IMAGES, "file", "a file", "a folder, or nothing")


def _check_picture(path: Path) -> Iterator[Mismatch]:
    """Every checksum in the file is right, its pixels decode, and they are not all alike."""
    from PIL import Image

    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=["PNG"]) as image:
                image.verify()
            with Image.open(BytesIO(data), formats=["PNG"]) as image:
                lowest, highest = image.convert("L").getextrema()
    # what Pillow raises for a broken PNG
    except (
        *(OSError, SyntaxError, ValueError, EOFError, zlib.error),
        *(Image.DecompressionBombError, Image.DecompressionBombWarning),
    ) as error:
        yield Mismatch(path.name, "content", why_unreadable(error, data[:100]), "a PNG picture")
        return
    if not data.endswith(PNG_END):
        yield Mismatch(path.name, "content", "bytes after the end of the picture", "a PNG picture")
    if lowest == highest:
        yield Mismatch(path.name, "content", "one colour", "a picture of the targets")


def _check_environment(directory: Path, record: BuildRecord) -> Iterator[Mismatch]:
    environment = read_environment(directory)
    if PACKAGE not in environment.packages:
        yield Mismatch(ENVIRONMENT, f"packages: {PACKAGE}", "nothing", "its version")
    path = environment.paths.pool
    # the directory may come from another system
    if record.inputs.pool.name not in (PurePosixPath(path).name, PureWindowsPath(path).name):
        yield Mismatch(ENVIRONMENT, "paths: pool", path, f"a path of {record.inputs.pool.name}")


def _note_foreign(directory: Path, record: BuildRecord, checks: Checks) -> None:
    foreign = sorted(
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in directory.iterdir()
        if entry.name not in OWN_FILES and entry.name not in record.files
    )
    if foreign:
        shown = ", ".join(foreign[:LISTED]) + (f", and {len(foreign) - LISTED} more" if len(foreign) > LISTED else "")
        checks.skip(f"other files: {shown}", "no build writes them", "ask who added them")


def check_card(data: Dataset, checks: Checks) -> None:
    """The card, rendered again from the record and the annotations."""
    path = data.directory / CARD
    if not path.is_file():
        return
    if sorted(row.category_id for row in data.rows) != data.counts.category_ids.tolist():
        checks.skip(CARD, "the categories of the directory's files differ", "mend them first")
        return
    got, expected = checks.read(CARD, path.read_bytes), render_card(_card_facts(data)).encode()
    if got is None:
        return
    # what --groups was called in cards of before
    got = got.replace(b" --edges ", b" --groups ")
    writer, here = _writer(data.directory), __version__
    if got != expected and writer not in (None, here):
        why = f"it differs, but {PACKAGE} {writer} wrote it, and this is {here}, whose words may be others"
        checks.skip(CARD, why, f"verify with {PACKAGE} {writer}")
        return
    checks.run(CARD, "every line, rendered again", _differing_lines(got, expected))


def _writer(directory: Path) -> str | None:
    """Version of this package that wrote the directory, if the directory says so."""
    try:
        return read_environment(directory).packages.get(PACKAGE)
    except DataError:
        return None


def _card_facts(data: Dataset) -> CardFacts:
    """What the card says: from the annotations where they tell, from the record and the pool's counts elsewhere."""
    inputs, counts = data.record.inputs, data.counts
    source = inputs.targets or inputs.reference
    assert source is not None
    left_over = data.record.ignored if data.options.surplus == "ignore" else data.record.dropped
    place = {category_id: i for i, category_id in enumerate(counts.category_ids.tolist())}
    in_order = sorted(data.rows, key=lambda r: (-r.pool_instances, r.category_id))
    ranked = [place[r.category_id] for r in in_order if r.pool_instances]
    groups = make_groups(counts.category_ids, counts.instances, data.options.edges)
    return CardFacts(
        pool=inputs.pool.name,
        pool_sha256=str(inputs.pool.sha256),
        kind="reference" if inputs.targets is None else "targets",
        source=source.name,
        val=None if inputs.val is None else inputs.val.name,
        options=data.options,
        total={
            "images": len(data.file.image_ids),
            "instances": int(counts.instances.sum()),
            "categories": len(counts.category_ids),
        },
        left_over=(left_over.surplus_instances, left_over.crowds),
        groups=tuple(
            (g.name, len(g.category_ids), sum(int(counts.instances[place[c]]) for c in g.category_ids)) for g in groups
        ),
        group_names=names_sentence([group.name for group in groups]),
        categories=tuple((counts.names[i], int(counts.instances[i]), int(counts.images[i])) for i in ranked),
        short=sum(row.target > row.pool_instances for row in data.rows),
        unranked=len(data.rows) - len(ranked),
        rewritten=data.record.rewritten is not None,
        licences=stated_licences(data.file),
    )


def _differing_lines(got: bytes, expected: bytes) -> Iterator[Mismatch]:
    ours, theirs = got.split(b"\n"), expected.split(b"\n")
    if len(ours) != len(theirs):
        yield Mismatch(CARD, "lines", str(len(ours) - 1), str(len(theirs) - 1))
    wrong = [(n, a, b) for n, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1) if a != b]
    # after a line too many or too few, all that follow differ too
    for number, a, b in wrong if len(ours) == len(theirs) else wrong[:1]:
        yield differing_bytes(CARD, f"line {number}", a, b)


def check_validation(data: Dataset, checks: Checks, progress: Progress | None = None) -> None:
    """The validation file can be read and has the categories of the annotations."""
    if data.record.inputs.val is None or not (data.directory / VALIDATION).is_file():
        return
    val = checks.read(VALIDATION, lambda: read_annotations(data.directory / VALIDATION, progress=progress))
    if val is not None:
        checks.run(VALIDATION, f"the categories of {ANNOTATIONS}", _check_categories(val, data.file))
    checks.skip(
        f"{VALIDATION}: that it is a copy of {data.record.inputs.val.name}",
        "the original is not read",
        f"compare the sha256 of both, unpacked; {BUILD} has it as inputs: val",
    )


def _check_categories(val: AnnotationFile, file: AnnotationFile) -> Iterator[Mismatch]:
    have, want = (dict(zip(f.categories.ids.tolist(), f.categories.names, strict=True)) for f in (val, file))
    for key in sorted({*have, *want}):
        if have.get(key) != want.get(key):
            yield Mismatch(VALIDATION, f"category {key}", repr(have.get(key)), repr(want.get(key)))


def check_images(data: Dataset, checks: Checks) -> None:
    """Every image is in the folder, if there is one; what the files hold is not looked at."""
    folder = data.directory / IMAGES
    if not folder.is_dir():
        checks.skip(
            f"{IMAGES}/",
            "there is no such folder, and the record does not say whether one was made",
            f"see the command in {ENVIRONMENT}",
        )
        return
    checks.run(IMAGES, "every image is there", _find_images(folder, data.file.file_names))
    checks.skip(
        f"{IMAGES}: what the files hold",
        "the record has no digests of them",
        f"lt-data check {data.directory} --images {folder}",
    )
    expected = {os.path.normpath(name) for name in data.file.file_names}
    others = sum(
        os.path.relpath(os.path.join(root, name), folder) not in expected
        for root, _, names in os.walk(folder)
        for name in names
    )
    if others:
        checks.skip(f"{IMAGES}: {others:,} other files", "no annotation names them", "ask who added them")


def _find_images(folder: Path, file_names: list[str]) -> Iterator[Mismatch]:
    try:
        find_images(folder, file_names)
    except DataError as error:
        yield from (Mismatch(IMAGES, "files", line, "every image of the annotations") for line in error.problems)
