"""Flat arrays for loader processes: the same content, and what is sent to a process that is not forked."""

import gzip
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.file import parse_annotations, read_annotations
from lt_data.annotations.records import places_of
from lt_data.errors import DataError
from lt_train.data.flat import FlatTexts, RowsOfImages, Segmentations

TEXTS = ["", "a.jpg", "ü/ß.jpg", "\udcff.jpg", "x" * 300]


def test_texts():
    flat = FlatTexts(TEXTS)
    assert [flat[i] for i in range(len(flat))] == TEXTS
    assert [pickle.loads(pickle.dumps(flat))[i] for i in range(len(flat))] == TEXTS
    assert len(FlatTexts([])) == 0


def content(gaps, segmentations):
    """A file whose annotations stand apart by any blanks."""
    records = [
        json.dumps({"id": i, "image_id": 1, "category_id": 1, "segmentation": s, "note": "},{"})
        for i, s in enumerate(segmentations)
    ]
    text = "".join(
        record + "," * (i + 1 < len(records)) + gap for i, (record, gap) in enumerate(zip(records, gaps, strict=True))
    )
    rest = '"images": [{"id": 1}], "categories": [{"id": 1}]'
    return f'{{"annotations": [ {text}], {rest}}}'.encode()


SEGMENTATIONS = [[[1, 2, 3, 4, 5, 6.5]], None, {"size": [3, 4], "counts": "abc"}, [[0] * 80]]


@given(st.lists(st.sampled_from(["", " ", "\n", "  "]), min_size=4, max_size=4))
def test_records_are_found_whatever_stands_between_them(tmp_path_factory, gaps):
    file = parse_annotations(content(gaps, SEGMENTATIONS), tmp_path_factory.getbasetemp() / "a.json")
    start, end = places_of(file.data, file.annotation_records)
    found = [bytes(file.data[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    assert found == [bytes(record) for record in file.annotation_records]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_segmentations_here_and_in_another_process(tmp_path, name):
    data = content(["", " ", "\n", ""], SEGMENTATIONS)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    flat = Segmentations(read_annotations(tmp_path / name))
    sent = pickle.loads(pickle.dumps(flat))
    for there in (flat, sent):
        assert [there[i] for i in range(4)] == SEGMENTATIONS


def test_a_file_that_changed_on_the_way_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content([""] * 4, SEGMENTATIONS))
    packed = pickle.dumps(Segmentations(read_annotations(path)))
    with path.open("ab") as file:
        file.write(b"   ")
    with pytest.raises(DataError, match="changed while it was read"):
        pickle.loads(packed)[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_rows_of_images(rows):
    image = np.array([i for i, _ in rows], np.int64)
    chosen = np.array([c for _, c in rows], bool)
    flat = RowsOfImages(image, chosen, 5)
    for number in range(5):
        assert flat.of(number).tolist() == np.flatnonzero((image == number) & chosen).tolist()
