"""From an annotation file and a JPEG to what the detector trains on, and the mask loss's targets, on one CPU thread.

    python benchmarks/data_path.py

Data is drawn from a seed: JPEGs of 640 x 480 pixels and about 150 kB (noise with the spectrum of photographs), star
polygons of 25 points whose areas lie log-uniformly between 200 and 60,000 pixels.

``one image`` starts at the opened data set and ends in front of the detector's normalisation with the same on either
side: the image as contiguous float32 in 0..1 with a short side of 800 pixels (at most 1,333 on the long one; both train
so by default), boxes and labels in that size, and the masks in the form that the loss reads. That is full bitmaps in
that size for the peers, runs or polygons for lt-train. Half of the images are mirrored on each side. The peers work as
torchvision's references do: ``CocoDetection``, Pillow, a bitmap of full size for each instance, transforms v2.

- ``resized by the detector``: torchvision's detector resizes image and bitmaps, as with the references' default preset.
  lt-train has its detector resize as well, and computes the same image.
- ``resized by transforms v2``: they resize the image as uint8, and the bitmaps, as in the references' multi-scale
  preset. The image is rounded to whole levels, which is several times less work. torchvision's detector would then
  pass over all of it once more at the same size; that is left out, in favour of the peer.

Further peers draw all polygons of an image in one call, or are torchvision's own ``wrap_dataset_for_transforms_v2``.
Before anything is timed, images have to differ by no more than one level from rounding peers and 1e-6 from the others,
boxes and labels have to be the same, and masks have to overlap: lt-train draws polygons after scaling them, the peers
scale what was drawn, so borders differ.

``targets of 128 regions`` is the mask loss's 28 x 28 targets in that image size, from what the loader made: runs, or
polygons, or the peer's uint8 bitmaps. One row of each side also makes the runs or the bitmaps. ``exact`` has to be
within 1e-5 of torchvision's; ``polygon`` makes other targets (0 or 1), which have to overlap.

``decode one JPEG`` goes from bytes to a uint8 tensor [3, H, W]. The pixels have to be Pillow's.

Everything runs in several processes, in each in turns of two calls, of which the second is timed; a time is the median
over a process's turns, of which the table has the median over the processes. First, one tensor of 31 MiB is freed: from
then on the C library keeps freed memory of up to that size. Whether it finds a place for the larger blocks of a peer or
asks the system for new pages each time is chance, and differs from process to process by a factor of almost two.
``cpu_ratio`` is the time of the first peer over that of the contestant, within a process: the median over the
processes, with the least and the most; ``fastest_ratio`` is that of the fastest peer. Needs torchcodec.
Writes benchmarks/results/data_path.csv, replacing it.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from common.record import machine, record
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from lt_train.data import images
from lt_train.data.dataset import DetectionDataset, Sample
from lt_train.data.detection_data import load_data
from lt_train.data.images import as_input, decode_image, fast_jpeg_decoder
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.mask_targets import mask_targets
from lt_train.data.plan import Draw
from lt_train.detectors.transform import LongTailTransform

RESULTS = Path(__file__).parent / "results" / "data_path.csv"
COLUMNS = (
    *("date", "machine", "torch", "job", "instances", "contestant", "processes", "turns", "cpu_ms", "wall_ms"),
    *("cpu_ratio", "cpu_ratio_least", "cpu_ratio_most", "fastest_ratio"),
)
OURS = "lt-train"
WIDTH, HEIGHT = 640, 480
SHORT_SIDE, LONG_SIDE = 800, 1333
POINTS, AREAS = 25, (200, 60_000)
REGIONS, CELLS = 128, 28
# chance of a mirrored image; the second draws as the first does, and never mirrors
MIRRORED, PLAIN = 1.0, 1e-9
CPU = torch.device("cpu")
KEPT_BY_MALLOC = 31 * 2**20
# mean intersection over union that masks drawn in another order of steps have to reach
OVERLAP = 0.9

Job = dict[str, Callable[[], Any]]
Polygons = list[list[list[float]]]
Annotations = list[dict[str, Any]]


@dataclass(frozen=True)
class Contest:
    """Calls that do the same; the first one that is not of lt-train is the peer. One call is of ``items`` pieces."""

    job: str
    instances: int | str
    items: int
    calls: Job


def photo(random: np.random.Generator) -> bytes:
    """A JPEG of noise whose amplitudes fall with the frequency, as those of photographs do."""
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH))
    frequency[0, 0] = 1
    noise = np.fft.rfft2(random.standard_normal((3, HEIGHT, WIDTH))) / frequency**1.2
    planes = np.fft.irfft2(noise, s=(HEIGHT, WIDTH))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    pixels = 128 + 50 * (planes[:1] + 0.3 * planes)
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(content, "JPEG", quality=90)
    return content.getvalue()


def star(random: np.random.Generator) -> np.ndarray:
    """Points of a polygon, clipped to the image."""
    angle = (np.arange(POINTS) + 0.8 * random.random(POINTS)) * 2 * np.pi / POINTS
    points = random.uniform(0.6, 1, (POINTS, 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scale = np.sqrt(np.exp(random.uniform(*np.log(AREAS))) / area(points))
    centre = random.random(2) * [WIDTH, HEIGHT]
    return np.clip(centre + scale * points, 0, [WIDTH, HEIGHT]).round(2)


def area(points: np.ndarray) -> float:
    """Of a polygon, in square pixels."""
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def annotation(number: int, image: int, points: np.ndarray) -> dict[str, Any]:
    """A COCO annotation."""
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "id": number + 1,
        "image_id": image,
        "category_id": 1 + number % 80,
        "iscrowd": 0,
        "area": area(points),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "segmentation": [points.reshape(-1).tolist()],
    }


def write_data(folder: Path, instances: int) -> Path:
    """Two images in a folder, and their annotation file."""
    random = np.random.default_rng(instances)
    for image in (1, 2):
        (folder / f"{image}.jpg").write_bytes(photo(random))
    records = [annotation(i, 1 + i % 2, star(random)) for i in range(2 * instances)]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in (1, 2)],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, 81)],
        "annotations": records,
    }
    path = folder / f"{instances}.json"
    path.write_text(json.dumps(content))
    return path


def our_samples(annotations: Path, masks: Any) -> Callable[[], list[Sample]]:
    """A call that makes both images' samples as ``lt-train fit`` does."""
    data = load_data(annotations, annotations.parent)
    options = {"short_sides": (SHORT_SIDE,), "max_size": LONG_SIDE, "masks": masks}
    sets = [DetectionDataset(data, np.arange(2), flip=flip, **options) for flip in (MIRRORED, PLAIN)]
    transform = LongTailTransform((SHORT_SIDE,), LONG_SIDE, [0.0] * 3, [1.0] * 3)

    def sample(row: int) -> Sample:
        image, target = sets[row][Draw(0, row, row)]
        image, _ = transform.resize(as_input(image, CPU), target)
        return image.contiguous(), target

    return lambda: [sample(0), sample(1)]


