"""Making a cache of region features: read ``cache_run`` first. Several processes share the shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from torch import Tensor

from lt_data.errors import DataError, LtError, OutputError, RecipeError
from lt_data.files.leftovers import remove_folder
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.bad_images import BadImages
from lt_train.data.dataset import DetectionDataset, make_loader
from lt_train.data.detection_data import DetectionData
from lt_train.data.plan import Draw
from lt_train.detectors import LongTailDetector, set_trainable
from lt_train.features.columns import (
    Version,
    as_kept,
    joined,
    pool_places,
    train_versions,
    unreadable_versions,
    val_version,
)
from lt_train.features.image_files import check_images, file_columns, files_of, note_images
from lt_train.features.layout import (
    CHECKED,
    COMPARED_IMAGES,
    MANIFEST,
    SHARDS,
    Manifest,
    Part,
    read_manifest,
    shard_folder,
    write_manifest,
)
from lt_train.features.made_of import made_of, refuse_other_detectors
from lt_train.features.reading import Cache
from lt_train.features.shards import Stamps, damaged_shards, read_record, write_shard
from lt_train.features.sizes import bytes_per_image, check_room, describe, images_per_shard
from lt_train.inference.detect import ImageList, Trained, load_trained, loaded_images
from lt_train.memory import inference_advice, named_memory
from lt_train.processes import Processes, run_together
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import load_run_data, load_validation
from lt_train.runs.directory import RunDir
from lt_train.runs.live import duration
from lt_train.runs.lock import LOCK, writing_run

POOL: Final = 1024
# images that are timed before the start, after one that warms up; fewer images are not worth it
TIMED, WORTH_TIMING = 3, 32
# what two caches of the same settings may differ in
_FREE = ("shards", "made_by", "images_per_shard")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cached:
    """A cache that is whole.

    Attributes:
        path: ``OUT/train`` or ``OUT/val``.
        manifest: What it holds.
        computed: How many shards were computed now.
    """

    path: Path
    manifest: Manifest
    computed: int


@dataclass(frozen=True)
class _Job:
    """What the shards are made of.

    Attributes:
        dataset: Samples of the training images; ``None`` for validation images.
        of_image: Bytes of an image, about.
    """

    model: LongTailDetector
    recipe: Recipe
    data: DetectionData
    dataset: DetectionDataset | None
    manifest: Manifest
    cache: Path
    of_image: int

    @property
    def paths(self) -> list[Path]:
        """The file of each image, in the order of the cache."""
        return self.data.paths if self.dataset is None else files_of(self.data, self.dataset)


def cache_run(
    run: Path,
    out: Path,
    *,
    part: Part = "train",
    pool: int = POOL,
    exact: bool = False,
    checkpoint: str = "last",
    repair: bool = False,
    force: bool = False,
    device: str | None = None,
    tell: Tell = lambda line: None,
) -> Cached | None:
    """Computes the region features of a run's images, or what is missing of them.

    Args:
        run: The run directory: its frozen weights, its data, its geometry.
        out: Directory to write ``train`` or ``val`` in.
        part: Training images (for ``fit``) or validation images (for ``eval``).
        pool: Regions of a training image with features: all positives, and negatives up to this number.
        exact: Features of every candidate in float32, each version of an image by itself in the network.
        checkpoint: ``last`` or ``best``.
        repair: Compare every shard with its digest, and compute damaged ones again.
        force: Replace features that exist.
        device: Device, the recipe's unless given.
        tell: Gets lines for people.

    Returns:
        The cache; ``None`` in all processes but the first.

    Raises:
        DataError: The run or its data cannot be used, or an image cannot be read.
        RecipeError: The features of such a run cannot be kept.
        OutputError: ``out`` holds other features, or the disk has no room.
    """

    def work(processes: Processes) -> Cached:
        return cache_together(
            run,
            out,
            processes,
            part=part,
            pool=pool,
            exact=exact,
            checkpoint=checkpoint,
            repair=repair,
            force=force,
            device=device,
            tell=tell,
        )

    return run_together(work)


def cache_together(
    run: Path,
    out: Path,
    processes: Processes,
    *,
    part: Part = "train",
    pool: int = POOL,
    exact: bool = False,
    checkpoint: str = "last",
    repair: bool = False,
    force: bool = False,
    device: str | None = None,
    tell: Tell = lambda line: None,
) -> Cached:
    """The same in one of several processes that have found each other, see :func:`lt_train.processes.run_together`."""
    trained = load_trained(RunDir(run), checkpoint, device=device, processes=processes)
    made_by = run if checkpoint == "last" else RunDir(run).checkpoint(checkpoint)
    job = _job(trained, run, made_by, out / part, part=part, pool=None if exact or part == "val" else pool, exact=exact)
    say: Tell = tell if processes.is_first else lambda line: None
    with writing_run(job.cache) if processes.is_first else nullcontext(()) as notes:
        for line in notes:
            say(line)
        return _compute(job, processes, repair=repair, force=force, tell=say)


def _job(trained: Trained, run: Path, made_by: Path, cache: Path, *, part: Part, pool: int | None, exact: bool) -> _Job:
    model, recipe = trained.model, trained.recipe
    refuse_other_detectors(recipe)
    # nothing is trained: no masks are read, and batch norms use stored statistics
    set_trainable(model, "none")
    recipe = recipe.model_copy(update={"train": "none"})
    model.train(part == "train")
    if exact:
        model.precision = None
    data, dataset = _data(recipe, trained, part, run)
    flip = recipe.data.flip
    flips = (False, True) if part == "train" and 0 < flip < 1 else (part == "train" and flip == 1,)
    dtype: Final = "float32" if exact else "float16"
    images = len(data.file.image_ids) if dataset is None else len(dataset)
    objects = 0.0 if dataset is None else len(dataset.pairs()[0]) / max(images, 1)
    size = bytes_per_image(model, part=part, pool=pool, dtype=dtype, versions=len(flips), objects=objects)
    manifest = Manifest(
        part=part,
        dtype=dtype,
        pool=pool,
        flips=flips,
        images=images,
        images_per_shard=images_per_shard(size),
        stages=len(model.roi_heads.of_stages),
        features=model.roi_heads.of_stages[0].box_head.fc7.out_features,
        made_of=made_of(model, recipe, data, dataset),
        made_by=str(made_by),
    )
    return _Job(model, recipe, data, dataset, manifest, cache, size)


def _data(recipe: Recipe, trained: Trained, part: Part, run: Path) -> tuple[DetectionData, DetectionDataset | None]:
    """The images, and for training images their samples, upright."""
    if part == "val":
        if recipe.data.val is None:
            raise RecipeError(f"{run}: its recipe has no data.val; there are no validation images to keep features of")
        return load_validation(recipe.data.val, trained.counts, masks=False, reading=recipe.data.reading), None
    without_val = recipe.model_copy(update={"data": recipe.data.model_copy(update={"val": None})})
    data = load_run_data(without_val)
    dataset = DetectionDataset(data.train, data.dataset.rows, short_sides=recipe.model.short_sides)
    return data.train, dataset


def _compute(job: _Job, processes: Processes, *, repair: bool, force: bool, tell: Tell) -> Cached:
    """The shards that are missing, shared by the processes."""
    cache = job.cache
    processes.compare({"features": repr(job.manifest)})
    if processes.is_first:
        _prepare(job, repair=repair, force=force, tell=tell)
    processes.wait()
    # shards keep the size that they were begun with
    manifest = read_manifest(cache)
    job = replace(job, manifest=manifest)
    missing = [s for s in range(manifest.shard_count) if read_record(shard_folder(cache, s)) is None]
    # before any of them is written
    processes.wait()
    own = processes.share(missing)
    stamps = Stamps()
    if missing:
        tell(_expected_time(job, missing, processes.world))
        stamps = _write(job, own, processes, tell)
    else:
        tell(f"{cache}: is whole; nothing is computed")
    parts = processes.gather(msgspec.msgpack.encode(stamps))
    if parts is not None:
        for part in parts:
            note_images(cache, msgspec.msgpack.decode(part, type=Stamps))
        records = [read_record(shard_folder(cache, s)) for s in range(manifest.shard_count)]
        manifest = msgspec.structs.replace(manifest, shards=tuple(record for record in records if record is not None))
        write_manifest(cache, manifest)
    return Cached(cache, manifest, len(missing))


def _prepare(job: _Job, *, repair: bool, force: bool, tell: Tell) -> None:
    """Makes room for what is missing: of nothing, of an unfinished cache, or of damaged shards."""
    cache, manifest = job.cache, job.manifest
    found = _existing(cache, force=force)
    if found is not None:
        _refuse_other(cache, found, manifest)
        manifest = msgspec.structs.replace(found, shards=None)
    if repair:
        if found is None:
            raise OutputError(f"{cache}: --repair is for features that exist; leave it out, or leave out --force")
        _drop_damaged(cache, found, tell)
    there = {s: record for s in range(manifest.shard_count) if (record := read_record(shard_folder(cache, s)))}
    # what is added must not be of other images
    check_images(Cache(cache, manifest), job.paths, Processes(), shards=[*there])
    whole = job.of_image * manifest.images
    tell(f"{cache}: {describe(manifest, whole)}")
    if there:
        tell(f"{cache}: {len(there)} of {manifest.shard_count} shards are there")
    if len(there) < manifest.shard_count:
        check_room(cache, whole - sum(record.size for record in there.values()))
        write_manifest(cache, manifest)


def _existing(cache: Path, *, force: bool) -> Manifest | None:
    """The features that are there; with ``force`` they are removed."""
    names = sorted(entry.name for entry in cache.iterdir() if entry.name != LOCK)
    if names and MANIFEST not in names:
        raise OutputError(f"{cache}: holds files that are no features ({', '.join(names[:3])}); choose another --out")
    if not names or not force:
        return read_manifest(cache) if names else None
    # the manifest goes last: a kill in the middle leaves what can be removed again
    for folder in sorted(cache.glob(SHARDS)):
        remove_folder(folder)
    for name in (CHECKED, COMPARED_IMAGES, MANIFEST):
        (cache / name).unlink(missing_ok=True)
    return None


def _refuse_other(cache: Path, found: Manifest, wanted: Manifest) -> None:
    was, now = ({**msgspec.to_builtins(m), **m.made_of} for m in (found, wanted))
    for name in now:
        if name not in (*_FREE, "made_of") and was.get(name) != now[name]:
            raise OutputError(
                f"{cache}: holds features of another kind: {name} was {was.get(name)}, is now {now[name]}; choose "
                "another --out, or replace them with --force"
            )


def _drop_damaged(cache: Path, found: Manifest, tell: Tell) -> None:
    with Bar("checking", "bytes") as bar:
        damaged = damaged_shards(cache, found, bar)
    for shard in damaged:
        folder = shard_folder(cache, shard)
        tell(f"{folder}: is damaged or missing; it is computed again")
        remove_folder(folder)


def _expected_time(job: _Job, missing: Sequence[int], world: int) -> str:
    """How long the missing shards take, by a few images that are thrown away."""
    rows = [row for shard in missing for row in job.manifest.rows(shard)]
    what = f"{job.cache}: {len(missing)} shards to compute, {len(rows):,} images"
    if len(rows) < WORTH_TIMING:
        return what
    places = [len(rows) * part // (TIMED + 1) for part in range(TIMED + 1)]
    versions = _versions(job, [rows[place] for place in places], 0, lambda line: None)
    next(versions)
    start = time.perf_counter()
    timed = sum(1 for _ in versions)
    seconds = (time.perf_counter() - start) / timed
    return f"{what}, {seconds:.2f} s each: about {duration(seconds * len(rows) / world)}"


def _write(job: _Job, shards: Sequence[int], processes: Processes, tell: Tell) -> Stamps:
    """Computes and writes shards, one after the other; size and time of the images by their paths."""
    manifest, paths, stamps = job.manifest, job.paths, Stamps()
    rows = [row for shard in shards for row in manifest.rows(shard)]
    label = "features" if processes.world == 1 else f"features (process 1 of {processes.world})"
    memory = named_memory("features", inference_advice(job.recipe))
    loader, done = closing(_versions(job, rows, job.recipe.data.workers, tell)), 0
    with memory, loader as versions, Bar(label) if processes.is_first else nullcontext(SILENT) as bar:
        for shard in shards:
            kept: list[Version] = []
            for row in manifest.rows(shard):
                processes.check()
                of_image = next(versions)
                columns, stamp = file_columns(paths[row])
                kept += [{**version, **columns} for version in of_image]
                if stamp is not None:
                    stamps[str(paths[row])] = stamp
                done += 1
                bar(done, len(rows))
            write_shard(shard_folder(job.cache, shard), joined(kept))
    return stamps


def _versions(job: _Job, rows: Sequence[int], workers: int, tell: Tell) -> Generator[list[Version], None, None]:
    """What is kept of each image, in the order of the rows."""
    found = _val_versions(job, rows, workers) if job.dataset is None else _train_versions(job, rows, workers, tell)
    with closing(found):
        for versions in found:
            yield [as_kept(version, job.manifest.dtype) for version in versions]


def _val_versions(job: _Job, rows: Sequence[int], workers: int) -> Generator[list[Version], None, None]:
    images = ImageList.of(job.data)
    for batch in loaded_images(images, [[row] for row in rows], workers):
        for row, image in batch:
            if not isinstance(image, Tensor):
                raise DataError(image.problems)
            yield [val_version(job.model, image, int(images.ids[row]))]


def _train_versions(job: _Job, rows: Sequence[int], workers: int, tell: Tell) -> Generator[list[Version], None, None]:
    assert job.dataset is not None
    manifest, skips = job.manifest, job.recipe.data.on_bad_image == "skip"
    bad_images = BadImages(job.recipe.data.most_bad_images, tell)
    left_out: Callable[[LtError], None] | None = bad_images.add if skips else None
    choose = pool_places(manifest.pool, job.model.roi_heads.of_stages[0].fg_bg_sampler)
    # what is exact goes through the network alone, as with optim.batch=1
    together = manifest.dtype == "float16"
    draws = [[Draw(0, 0, row)] for row in rows]
    with closing(make_loader(job.dataset, draws, workers=workers, left_out=left_out)) as loader:
        for row, (images, targets) in zip(rows, loader, strict=True):
            if images:
                yield train_versions(
                    job.model, images[0], targets[0], flips=manifest.flips, choose=choose, together=together
                )
            else:
                image_id = job.dataset.image_id(row)
                yield unreadable_versions(image_id, manifest.flips, manifest.features, stages=manifest.stages)
