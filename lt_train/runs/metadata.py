"""What a run takes from the files that lt-data writes beside annotations: groups and repeat factors, or what stands in.

What a recipe says beats a dataset directory, and a directory beats what is computed from the annotations.

Shapes: N images of the training file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import FloatArray, IntArray
from lt_data.counts.categories import CategoryCounts
from lt_data.counts.factor_file import load_factors
from lt_data.counts.group_file import load_groups
from lt_data.counts.repeat_factors import image_repeat_factors
from lt_data.dataset.names import BUILD, GROUPS, REPEAT_FACTORS, is_dataset_dir
from lt_data.dataset.options import DEFAULT_THRESHOLD
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, PRESETS, Group, make_groups
from lt_train.data.sampler_options import RepeatFactorSampler
from lt_train.recipe.sections import Recipe

_OTHER_GROUPS: Final = (
    f"bounds such as data.groups=[10,100,1000], or a preset of bounds ({', '.join(PRESETS)}); lists such as "
    "coco-lt-paper are for lt-train eval --groups"
)


@dataclass(frozen=True)
class ChosenGroups:
    """The groups of a run.

    Attributes:
        groups: Every category is in one of them.
        source: Where they come from, for people.
        notes: What there is to say about the file that they come from.
    """

    groups: tuple[Group, ...]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenFactors:
    """The repeat factors of a run.

    Attributes:
        values: One for each image of the training file, in its order, shape [N].
        source: Where they come from, for people.
    """

    values: FloatArray
    source: str

    def of(self, rows: IntArray) -> ChosenFactors:
        """The factors of some images, by their places in the file."""
        return ChosenFactors(self.values[rows], self.source)

    @property
    def sha256(self) -> str:
        """Digest of the values."""
        return hashlib.sha256(self.values.astype("<f8").tobytes()).hexdigest()


def choose_groups(recipe: Recipe, file: AnnotationFile, counts: CategoryCounts) -> ChosenGroups:
    """The groups of ``data.groups``, else of the dataset directory, else by the bounds 10, 100, 1000.

    Args:
        recipe: Its data.
        file: The training annotations.
        counts: Their counts.

    Raises:
        DataError: A groups file cannot be read, or does not fit: one line for each kind of mistake.
    """
    asked, own = recipe.data.groups, _beside(recipe, GROUPS)
    beats = "" if own is None else f", which beats {own}"
    if isinstance(asked, Path):
        path = _file(asked, "data.groups", _OTHER_GROUPS, GROUPS)
        found = load_groups(path, counts, sha256=file.sha256)
        return ChosenGroups(found.groups, f"data.groups={asked}{beats}", _lines(found.moved))
    if asked is None and own is not None:
        found = load_groups(own, counts, sha256=file.sha256)
        return ChosenGroups(found.groups, str(own), _lines(found.moved))
    edges = asked or BAGS_EDGES
    source = f"data.groups={list(edges)}{beats}" if asked else f"the bounds {', '.join(map(str, edges))}"
    return ChosenGroups(make_groups(counts.category_ids, counts.instances, edges), source)


def choose_factors(recipe: Recipe, file: AnnotationFile) -> ChosenFactors | None:
    """The factors of ``sampler.factors`` or ``sampler.threshold``, else of the dataset directory, else of t = 0.001.

    Args:
        recipe: Its sampler and data.
        file: The training annotations.

    Returns:
        ``None`` for another sampler.

    Raises:
        DataError: A file of factors cannot be read, or does not fit: one line for each kind of mistake. Or the recipe
            says how to compute them, and not whether to, where the directory has them.
    """
    sampler, own = recipe.sampler, _beside(recipe, REPEAT_FACTORS)
    if not isinstance(sampler, RepeatFactorSampler):
        return None
    beats = "" if own is None else f", which beats {own}"
    if sampler.factors is not None:
        path = _file(sampler.factors, "sampler.factors", "sampler.threshold", REPEAT_FACTORS)
        return ChosenFactors(load_factors(path, file.image_ids), f"sampler.factors={path}{beats}")
    asked = "".join(f", sampler.{option}" for option in sampler.asked)
    if sampler.threshold is None and own is not None:
        if asked:
            raise DataError(
                f"{asked.removeprefix(', ')}: {own} has the factors, and is used as it is; set "
                f"sampler.threshold={DEFAULT_THRESHOLD:g} (or another) to compute them, or leave these options out"
            )
        return ChosenFactors(load_factors(own, file.image_ids), str(own))
    threshold = DEFAULT_THRESHOLD if sampler.threshold is None else sampler.threshold
    named = f"sampler.threshold={threshold:g}" if sampler.threshold else f"the threshold {threshold:g}"
    values = image_repeat_factors(file, threshold, instance_aware=sampler.instance_aware, exponent=sampler.exponent)
    return ChosenFactors(values, f"{named}{asked}{beats}")


def _beside(recipe: Recipe, name: str) -> Path | None:
    """A file of the dataset directory that is trained on, if there is one."""
    directory = recipe.data.train.annotations
    path = directory / name
    return path if is_dataset_dir(directory) and path.is_file() else None


def _file(path: Path, key: str, instead: str, name: str) -> Path:
    """The path, once it is known to be a file; where it is a directory with one of this name, that is offered."""
    if path.is_file():
        return path
    if (path / name).is_file():
        raise DataError(f"{key}: {path} is a directory; give its file, {key}={path / name}")
    raise DataError(f"{key}: {path} is no file; give one that lt-data wrote, or {instead}")


def _lines(text: str) -> tuple[str, ...]:
    return (f"warning: {text}",) if text else ()


class _Digests(msgspec.Struct):
    files: dict[str, str]


def stale_note(recipe: Recipe, file: AnnotationFile) -> tuple[str, ...]:
    """Says so if the annotations of a dataset directory are not those of its build any more.

    A directory without a record that can be read is not judged: ``lt-data verify`` does that.
    """
    build, annotations = _beside(recipe, BUILD), recipe.data.train.annotations
    try:
        built = msgspec.json.decode(build.read_bytes(), type=_Digests).files if build is not None else {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()
    if built.get(file.path.name, file.sha256) == file.sha256:
        return ()
    return (
        f"warning: {file.path} changed since it was built ({BUILD} has another sha256), and {GROUPS} and "
        f"{REPEAT_FACTORS} may not have; lt-data verify {annotations} says what differs",
    )


def groups_to_record(groups: tuple[Group, ...]) -> dict[str, Any]:
    """What ``data.json`` has of the groups: the categories of each, and its bounds."""
    return {
        "groups": {group.name: list(group.category_ids) for group in groups},
        "group_bounds": {group.name: [group.lower, group.upper] for group in groups},
    }


class _Source(msgspec.Struct):
    sha256: str


class _Record(msgspec.Struct):
    """What ``data.json`` has of groups and repeat factors; older versions wrote the categories of the groups only."""

    groups: dict[str, tuple[int, ...]]
    group_bounds: dict[str, tuple[int | None, int | None]] | None = None
    groups_source: str | None = None
    repeat_factors: _Source | msgspec.UnsetType | None = msgspec.UNSET


def _read_record(path: Path) -> _Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}: cannot be read ({reason}), and it says which groups the run was trained with; put it back"
        ) from None


def trained_groups(record: Path, recipe: Recipe, counts: CategoryCounts) -> tuple[Group, ...]:
    """The groups that a run was trained with.

    Args:
        record: The ``data.json`` of the run.
        recipe: Of the run. Those of older versions have the bounds in it, and the record has none.
        counts: Counts of the run's training file.

    Raises:
        DataError: The record does not say the groups, and the recipe has no bounds.
    """
    # where images were held out, the bounds were laid through the counts of all
    if isinstance(recipe.data.groups, tuple) and not recipe.data.hold_out:
        return make_groups(counts.category_ids, counts.instances, recipe.data.groups)
    found = _read_record(record)
    bounds = found.group_bounds or {}
    return tuple(Group(name, *bounds.get(name, (None, None)), ids) for name, ids in found.groups.items())


def trained_groups_source(record: Path) -> str:
    """Where the groups of a run came from when it was trained, for people; older versions did not note it.

    Args:
        record: The ``data.json`` of the run.

    Raises:
        DataError: It cannot be read.
    """
    return _read_record(record).groups_source or str(record)


def check_resumed(
    record: Path, was: Mapping[str, Any], file: AnnotationFile, groups: Sequence[Group], factors: ChosenFactors | None
) -> None:
    """Refuses to go on with other groups or repeat factors than a run has, wherever they come from.

    Args:
        record: The ``data.json`` of the run.
        was: The recipe in its checkpoint.
        file: The training annotations.
        groups: The groups now.
        factors: The repeat factors now.

    Raises:
        DataError: They are others; one line each.
    """
    found, problems = _read_record(record), []
    now = {group.name: group.category_ids for group in groups}
    if list(found.groups.items()) != list(now.items()):
        problems.append(
            f"--resume: the groups are not those that the run was started with ({', '.join(found.groups)}; see "
            f"{record}); leave out data.groups or put the groups file back, or start a new run from its weights with "
            "--init-from"
        )
    if factors is not None and factors.sha256 != _recorded_factors(found, was, file):
        problems.append(
            f"--resume: the repeat factors ({factors.source}) are not those that the run was started with; put the "
            "file back, or start a new run from its weights with --init-from"
        )
    if problems:
        raise DataError(problems)


def _recorded_factors(record: _Record, was: Mapping[str, Any], file: AnnotationFile) -> str | None:
    """Digest of the repeat factors of a run; older versions computed them from the threshold in the recipe."""
    if isinstance(record.repeat_factors, _Source):
        return record.repeat_factors.sha256
    if record.repeat_factors is None:
        return None
    threshold = was.get("sampler", {}).get("threshold", DEFAULT_THRESHOLD)
    # nobody looked at the values of a recipe that this version does not understand
    if type(threshold) not in (int, float) or not 0 < threshold < math.inf:
        return None
    return ChosenFactors(image_repeat_factors(file, threshold), "").sha256