def with_pillow(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call as it is where torchcodec is not installed."""

    def called() -> Any:
        with mock.patch.object(images, "fast_jpeg_decoder", no_decoder):
            return call()

    return called


def no_decoder() -> None:
    """In place of ``fast_jpeg_decoder``."""


def drawn_singly(polygons: Polygons) -> Tensor:
    """Bitmaps [n, H, W], one instance after another."""
    masks = []
    for parts in polygons:
        layers = coco_mask.decode(coco_mask.frPyObjects(parts, HEIGHT, WIDTH))
        masks.append(torch.as_tensor(layers, dtype=torch.uint8).any(dim=2))
    return torch.stack(masks)


def drawn_together(polygons: Polygons) -> Tensor:
    """Bitmaps [n, H, W] in one call, where each instance is one polygon."""
    layers = coco_mask.decode(coco_mask.frPyObjects([parts[0] for parts in polygons], HEIGHT, WIDTH))
    return torch.from_numpy(np.ascontiguousarray(layers.transpose(2, 0, 1)))


def peer_target(annotations: Annotations, draw: Callable[[Polygons], Tensor]) -> dict[str, Any]:
    """Boxes, labels and bitmaps of an image's annotations that are no crowds."""
    kept = [a for a in annotations if a["iscrowd"] == 0]
    boxes = torch.as_tensor([a["bbox"] for a in kept], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH)),
        "labels": torch.tensor([a["category_id"] for a in kept]),
        "masks": tv_tensors.Mask(draw([a["segmentation"] for a in kept])),
    }


