"""``benchmarks/features.py``: what is measured of an image, worked up to twelve epochs."""

import csv

import pytest
from click.testing import CliRunner


def test_epochs_are_worked_up_from_seconds_an_image():
    from features import worked_up

    sums = worked_up({"direct": 2.0, "making features": 3.0, "from features": 0.25})
    assert sums == {"direct": 24.0, "first": 6.0, "further": 3.0}


def test_a_rehearsal_measures_every_part_and_says_whether_what_is_promised_was_reached(tmp_path):
    import features

    done = CliRunner().invoke(
        features.main, ["--tiny", "--images", "4", "--steps", "1", "--out", str(tmp_path / "f.csv")]
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "f.csv").open(newline="") as handle:
        rows = {(row["what"], bool(row["ratio"])): row for row in csv.DictReader(handle)}
    assert [what for what, _ in rows] == [
        *("direct", "making features", "from features", "direct", "first", "further"),
    ]
    first, further = (float(rows[name, True]["ratio"]) for name in ("first", "further"))
    assert 0 < first < further
    making = float(rows["making features", False]["s_per_image"])
    each = float(rows["from features", False]["s_per_image"])
    assert float(rows["first", True]["s_of_12_epochs_per_image"]) == pytest.approx(making + 12 * each, rel=1e-2)
    assert [line.split(":")[0] for line in done.output.splitlines()[-2:]] == ["first", "further"]
