"""``benchmarks/features.py``: what is measured of an image, worked up to twelve epochs."""

import csv

import pytest
from click.testing import CliRunner

from tests.lt_train.commands import in_this_process


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


@pytest.mark.slow
def test_a_rehearsal_of_figures_has_a_row_for_each_way_and_pool(tmp_path, monkeypatch):
    import features_ap

    before = features_ap.RESULTS.read_bytes() if features_ap.RESULTS.exists() else None
    monkeypatch.setattr(features_ap, "own_commands", lambda jobs: in_this_process)
    done = CliRunner().invoke(features_ap.main, ["--tiny", "--seeds", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "tiny" / "features_ap.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["run"] for row in rows] == ["softmax", "direct", *(f"pool-{n}" for n in features_ap.POOLS)]
    assert all(0 <= float(row["AP"]) <= 100 for row in rows)
    # nothing was written where figures are recorded
    assert (features_ap.RESULTS.read_bytes() if features_ap.RESULTS.exists() else None) == before