def peer_transforms(flip: float, *, resize: bool) -> v2.Compose:
    """Transforms v2 up to plain tensors, with or without the resizing."""
    steps: list[Any] = [v2.ToImage(), v2.RandomHorizontalFlip(flip)]
    if resize:
        steps += [v2.Resize(SHORT_SIDE, max_size=LONG_SIDE), v2.Lambda(Tensor.contiguous, tv_tensors.Image)]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])


def opened(annotations: Path, transforms: Callable[[Any, Any], Any]) -> CocoDetection:
    """The data set of torchvision; what pycocotools prints is dropped."""
    with redirect_stdout(io.StringIO()):
        return CocoDetection(annotations.parent, annotations, transforms=transforms)


def peer_samples(
    annotations: Path, draw: Callable[[Polygons], Tensor], *, by_detector: bool = False
) -> Callable[[], list[Sample]]:
    """A call that makes both images' samples; the transforms resize them, or torchvision's detector does."""
    detector = GeneralizedRCNNTransform(SHORT_SIDE, LONG_SIDE, [0.0] * 3, [1.0] * 3)

    def dataset(flip: float) -> CocoDetection:
        steps = peer_transforms(flip, resize=not by_detector)
        return opened(annotations, lambda image, found: steps(image, peer_target(found, draw)))

    sets = [dataset(flip) for flip in (MIRRORED, PLAIN)]
    if by_detector:
        return lambda: [resized_by(detector, *sets[row][row]) for row in (0, 1)]
    return lambda: [sets[row][row] for row in (0, 1)]


def resized_by(detector: GeneralizedRCNNTransform, image: Tensor, target: dict[str, Any]) -> Sample:
    """As torchvision's detector resizes an image and its target; the target is changed in place."""
    image, _ = detector.resize(image, target)
    return image.contiguous(), target


def wrapped_samples(annotations: Path) -> Callable[[], list[Sample]]:
    """The same with torchvision's own making of targets."""
    keys = ["boxes", "labels", "masks"]
    sets = [
        wrap_dataset_for_transforms_v2(opened(annotations, peer_transforms(flip, resize=True)), keys)
        for flip in (MIRRORED, PLAIN)
    ]
    return lambda: [sets[row][row] for row in (0, 1)]


def overlap(ours: Tensor, theirs: Tensor) -> float:
    """Mean intersection over union of masks [n, H, W], those that are empty on both sides left out."""
    shared = (ours & theirs).sum(dim=(1, 2))
    either = (ours | theirs).sum(dim=(1, 2))
    return float((shared / either)[either > 0].mean())


