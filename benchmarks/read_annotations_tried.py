"""Two ways of reading faster that were tried and not kept: a cached column index, and two processes.

    python benchmarks/read_annotations_tried.py --coco instances_train2017.json

The index holds the columns and the byte range of every record, under the SHA-256 of the file, which is computed each
time: without it a changed file would go unnoticed. Every contestant runs in a process of its own, in turns. Writes
benchmarks/results/read_annotations_tried.csv, replacing it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from common.record import record
from read_annotations import COLUMNS, OURS, contest

RESULTS = Path(__file__).parent / "results" / "read_annotations_tried.csv"

MAKE_INDEX = """
import hashlib
import numpy as np
from lt_data.annotations.records import span_of
from lt_data.annotations.file import read_annotations
file = read_annotations(Path(source))
lists = ("image_records", "annotation_records")
spans = {key: np.array([span_of(file.data, [record]) for record in getattr(file, key)]) for key in lists}
np.savez(index, digest=np.array(file.sha256), image_ids=file.image_ids, sizes=file.image_sizes, ids=file.annotation_ids,
         images=file.annotation_image_ids, categories=file.annotation_category_ids, crowd=file.crowd,
         category_ids=file.categories.ids, names=np.array(file.categories.names), **spans)
"""
CACHED = """
import hashlib
import numpy as np
from lt_data.build.alignment import align
from lt_data.annotations.file import AnnotationFile, Categories
from lt_data.build.check_options import parse_scale
from lt_data.counts.categories import count_categories, embedded_reference
from lt_data.files.reading import map_file
from lt_data.build.sampling import select
data, have = map_file(Path(source)), np.load(index)
assert hashlib.sha256(data).hexdigest() == str(have["digest"])
categories = Categories(have["category_ids"], tuple(have["names"].tolist()), None, np.full(len(have["names"]), -1))
pool = AnnotationFile(Path(source), data, have["image_ids"], have["sizes"], [], have["ids"], have["images"],
                      have["categories"], have["crowd"], categories)
counts = count_categories(pool)
aligned = align(counts, embedded_reference("lvis-v0.5"), parse_scale("1"))
targets = np.empty_like(aligned.targets)
targets[aligned.order] = aligned.targets
chosen = select(pool, counts.category_ids, targets, serving_order=aligned.order[::-1], seed=0)
with open(out, "wb") as handle:
    for key, kept in (("image_records", chosen.images), ("annotation_records", chosen.annotations)):
        handle.write(b",\\n".join(data[start:end] for start, end in have[key][kept].tolist()))
"""
TWO_PROCESSES = """
from concurrent.futures import ProcessPoolExecutor
import msgspec
from lt_data.annotations.records import (
    AnnotationRecord, annotation_columns, span_of, split_records, without_cycle_collection
)
from lt_data.files.reading import map_file
def half(span):
    data = map_file(Path(source))
    with without_cycle_collection():
        text = b"[" + bytes(data[span[0] : span[1]]) + b"]"
        return annotation_columns(msgspec.json.decode(text, type=list[AnnotationRecord]))
data = map_file(Path(source))
with without_cycle_collection():
    records = split_records(Path(source), data)["annotations"]
middle = len(records) // 2
spans = [span_of(data, records[:middle]), span_of(data, records[middle:])]
with ProcessPoolExecutor(2) as processes:
    columns = list(processes.map(half, spans))
"""
ONE_PROCESS = """
from lt_data.annotations.file import read_annotations
read_annotations(Path(source)).annotation_records
"""


@click.command()
@click.option("--coco", type=click.Path(exists=True), required=True)
@click.option("--runs", default=3, show_default=True)
def main(coco: str, runs: int) -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"source": coco, "index": f"{folder}/index.npz", "out": f"{folder}/out.json"}
        contest("making the index", {"once": (MAKE_INDEX, names)}, 1)
        contestants = {"cached index": (CACHED, names), "as it is": (OURS, names)}
        rows = contest("COCO-LT from train2017 size", contestants, runs)
        contestants = {"two processes": (TWO_PROCESSES, names), "as it is": (ONE_PROCESS, names)}
        rows += contest("columns and byte ranges of train2017 size", contestants, runs)
    record(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
