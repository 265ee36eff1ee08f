"""Pictures of a dataset directory or an annotation file, as PNG and SVG: ``lt-data plot``.

Read ``plot_dataset`` first. A kind of picture is a function from what was read to a figure; everything is drawn before
the first file takes its place, so a failure leaves the output folder as it was.

Shapes: C categories by rank.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import IntArray
from lt_data.counts.categories import EMBEDDED, CategoryCounts, count_categories, embedded_reference
from lt_data.counts.group_stats import GroupStats, check_by, stats_of
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import BUILD, CATEGORIES, GROUPS, annotations_path, is_dataset_dir
from lt_data.errors import DataError, OutputError
from lt_data.files.writing import adding_files
from lt_data.groups import (
    BAGS_EDGES,
    FREQUENCY_BOUNDS,
    FREQUENCY_NAMES,
    MOST_COMMON,
    MOST_RARE,
    check_edges,
    frequency_of,
    group_bounds,
)
from lt_data.pictures.co_occurrence import co_occurrence, co_occurrence_figure
from lt_data.pictures.figures import FORMATS, alignment_figure, groups_figure, write_figure
from lt_data.pictures.ranks import Band, rank_counts, ranks_figure
from lt_data.progress import SILENT, Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL: Final = "all"
FREQUENCY_BANDS: Final = (
    Band(f"rare: {MOST_RARE} images or fewer", *FREQUENCY_BOUNDS["r"]),
    Band(f"common: {MOST_RARE + 1} to {MOST_COMMON}", *FREQUENCY_BOUNDS["c"]),
    Band(f"frequent: more than {MOST_COMMON}", *FREQUENCY_BOUNDS["f"]),
)


@dataclass(frozen=True)
class Plots:
    """What was drawn.

    Attributes:
        files: The files written, PNG and SVG of each kind.
        left_out: A line with the reason for each kind that ``all`` could not draw.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def plot_dataset(
    path: Path,
    kind: str,
    out: Path,
    *,
    edges: Sequence[int] | None = None,
    by: str = "instances",
    force: bool = False,
    progress: Progress = SILENT,
) -> Plots:
    """Draws pictures of a dataset into ``out/<kind>.png`` and ``out/<kind>.svg``.

    Args:
        path: A directory written by ``lt-data build-coco-lt``, or a COCO or LVIS annotation file.
        kind: One of ``KINDS``, or ``all`` for every one that the path has the figures for.
        out: The folder to write into.
        edges: Ascending bounds between the groups; those of a dataset directory's ``groups.json``, else 10, 100, 1000.
        by: What the picture ``groups`` is made by, see :func:`lt_data.counts.group_stats.group_stats`.
        force: Replace pictures that exist.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: The path cannot be read, the edges are not ascending or do not go with ``by``, or nothing of this
            kind can be drawn.
        OutputError: A picture exists, or cannot be written.
    """
    kinds = _kinds(kind)
    check_by(by)
    if kinds == ("groups",) and by == "frequency" and edges is not None:
        raise DataError(
            "--groups: rare, common and frequent have bounds of their own; leave it out, or use --by images"
        )
    path, out = Path(path), Path(out)
    _refuse_overwrite([out / name for name in _file_names(kinds)], out, force=force)
    source = _Source(path, None if edges is None else check_edges(edges), by, progress)
    if kinds != ("alignment",):
        progress.step(f"reading {annotations_path(path)}")
        _ = source.file, source.edges
    figures: dict[str, Figure] = {}
    left_out: list[str] = []
    for name in kinds:
        try:
            figures[name] = _DRAW[name](source)
        except DataError as error:
            left_out += [f"{name}: {problem}" for problem in error.problems]
    if left_out and (kind != ALL or not figures):
        raise DataError(left_out)
    progress.step(f"drawing {', '.join(figures)}")
    return Plots(_write(figures, out), tuple(left_out))


def format_plots(plots: Plots) -> str:
    """One line for each file written and each kind left out."""
    return "\n".join([*(f"written: {path}" for path in plots.files), *(f"left out: {line}" for line in plots.left_out)])