def check_masks(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Stops if the masks are not of the same shapes."""
    reached = overlap(ours.bool(), theirs.bool())
    sys.stdout.write(f"{what}: mean overlap with the peer's {reached:.3f}\n")
    assert reached > OVERLAP, f"{what}: the masks differ"


def check_sample(sample: Sample, wanted: Sample, rounding: float) -> None:
    """Stops unless image, boxes, labels and masks are those of the peer."""
    (image, target), (expected, truth) = sample, wanted
    torch.testing.assert_close(image, expected, rtol=0, atol=rounding)
    torch.testing.assert_close(target["boxes"], truth["boxes"], rtol=1e-5, atol=1e-3)
    assert torch.equal(target["labels"], truth["labels"]), "the labels differ"
    if isinstance(target["masks"], Tensor):
        assert torch.equal(target["masks"].bool(), truth["masks"].bool()), "the peers' masks differ"
    if isinstance(target["masks"], InstanceMasks):
        check_masks("masks", torch.from_numpy(target["masks"].bitmaps()), truth["masks"])


def check_samples(ours: Job, peers: Job, rounding: float) -> None:
    """Stops if the contestants end with different samples."""
    made = {name: call() for name, call in {**ours, **peers}.items()}
    first = made[next(iter(peers))]
    for found in made.values():
        for sample, wanted in zip(found, first, strict=True):
            check_sample(sample, wanted, rounding)
    runs, polygons = ([target["masks"] for _, target in made[f"{OURS}, {kind}"]] for kind in ("runs", "polygons"))
    assert all(torch.equal(r.table, p.runs().table) for r, p in zip(runs, polygons, strict=True)), "the runs differ"


def sample_contests(annotations: Path, instances: int) -> Iterator[Contest]:
    """One image from the data set to the detector, against both ways of resizing."""
    runs = our_samples(annotations, "runs")
    ours: Job = {
        f"{OURS}, runs": runs,
        f"{OURS}, polygons": our_samples(annotations, "polygons"),
        f"{OURS}, runs, decoded by Pillow": with_pillow(runs),
    }
    for way, rounding in (("transforms v2", 1 / 255), ("the detector", 1e-6)):
        by_detector = way == "the detector"
        peers: Job = {
            "references": peer_samples(annotations, drawn_singly, by_detector=by_detector),
            "references, drawn in one call": peer_samples(annotations, drawn_together, by_detector=by_detector),
        }
        if not by_detector:
            peers["wrap_dataset_for_transforms_v2"] = wrapped_samples(annotations)
        check_samples(ours, peers, rounding)
        yield Contest(f"one image, resized by {way}", instances, 2, {**ours, **peers})


def regions_around(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Boxes [R, 4] as proposals that match an instance, inside an image; and the instance of each, [R]."""
    random = np.random.default_rng(0)
    matched = torch.from_numpy(random.permutation(np.arange(REGIONS) % len(boxes)))
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)[matched]
    moved = boxes[matched] + sides * torch.from_numpy(random.uniform(-0.1, 0.1, (REGIONS, 4))).float()
    return moved.clamp(min=0).minimum(torch.tensor([width, height] * 2)), matched


def target_contest(annotations: Path, instances: int) -> Contest:
    """The mask loss's targets of one image."""
    image, target = our_samples(annotations, "polygons")()[0]
    polygons: InstanceMasks = target["masks"]
    boxes, matched = regions_around(target["boxes"], *image.shape[-2:])
    runs, bitmaps = polygons.runs(), torch.from_numpy(polygons.bitmaps())
    calls: Job = {
        f"{OURS}, exact": lambda: mask_targets(runs, boxes, matched, CELLS, "exact"),
        f"{OURS}, exact, with making the runs": lambda: mask_targets(polygons, boxes, matched, CELLS, "exact"),
        f"{OURS}, polygon": lambda: mask_targets(polygons, boxes, matched, CELLS, "polygon"),
        "project_masks_on_boxes": lambda: project_masks_on_boxes(bitmaps, boxes, matched, CELLS),
        "project_masks_on_boxes, with making the bitmaps": lambda: project_masks_on_boxes(
            torch.from_numpy(polygons.bitmaps()), boxes, matched, CELLS
        ),
    }
    exact, again, drawn, wanted, full = (call() for call in calls.values())
    for found in (exact, again, full):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    check_masks("targets", drawn, wanted >= 0.5)
    return Contest(f"targets of {REGIONS} regions", instances, 1, calls)


