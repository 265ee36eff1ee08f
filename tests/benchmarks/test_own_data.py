"""``benchmarks/own_data.py``: README's lines on a few drawn images, with a small model and few steps."""

import csv
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from lt_data.synthetic.pool import write_pool


def rows(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_lines_are_those_of_readme():
    from own_data import lines_of_readme

    *commands, python = lines_of_readme(("seed=1",))
    assert [line.text.split()[:2] for line in commands] == [
        ["lt-data", "split"],
        ["lt-train", "init"],
        ["lt-train", "fit"],
        ["lt-train", "fit"],
    ]
    assert [line.words[-1] for line in commands] == ["data", "my.yaml", "seed=1", "seed=1"]
    assert python.words[-1].splitlines()[0] == "from lt_train import load"
    assert 'model.predict("street.jpg")' in python.text


@pytest.mark.slow
def test_a_row_for_each_line(tmp_path, monkeypatch):
    from own_data import main

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pool = tmp_path / "pool"
    write_pool(pool, images=16, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    given = ["--annotations", pool / "annotations.json", "--images", pool / "images", "--out", tmp_path / "own.csv"]
    given = [*map(str, given), "--folder", str(tmp_path / "own")]
    tiny = ("model.name=faster_rcnn_small", "model.weights=none", "model.min_size=64", "model.max_size=64")
    tiny = (*tiny, "schedule.iterations=2", "schedule.decay=[]", "trackers=[]")
    # a second stage of a model without weights is refused only where no run is given
    done = CliRunner().invoke(main, [*given, *tiny])
    assert done.exit_code == 0, done.output
    first = rows(tmp_path / "own.csv")
    assert len(first) == 5
    assert {row["images"] for row in first} == {"16"}
    assert all(float(row["processor_s"]) > 0 for row in first)
    assert [bool(row["box_ap"]) for row in first] == [False, False, True, True, False]
    with Image.open(tmp_path / "own" / "seen.png") as picture:
        assert picture.width >= 520
    # one line again
    shutil.rmtree(tmp_path / "own" / "runs" / "bags")
    assert CliRunner().invoke(main, [*given, *tiny, "--only", "method=bags"]).exit_code == 0
    again = rows(tmp_path / "own.csv")
    assert [row["line"] for row in again] == [row["line"] for row in first]
    assert [old == new for old, new in zip(first, again, strict=True)].count(False) <= 1


def test_a_line_that_fails_ends_it(tmp_path):
    import sys

    from own_data import Line, run

    with pytest.raises(SystemExit, match="ended with 3: a line"):
        run(Line("a line", (sys.executable, "-c", "raise SystemExit(3)")), tmp_path)