class _Source:
    """A path and what is read from it, each part when it is first needed.

    Attributes:
        path: A dataset directory or an annotation file.
        by: What groups are made by.
    """

    def __init__(self, path: Path, edges: tuple[int, ...] | None, by: str, progress: Progress | None) -> None:
        self.path = path
        self.by = by
        self._edges = edges
        self._progress = progress

    @cached_property
    def file(self) -> AnnotationFile:
        return read_annotations(annotations_path(self.path), only_matched=True, progress=self._progress)

    @cached_property
    def counts(self) -> CategoryCounts:
        counts = count_categories(self.file)
        if not counts.instances.any():
            raise DataError(f"{self.file.path}: no category has a non-crowd annotation; there is nothing to draw")
        return counts

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Bounds of the bands: the directory's where bounds make its groups."""
        return self._edges or self._own_edges or BAGS_EDGES

    @property
    def bands_note(self) -> str:
        """Says so if bands cannot show the groups of a directory."""
        if self._own_groups is None or self._own_edges is not None:
            return ""
        return f"bands: the usual bounds; no bounds make the groups of {GROUPS}, which the picture 'groups' shows"

    def stats(self) -> GroupStats:
        """The groups: those that a directory has in its file, unless other bounds were asked for."""
        return stats_of(self.file, self._edges, self.by, own=self._own_groups)

    @property
    def _own_groups(self) -> Path | None:
        """The file of groups of a directory, unless other bounds were asked for."""
        return self.path / GROUPS if self._edges is None and is_dataset_dir(self.path) else None

    @cached_property
    def _own_edges(self) -> tuple[int, ...] | None:
        return None if self._own_groups is None else read_groups(self.path)[0]

    @property
    def name(self) -> str:
        return self.path.resolve().name


def _counts_figure(source: _Source) -> Figure:
    counts = source.counts
    ranked = rank_counts(counts.instances, counts.category_ids, counts.names)
    bands = [Band(*bound) for bound in group_bounds(source.edges)]
    title = f"{source.name}: {counts.instances.sum():,} instances of {_categories(counts)}"
    return ranks_figure(ranked, bands, title=title, unit="instances", note=source.bands_note)


def _images_figure(source: _Source) -> Figure:
    counts = source.counts
    ranked = rank_counts(counts.images, counts.category_ids, counts.names)
    images = len(np.unique(source.file.annotation_image_ids[~source.file.crowd]))
    title = f"{source.name}: images of {_categories(counts)} ({images:,} images with annotations)"
    counted = tuple(frequency_of(int(n)) for n in counts.images)
    note = ""
    if counts.frequency_source == "field" and counted != counts.frequencies:
        by_name = ", ".join(f"{counts.frequencies.count(key):,} {name}" for key, name in FREQUENCY_NAMES.items())
        note = f"bands: as counted here; the file's own frequency field says {by_name}"
    return ranks_figure(ranked, FREQUENCY_BANDS, title=title, unit="images", shares=False, note=note)


def _groups_figure(source: _Source) -> Figure:
    counts = source.counts
    title = f"{source.name}: {counts.instances.sum():,} instances of {_categories(counts)}"
    return stats_figure(source.stats(), title)


def stats_figure(stats: GroupStats, title: str) -> Figure:
    """Categories, images and instances per group, as three rows of bars side by side."""
    what = {"frequency": "LVIS frequency of a category"}.get(stats.by, f"training {stats.by} per category")
    if stats.by == "instances" and stats.edges is None:
        what = "groups of their own"
    return groups_figure(stats.groups, title, what)


def _co_occurrence_figure(source: _Source) -> Figure:
    pairs = co_occurrence(source.file, source.counts)
    if len(pairs.images) < 2:
        raise DataError(f"{source.file.path}: one category alone has images; pairs need two")
    return co_occurrence_figure(pairs, categories=len(source.counts.names), title=source.name)


def _categories(counts: CategoryCounts) -> str:
    return "1 category" if len(counts.names) == 1 else f"{len(counts.names):,} categories"


def _alignment_figure(source: _Source) -> Figure:
    if not is_dataset_dir(source.path):
        raise DataError(
            f"{source.path}: not a dataset directory; an alignment needs the targets in {CATEGORIES}, which "
            "lt-data build-coco-lt writes"
        )
    columns = _read_categories(source.path / CATEGORIES)
    pool_name, reference_name = _input_names(source.path)
    positions = columns["reference_rank"] - 1
    reference = _reference_curve(reference_name, positions, columns["reference_instances"])
    return alignment_figure(
        pool_instances=columns["pool_instances"],
        reference_instances=reference,
        reference_positions=positions,
        targets=columns["target"],
        realised=columns["instances"],
        pool_name=pool_name,
        reference_name=reference_name,
    )


