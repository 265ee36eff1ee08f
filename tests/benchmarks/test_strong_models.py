"""``benchmarks/strong_models.py``: its rehearsal, and that its cases are models that there are."""

import csv

import pytest
from click.testing import CliRunner

from lt_train.detectors.table import check_dcn, named_detector


@pytest.mark.slow
def test_the_rehearsal_measures_each_job(tmp_path):
    from strong_models import main

    done = CliRunner().invoke(main, ["--tiny", "--turns", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "strong_models_cpu.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["model"], row["job"]) for row in rows] == [
        (model, job)
        for model in ("cascade_rcnn_small", "htc_small")
        for job in ("detect", "classifier", "all")
    ]  # fmt: skip
    assert all(float(row["s_per_image"]) > 0 and not row["peak_mib"] for row in rows)
    assert "--tiny needs --out" in CliRunner().invoke(main, ["--tiny"]).output


def test_its_cases_are_detectors():
    from strong_models import CASES

    for case in CASES:
        check_dcn(case.name, case.dcn)
        assert case.semantic == "none" or "semantic" in named_detector(case.name).family.options
