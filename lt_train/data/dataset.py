"""Images and targets of an annotation file as training samples.

Labels are 1..C, 0 is the background; boxes are xyxy in pixels of the (flipped, not yet resized) image. Crowd
annotations are no targets: their boxes travel beside them as regions that training ignores. The box stands for the
crowd, its mask is not read: what is ignored are anchors and proposals, which are boxes themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lt_data.annotations import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray, IntArray
from lt_data.category_ids import CategoryIds
from lt_data.counts import CategoryCounts, count_categories
from lt_data.dataset_dir import annotations_path
from lt_data.errors import DataError, LtError
from lt_data.image_files import find_images
from lt_train.data.instance_masks import InstanceMasks, MaskKind, mask_kinds
from lt_train.data.plan import Draw
from lt_train.randomness import draw_seed, keyed_generator

Sample = tuple[Tensor, dict[str, Any]]
Batch = tuple[list[Tensor], list[dict[str, Any]]]
# a share of unusable boxes beyond this is a mistake in the file, not noise
LARGEST_DROPPED_SHARE = 0.05
# px; the boxes are float32, and a narrower one can lose its area when it is mirrored
SMALLEST_SIDE = 2**-8
# records whose masks are measured at a time: few enough that their polygons stay in the processor's cache
MASK_CHUNK = 512
_MASK_ERRORS = {
    MaskKind.UNREADABLE: "have a segmentation that is neither polygons of numbers within a million pixels nor COCO run "
    "lengths",
    MaskKind.WRONG_SIZE: "have run lengths of another size than their image",
    MaskKind.UNFILLED: "have run lengths that do not fill their size",
}


@dataclass(frozen=True)
class DetectionData:
    """An annotation file with its images, ready to be sampled.

    Attributes:
        file: The annotations.
        paths: Path of each image, N.
        ids: Dataset ids and labels.
        counts: Non-crowd instances and images per category, over the whole file.
        usable: Annotations that become targets: not crowd, box inside the image with an area, shape [A].
        regions: Annotations that become ignore regions: crowd, box inside the image with an area, shape [A].
        notes: What was left out, one line each with counts.
    """

    file: AnnotationFile
    paths: list[Path]
    ids: CategoryIds
    counts: CategoryCounts
    usable: BoolArray
    regions: BoolArray
    notes: tuple[str, ...]


def load_data(annotations: Path, images: Path) -> DetectionData:
    """Reads an annotation file and finds its images.

    Args:
        annotations: COCO or LVIS file, or a dataset directory.
        images: Folder that the file names are relative to.

    Raises:
        DataError: The file cannot be used, images are missing, or more than 5 % of the boxes are unusable.
    """
    file = read_annotations(annotations_path(annotations))
    paths = find_images(images, file.file_names)
    boxes = clipped_boxes(file).astype(np.float32)
    has_area = (boxes[:, 2] - boxes[:, 0] >= SMALLEST_SIDE) & (boxes[:, 3] - boxes[:, 1] >= SMALLEST_SIDE)
    return DetectionData(
        file=file,
        paths=paths,
        ids=CategoryIds(file.categories.ids.tolist()),
        counts=count_categories(file),
        usable=has_area & ~file.crowd,
        regions=has_area & file.crowd,
        notes=(*_crowd_notes(file, has_area), *_dropped_notes(file, ~has_area & ~file.crowd)),
    )


def _crowd_notes(file: AnnotationFile, has_area: BoolArray) -> list[str]:
    """One line on crowds, if there are any."""
    if not file.crowd.any():
        return []
    line = (
        f"{file.path.name}: {int(file.crowd.sum())} crowd annotations are regions to ignore: no targets, and what lies "
        "at least half in one is not trained as background"
    )
    lost = int((file.crowd & ~has_area).sum())
    return [f"{line}; {lost} of them have no box with an area inside the image and are left out" if lost else line]


def _dropped_notes(file: AnnotationFile, bad: BoolArray) -> list[str]:
    """One line on annotations without a usable box, if there are any; an error if there are many."""
    notes = []
    if bad.any():
        examples = ", ".join(str(i) for i in file.annotation_ids[bad][:3].tolist())
        line = (
            f"{file.path.name}: {int(bad.sum())} of {len(bad)} annotations have no box with an area inside the image "
            f"(annotation ids {examples})"
        )
        if bad.mean() > LARGEST_DROPPED_SHARE:
            raise DataError(f"{line}; allowed are at most 5 %; mend the boxes")
        notes.append(f"{line}; they are left out")
    return notes


def clipped_boxes(file: AnnotationFile) -> npt.NDArray[np.float64]:
    """Boxes as xyxy, clipped to the image where its size is known; NaN where the file has none; shape [A, 4]."""
    boxes = file.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    size = file.image_sizes[file.image_index()].astype(np.float64)
    limit = np.where(size > 0, size, np.inf)
    return np.clip(boxes, 0, np.concatenate([limit, limit], 1))


class DetectionDataset(Dataset[Sample]):
    """Samples of the chosen images.

    An item is asked for by a :class:`Draw`; it is a uint8 image [3, H, W] and a target with ``image_id``, ``boxes``,
    ``labels``, ``draw_seed`` and, where asked for, ``masks`` and ``short_side``. If the image has crowds, ``ignore``
    [m, 4] holds their boxes.

    Args:
        data: The annotations and images.
        rows: Positions of the images to use in ``data.file.image_ids``; row i of this dataset is ``rows[i]``.
        seed: Seed of the run.
        flip: Probability of a horizontal flip.
        short_sides: Short sides in pixels; one is drawn for each sample.
        with_masks: Whether targets hold instance masks.
    """

    def __init__(
        self,
        data: DetectionData,
        rows: IntArray,
        *,
        seed: int = 0,
        flip: float = 0.0,
        short_sides: Sequence[int] = (),
        with_masks: bool = False,
    ) -> None:
        self.data = data
        self.rows = rows
        self.seed = seed
        self.flip = flip
        self.short_sides = tuple(short_sides)
        self.with_masks = with_masks
        self.boxes = torch.from_numpy(clipped_boxes(data.file).astype(np.float32))
        self.labels = torch.from_numpy(data.ids.to_labels(data.file.annotation_category_ids))
        self._targets = _ByImage(data.file, data.usable)
        self._regions = _ByImage(data.file, data.regions)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def image_id(self, row: int) -> int:
        """Dataset id of the image in a row."""
        return int(self.data.file.image_ids[self.rows[row]])

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw."""
        image_row = int(self.rows[draw.row])
        image_id = self.image_id(draw.row)
        image = read_image(self.data.paths[image_row], self.data.file.image_sizes[image_row])
        height, width = image.shape[-2:]
        part, regions = self._targets.of(image_row), self._regions.of(image_row)
        key = (draw.epoch, draw.position, image_id)
        target: dict[str, Any] = {
            "image_id": image_id,
            "boxes": self.boxes[part],
            "labels": self.labels[part],
            "draw_seed": draw_seed(self.seed, "sample", *key),
        }
        if len(regions):
            target["ignore"] = self.boxes[regions]
        if self.with_masks:
            target["masks"] = self._masks(part, (height, width))
        if self.short_sides:
            generator = keyed_generator(self.seed, "short-side", *key)
            target["short_side"] = self.short_sides[
                int(torch.randint(len(self.short_sides), (1,), generator=generator))
            ]
        if self.flip and float(torch.rand(1, generator=keyed_generator(self.seed, "flip", *key))) < self.flip:
            image, target = flip_horizontally(image, target)
        return image, target

    def _masks(self, part: IntArray, size: tuple[int, int]) -> InstanceMasks:
        """Masks of the annotations ``part`` of an image of ``size`` (height, width)."""
        file = self.data.file
        segmentations = [file.segmentation(int(index)) for index in part]
        wrong = [isinstance(s, dict) and s.get("size") != list(size) for s in segmentations]
        if any(wrong):
            raise DataError(
                f"{file.path}: run lengths of another size than the image, which is {size[0]} high and {size[1]} wide "
                f"({_annotation_names(file, part[wrong])}); correct their size"
            )
        return InstanceMasks.from_segmentations(segmentations, *size, boxes=self.boxes[part])