def decode_contest(path: Path) -> Contest:
    """One JPEG from bytes to pixels."""
    content = path.read_bytes()
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    calls: Job = {
        f"{OURS}, torchcodec": lambda: decode_image(content),
        f"{OURS}, Pillow": with_pillow(lambda: decode_image(content)),
        "Pillow": lambda: v2.functional.pil_to_tensor(Image.open(io.BytesIO(content)).convert("RGB")),
        "torchvision.io.decode_jpeg": lambda: decode_jpeg(encoded, ImageReadMode.RGB),
    }
    wanted = calls["Pillow"]()
    assert all(torch.equal(call(), wanted) for call in calls.values()), "the pixels differ"
    return Contest(f"decode one JPEG of {len(content) // 1000} kB", "", 1, calls)


def contests(folder: Path) -> Iterator[Contest]:
    """All of them."""
    for instances in (10, 60):
        annotations = write_data(folder, instances)
        yield from sample_contests(annotations, instances)
        yield target_contest(annotations, instances)
    yield decode_contest(folder / "1.jpg")


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall milliseconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return 1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)


def measure(contest: Contest, turns: int) -> dict[str, tuple[float, float]]:
    """Median CPU and wall milliseconds of one item, by contestant."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contest.calls}
    for _ in range(turns):
        for name, call in contest.calls.items():
            # the first call wipes out what the contestant before left in the caches
            call()
            times[name].append(timed(call))
    return {name: middle(found, contest.items) for name, found in times.items()}


def middle(times: list[tuple[float, float]], items: int) -> tuple[float, float]:
    """Medians of CPU and wall times of one item."""
    cpu, wall = (statistics.median(column) / items for column in zip(*times, strict=True))
    return cpu, wall


Times = dict[tuple[str, Any, str], tuple[float, float]]


def measured(turns: int) -> Times:
    """CPU and wall milliseconds by job, instances and contestant; runs in a process of its own."""
    torch.set_num_threads(1)
    torch.empty(KEPT_BY_MALLOC, dtype=torch.uint8)
    found: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        for contest in contests(Path(folder)):
            for name, times in measure(contest, turns).items():
                found[contest.job, contest.instances, name] = times
    return found


def ratios(runs: list[Times], key: tuple[str, Any, str]) -> tuple[float, float, float, float]:
    """Median, least and most of the first peer's CPU time over a contestant's, and the median for the fastest peer."""
    peers = [other for other in runs[0] if other[:2] == key[:2] and not other[2].startswith(OURS)]
    first = [run[peers[0]][0] / run[key][0] for run in runs]
    fastest = [min(run[peer][0] for peer in peers) / run[key][0] for run in runs]
    return statistics.median(first), min(first), max(first), statistics.median(fastest)


def rows(runs: list[Times], turns: int) -> Iterator[tuple[object, ...]]:
    """Rows of the result."""
    for key in runs[0]:
        cpu, wall = middle([run[key] for run in runs], 1)
        numbers = [round(ratio, 2) for ratio in ratios(runs, key)]
        head = (datetime.now(UTC).date().isoformat(), machine(), torch.__version__, *key)
        yield (*head, len(runs), turns, round(cpu, 3), round(wall, 3), *numbers)
        where = f"{key[0]}, {key[1]} instances" if key[1] else key[0]
        sys.stdout.write(f"{where}, {key[2]}: {cpu:.2f} ms CPU, {wall:.2f} ms wall, ratios {numbers}\n")


@click.command()
@click.option("--processes", default=5, show_default=True, help="Processes, one after the other.")
@click.option("--turns", default=7, show_default=True, help="Turns of each contestant in a process.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(processes: int, turns: int, out: Path) -> None:
    """Measure and record."""
    if fast_jpeg_decoder() is None:
        raise click.ClickException("torchcodec is not installed here, or does not fit PyTorch: pip install torchcodec")
    context, runs = multiprocessing.get_context("spawn"), []
    for number in range(processes):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            runs.append(process.submit(measured, turns).result())
        sys.stdout.write(f"process {number + 1} of {processes}\n")
    record(out, COLUMNS, rows(runs, turns))


if __name__ == "__main__":
    main()