_POOL_COLUMNS: Final = ("rank", "pool_instances", "target", "instances")
# empty where targets were given one by one, without a reference
_REFERENCE_COLUMNS: Final = ("reference_rank", "reference_instances")


def _read_categories(path: Path) -> dict[str, IntArray]:
    """The columns of ``categories.csv`` that an alignment needs, by rank; an empty reference cell is 0."""
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); write it anew with lt-data build-coco-lt") from None
    if not rows:
        raise DataError(f"{path}: no category is listed; write it anew with lt-data build-coco-lt")
    # what has no instance in the pool takes no rank, and stands behind the others if a target was given for it
    ranked = [row for row in rows if row.get("rank") != ""]
    wanted = [row for row in rows if row.get("rank") == "" and row.get("target") != "0"]
    rows = [*ranked, *({**row, "rank": str(len(ranked) + 1)} for row in wanted)]
    try:
        columns = {key: np.array([int(row[key]) for row in rows], np.int64) for key in _POOL_COLUMNS}
        columns |= {key: np.array([int(row[key] or 0) for row in rows], np.int64) for key in _REFERENCE_COLUMNS}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: not the table of a build ({error!r}); needed are whole numbers in the columns "
            f"{', '.join((*_POOL_COLUMNS, *_REFERENCE_COLUMNS))}; write it anew with lt-data build-coco-lt"
        ) from None
    if min(int(column.min()) for column in columns.values()) < 0 or int(columns["reference_rank"].max()) > 10**7:
        raise DataError(f"{path}: a count or rank is out of range; write it anew with lt-data build-coco-lt")
    order = np.argsort(columns["rank"], kind="stable")
    return {key: column[order] for key, column in columns.items()}


def _input_names(directory: Path) -> tuple[str, str]:
    """Names of pool and reference for the legend, as the build recorded them."""
    try:
        inputs = json.loads((directory / BUILD).read_text(encoding="utf-8"))["inputs"]
        return str(inputs["pool"]["name"]), str(inputs["reference"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "pool", "reference"


def _reference_curve(name: str, positions: IntArray, taken: IntArray) -> IntArray:
    """The reference's counts by rank: all of an embedded one, else those that were taken and 0 between them.

    The last pool rank always takes the last reference rank, so the length is known (for two categories or more).
    """
    if (positions < 0).any():
        return np.zeros(0, np.int64)
    if name in EMBEDDED:
        known = embedded_reference(name).instances
        if positions.max() < len(known) and np.array_equal(known[positions], taken):
            return known
    curve = np.zeros(int(positions.max()) + 1, np.int64)
    curve[positions] = taken
    return curve


_DRAW: Final[Mapping[str, Callable[[_Source], Any]]] = {
    "alignment": _alignment_figure,
    "counts": _counts_figure,
    "groups": _groups_figure,
    "images-per-class": _images_figure,
    "co-occurrence": _co_occurrence_figure,
}
KINDS: Final = tuple(_DRAW)


def _kinds(kind: str) -> tuple[str, ...]:
    if kind == ALL:
        return KINDS
    if kind not in KINDS:
        raise DataError(f"--kind: got '{kind}'; allowed are {', '.join((*KINDS, ALL))}")
    return (kind,)


def _file_names(kinds: Sequence[str]) -> list[str]:
    return [f"{kind}{suffix}" for kind in kinds for suffix in FORMATS]


def _refuse_overwrite(files: Sequence[Path], out: Path, *, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    existing = [path for path in files if path.exists()]
    if existing and not force:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]}: exists{more}; choose another --out, or replace it with --force")


def _write(figures: Mapping[str, Figure], out: Path) -> tuple[Path, ...]:
    """Writes every picture; they appear together or not at all."""
    names = _file_names(list(figures))
    with adding_files(out) as work:
        for name in names:
            write_figure(figures[Path(name).stem], work / name)
    return tuple(out / name for name in names)
