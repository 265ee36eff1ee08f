"""Repeat factors out of a file: one for each image, and one line for each kind of mistake."""

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.counts.factor_file import load_factors
from lt_data.counts.repeat_factor_table import repeat_factor_table, write_repeat_factors
from lt_data.errors import DataError
from tests.lt_data.pools import pool, save

IDS = np.array([30, 10, 20])


@pytest.fixture
def load(tmp_path):
    def load(text, ids=IDS):
        path = tmp_path / "factors.csv"
        path.write_text(text)
        return load_factors(path, ids)

    return load


@pytest.mark.parametrize(
    "text",
    [
        "image_id,repeat_factor\n10,1\n20,2.5\n30,1.0\n",
        "note,repeat_factor,image_id\nx,1.0,30\n,2.5,20.0\n,1e0,10\n",
    ],
)
def test_rows_are_matched_by_id(load, text):
    assert load(text).tolist() == [1.0, 1.0, 2.5]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("10,1\n20,1\n", ["has no factor for 1 image (ids 30); add a row for each"]),
        ("10,1\n20,1\n30,1\n40,1\n", ["lists 1 image (ids 40) that the annotations do not have"]),
        ("10,1\n20,1\n30,1\n20,3\n", ["lists 1 image (ids 20) more than once"]),
        ("10,1\n20,0.5\n30,nan\n", ["repeat_factor: got line 3 '0.5', line 4 'nan'; allowed are numbers from 1 to"]),
        ("10,1\n20,-inf\n30,inf\n", ["repeat_factor: got line 3 '-inf', line 4 'inf'"]),
        ("10,1\n20,\n30,many\n", ["repeat_factor: got line 3 '', line 4 'many'"]),
        ("10,1\n21,0\n30,1\n", ["lists 1 image (ids 21)", "has no factor for 1 image (ids 20)", "line 3 '0'"]),
        ("10,1\n20.5,1\n30,1\n", ["line 3, image_id: got '20.5'; allowed is a whole number"]),
        ("10,1\n20\n30,1\n", ["line 3, repeat_factor: is missing"]),
        ("", ["has no factor for 3 images (ids 10, 20, 30)"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_each(load, rows, says):
    with pytest.raises(DataError) as error:
        load(f"image_id,repeat_factor\n{rows}")
    assert len(error.value.problems) == len(says)
    for line, text in zip(error.value.problems, says, strict=True):
        assert text in line
        assert "factors.csv: " in line


def test_other_columns(load):
    with pytest.raises(DataError, match="needed are 'image_id' and 'repeat_factor'"):
        load("image,factor\n1,1\n")


def test_what_the_command_writes_is_read(tmp_path):
    path = save(pool({1: [1], 2: [1, 2], 3: [1], 4: []}), tmp_path / "train.json")
    table = repeat_factor_table(path, 0.9)
    write_repeat_factors(tmp_path / "factors.csv", table)
    factors = load_factors(tmp_path / "factors.csv", read_annotations(path).image_ids)
    assert factors.tolist() == table.factors.tolist()
    assert (factors > 1).any()
