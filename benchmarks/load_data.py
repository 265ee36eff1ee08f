"""From an annotation file to batches: seconds to the first one, and the memory that each loader process has for itself.

    python benchmarks/load_data.py --coco instances_train2017.json [--lvis lvis_v1_train.json]

The peer is a dataset that keeps what pycocotools (lvis) reads, as torchvision's ``CocoDetection`` and its references
do. Both load the same images in the same order with two processes. The images are one gray JPEG per size, linked under
every name, so that neither side waits for a disk. Private memory is what the operating system counts for a process
alone (Private_Clean + Private_Dirty, without the shared memory that batches travel in), the largest of the two, after
the first batch and the most from then on.
Writes benchmarks/results/load_data.csv, replacing it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from common.record import machine, record
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "load_data.csv"
COLUMNS = (
    *("date", "machine", "file", "contestant", "images", "first_batch_s", "worker_mib_first_batch"),
    *("worker_mib_last_batch", "main_anonymous_mib"),
)
BATCH = 4


class Peer:
    """Samples as torchvision's references make them, but for the bitmaps: these would only slow the peer down."""

    def __init__(self, source: str, images: str) -> None:
        if "lvis" in Path(source).name:
            # the package needs a name that NumPy has given up
            setattr(np, "float", float)  # noqa: B010
            from lvis import LVIS

            self.api: Any = LVIS(source)
            self.api.imgToAnns = self.api.img_ann_map
        else:
            from pycocotools.coco import COCO

            self.api = COCO(source)
        self.ids = sorted(self.api.imgs)
        self.folder = Path(images)

    def __getitem__(self, row: int) -> tuple[Any, list[dict[str, Any]]]:
        image = self.api.imgs[self.ids[row]]
        name = image.get("file_name") or image["coco_url"].rpartition("/")[2]
        pixels = np.asarray(Image.open(self.folder / name).convert("RGB"))
        annotations = self.api.imgToAnns[self.ids[row]]
        masks = [a["segmentation"] for a in annotations if isinstance(a["segmentation"], list)]
        points = [np.asarray(polygon) for polygons in masks for polygon in polygons]
        return pixels.shape, [{"box": a["bbox"], "label": a["category_id"], "points": points} for a in annotations]


def peer_batches(source: str, images: str, count: int) -> Any:
    """What the peer loads."""
    from torch.utils.data import DataLoader

    data = Peer(source, images)
    order = np.random.default_rng(0).permutation(len(data.ids))[:count].tolist()
    batches = [order[i : i + BATCH] for i in range(0, count, BATCH)]
    return iter(DataLoader(data, batch_sampler=batches, num_workers=2, collate_fn=list))  # type: ignore[arg-type]


def our_batches(source: str, images: str, count: int) -> Any:
    """What ``lt-train fit`` loads, after the checks that it makes."""
    from lt_train.data.dataset import DetectionDataset, make_loader
    from lt_train.data.detection_data import check_segmentations, load_data
    from lt_train.data.plan import Draw

    data = load_data(Path(source), Path(images))
    check_segmentations(data)
    rows = np.arange(len(data.paths))
    dataset = DetectionDataset(data, rows, flip=0.5, short_sides=(800,), max_size=1333, masks="runs")
    order = np.random.default_rng(0).permutation(len(rows))[:count].tolist()
    batches = [[Draw(0, i + k, row) for k, row in enumerate(order[i : i + BATCH])] for i in range(0, count, BATCH)]
    return make_loader(dataset, batches, workers=2)


def measured(contestant: str, source: str, images: str, count: int) -> dict[str, float]:
    """Runs in a process of its own."""
    batches = (our_batches if contestant == "lt-train" else peer_batches)(source, images, count)
    next(batches)
    seconds = time.time() - float(os.environ["STARTED"])
    first = workers_mib()
    last = first
    for number, _ in enumerate(batches):
        if number % 20 == 0:
            last = max(last, workers_mib())
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
    return {"seconds": seconds, "first": first, "last": last, "main": own}


def workers_mib() -> float:
    """Private memory of the child process that has most."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return max((private_mib(int(pid)) for pid in children), default=0.0)


def private_mib(pid: int) -> float:
    """Pages that only this process maps, but for the shared memory that batches travel in."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0.0
    kib, counted = 0, True
    for line in lines:
        name, *values = line.split()
        if not name.endswith(":"):
            counted = "/dev/shm/" not in line
        elif counted and name.startswith("Private_"):
            kib += int(values[0])
    return kib / 1024


def link_images(source: Path, folder: Path) -> None:
    """A file for every image of the annotations: hard links to one JPEG per size."""
    for image in json.loads(source.read_bytes())["images"]:
        size = image["width"], image["height"]
        first = folder / f"{size[0]}x{size[1]}.jpg"
        if not first.exists():
            Image.new("RGB", size, (90, 120, 150)).save(first)
        os.link(first, folder / (image.get("file_name") or image["coco_url"].rpartition("/")[2]))


def run(contestant: str, source: Path, images: Path, count: int) -> dict[str, float]:
    """Starts a contestant."""
    command = [sys.executable, __file__, "--contestant", contestant, "--images", str(images), "--count", str(count)]
    environment = {**os.environ, "STARTED": str(time.time())}
    done = subprocess.run(
        [*command, "--coco", str(source)], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


@click.command()
@click.option("--coco", type=Path, required=True)
@click.option("--lvis", type=Path)
@click.option("--count", default=8000, help="Images that are loaded.")
@click.option("--only", help="One contestant alone; nothing is recorded.")
@click.option("--contestant", hidden=True)
@click.option("--images", type=Path, hidden=True)
def main(
    coco: Path, lvis: Path | None, count: int, only: str | None, contestant: str | None, images: Path | None
) -> None:
    """Measures and records."""
    if contestant:
        sys.stdout.write(json.dumps(measured(contestant, str(coco), str(images), count)) + "\n")
        return
    rows = []
    for source in (coco, lvis):
        if source is None:
            continue
        peer = "lvis" if "lvis" in source.name else "pycocotools"
        with tempfile.TemporaryDirectory() as folder:
            link_images(source, Path(folder))
            for name in ("lt-train", peer) if only is None else (only,):
                got = run(name, source, Path(folder), count)
                sys.stdout.write(f"{source.name}, {name}: {got}\n")
                numbers = (f"{got['seconds']:.1f}", *(f"{got[key]:.0f}" for key in ("first", "last", "main")))
                rows.append((datetime.now(UTC).date(), machine(), source.name, name, count, *numbers))
    if only is None:
        record(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