class _ByImage:
    """Annotations of each image among those chosen, in file order."""

    def __init__(self, file: AnnotationFile, chosen: BoolArray) -> None:
        positions = np.flatnonzero(chosen)
        image = file.image_index()[positions]
        order = np.argsort(image, kind="stable")
        self._positions = positions[order]
        self._start = np.searchsorted(image[order], np.arange(len(file.image_ids) + 1))

    def of(self, image_row: int) -> IntArray:
        """Positions in the file's annotations."""
        return self._positions[self._start[image_row] : self._start[image_row + 1]]


def read_image(path: Path, size: npt.ArrayLike) -> Tensor:
    """An image as uint8 RGB [3, H, W].

    Args:
        path: The file.
        size: Width and height that the annotations claim; 0 where unknown.

    Raises:
        DataError: The file is no image, or has another size.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    # decoders raise nearly anything on broken files
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable image ({reason})") from None
    width, height = (int(v) for v in np.asarray(size))
    if width and height and pixels.shape[:2] != (height, width):
        raise DataError(
            f"{path}: the image is {pixels.shape[1]} x {pixels.shape[0]} pixels, its annotation says {width} x {height}"
        )
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def flip_horizontally(image: Tensor, target: dict[str, Any]) -> Sample:
    """Mirrors an image [3, H, W], its boxes, its regions to ignore and its masks."""
    flipped = dict(target)
    for key in ("boxes", "ignore"):
        if key in target:
            flipped[key] = target[key].clone()
            flipped[key][:, [0, 2]] = image.shape[-1] - target[key][:, [2, 0]]
    if "masks" in target:
        flipped["masks"] = target["masks"].flip_horizontal()
    return image.flip(-1), flipped


def check_segmentations(data: DetectionData) -> tuple[str, ...]:
    """Refuses masks that cannot be trained on, and counts the annotations that have none.

    Looks at the usable annotations only, a few hundred at a time.

    Returns:
        Notes: how many annotations are trained with their box in place of a mask, and how many with an empty mask.

    Raises:
        DataError: No annotation has a mask; or a segmentation cannot be read, is of another size than its image, or its
            runs do not fill it: one line each with the count and the first three.
    """
    file, rows = data.file, np.flatnonzero(data.usable)
    sizes = file.image_sizes[file.image_index()[rows]]
    kinds = np.full(len(rows), MaskKind.MASK, np.uint8)
    for start in range(0, len(rows), MASK_CHUNK):
        part = slice(start, start + MASK_CHUNK)
        kinds[part] = mask_kinds([file.annotation_records[i] for i in rows[part].tolist()], sizes[part])

    def line(name: object, kind: MaskKind, text: str) -> str:
        found = rows[kinds == kind]
        return f"{name}: {len(found)} of {len(rows)} annotations {text} ({_annotation_names(file, found)})"

    present = set(kinds.tolist())
    problems = [
        f"{line(file.path, kind, text)}; mend or remove them, or use model.name=faster_rcnn_..."
        for kind, text in _MASK_ERRORS.items()
        if kind in present
    ]
    if present == {MaskKind.BOX}:
        problems = [
            f"{file.path}: the annotations have no segmentation, but the model predicts masks; "
            "use model.name=faster_rcnn_..., or a file with masks"
        ]
    if problems:
        raise DataError(problems)
    notes = {
        MaskKind.BOX: "have no polygon of three points and no run lengths; their box is their mask",
        MaskKind.EMPTY: "have a mask whose area is 0 and are trained with it",
    }
    return tuple(line(file.path.name, kind, text) for kind, text in notes.items() if kind in present)


def _annotation_names(file: AnnotationFile, rows: IntArray, most: int = 3) -> str:
    """The first few annotations with their images, as text."""
    pairs = zip(file.annotation_ids[rows[:most]].tolist(), file.annotation_image_ids[rows[:most]].tolist(), strict=True)
    names = [f"annotation {number} of image {image}" for number, image in pairs]
    return ", ".join(names + ["..."] * (len(rows) > most))


def training_rows(data: DetectionData, *, keep_empty: bool) -> tuple[IntArray, tuple[str, ...]]:
    """Images to train on, and a note about those left out.

    Args:
        data: The training data.
        keep_empty: Keep images without any usable annotation.

    Raises:
        DataError: No image is left.
    """
    has_target = np.zeros(len(data.file.image_ids), bool)
    has_target[data.file.image_index()[data.usable]] = True
    empty = int((~has_target).sum())
    if not has_target.any():
        raise DataError(f"{data.file.path}: no image has a usable annotation; there is nothing to train on")
    if keep_empty or not empty:
        return np.arange(len(has_target)), ()
    note = (
        f"{data.file.path.name}: {empty} images without usable annotations are left out "
        "(data.keep_empty=true keeps them)"
    )
    return np.flatnonzero(has_target), (note,)


def make_loader(
    dataset: DetectionDataset, draws: Iterable[Sequence[Draw]], *, workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """Images and targets of each forward pass, loaded ahead by worker processes.

    Args:
        dataset: Where samples come from.
        draws: The draws of each forward pass, in order.
        workers: Processes; 0 loads in this one.
        pin_memory: Whether the images go to a GPU.

    Yields:
        Images and targets as two lists: their sizes differ.

    Raises:
        DataError: An image cannot be read; the same line whether a worker met it or not.
    """
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=draws,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, LtError):
            raise batch
        yield batch


class _Guarded(Dataset[Any]):
    """Returns errors instead of raising them: a loader would bury their lines under a worker's traceback."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> Sample | LtError:
        try:
            return self.dataset[draw]
        except LtError as error:
            return error


def _collate(samples: Sequence[Any]) -> Batch | LtError:
    for sample in samples:
        if isinstance(sample, LtError):
            return sample
    return [image for image, _ in samples], [target for _, target in samples]
